"""Settings of the data way, parsed once: how networks run and what is written.

Light on purpose: the command line imports it to answer `--help`.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from bedside.io.read_options import ReadOptions

Moment = datetime | Literal["now", "source"]
"""The time that a DICOM SEG states; see `bedside.io.source.Algorithm`."""


@dataclass(frozen=True)
class RunOptions:
    """How a network runs.

    Attributes:
        backend: Name of a runtime, or "auto".
        precision: "f32", "bf16", "int8", "auto" for what is the fastest here, or "default" for
            what is the fastest as a rule, without timing anything.
        threads: Threads of the runtime; None for every core this process may use.
        max_bytes: Resident memory that the process must not exceed; None for no ceiling.
        force: Go on where the image is of another kind than the bundle's.
    """

    backend: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    max_bytes: int | None = None
    force: bool = False


@dataclass(frozen=True)
class OutputOptions:
    """What is written of a result.

    Attributes:
        labels_format: Format of the mask; "auto" for the source's own kind.
        with_probabilities: Whether the probability of each class is written too.
        with_sr: Whether measurements are written as a DICOM SR beside a DICOM SEG.
        with_report: Whether report.json and report.html are written too.
        with_cost: Whether the reports hold time and memory, which differ from run to run.
        moment: The time that a DICOM SEG states.
    """

    labels_format: str = "auto"
    with_probabilities: bool = False
    with_sr: bool = False
    with_report: bool = True
    with_cost: bool = True
    moment: Moment = "now"


@dataclass(frozen=True)
class Options:
    """All settings of a run.

    Attributes:
        read: How files are opened.
        run: How the network runs.
        output: What is written.
    """

    read: ReadOptions = field(default_factory=ReadOptions)
    run: RunOptions = field(default_factory=RunOptions)
    output: OutputOptions = field(default_factory=OutputOptions)
