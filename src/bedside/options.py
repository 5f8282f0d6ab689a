"""Settings of a run: how images are read, how networks run, what is written.

Imports nothing heavy, for a fast `--help`.
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
        precision: "f32", "bf16", "int8", "auto" for the fastest certified one on this machine, or
            "default" to choose without timing.
        threads: Threads of the runtime; None for every core this process may use.
        max_bytes: Limit of the resident memory of the process; None for no limit.
        force: Accept images of another modality than the bundle's, or refused by its gate.
        gate: What happens to images that look unlike those the network was trained on.
    """

    backend: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    max_bytes: int | None = None
    force: bool = False
    gate: Literal["refuse", "warn", "off"] = "warn"


@dataclass(frozen=True)
class OutputOptions:
    """Which results are written.

    Attributes:
        labels_format: Format of the mask; "auto" for that of the source.
        with_probabilities: Whether the probability of each class is written too.
        with_sr: Whether measurements are written as a DICOM SR beside a DICOM SEG.
        with_report: Whether report.json and report.html are written too.
        with_cost: Whether the reports hold time and memory, which differ from run to run.
        moment: Date and time of a DICOM SEG.
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
