"""One case, given as paths: read, segment, write, and put on record.

The only function that workers call, wherever they run; no voxel enters or leaves it.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bedside import __version__
from bedside.batch.case import Finished, Loaded, OutputOptions, segment_case
from bedside.batch.manifest import Case
from bedside.batch.record import (
    Basis,
    Fault,
    InputFact,
    Record,
    Status,
    begin_part,
    commit_record,
    is_whole,
    list_files,
    look_at,
    read_record,
)
from bedside.errors import BackendError, BedsideError, BundleError, FormatError, OutputError
from bedside.io.read_options import ReadOptions


@dataclass(frozen=True)
class Runtime:
    """How networks are run.

    Attributes:
        backend: Name of a runtime, or "auto".
        precision: "f32", "bf16", "int8", or "auto".
        threads: Threads of one worker.
    """

    backend: str
    precision: str
    threads: int


@dataclass(frozen=True)
class Job:
    """A case, and all that a worker must know to do it.

    Attributes:
        case: The image.
        bundle: File of its bundle.
        bundle_sha256: What that file must be.
        output: Folder of the whole batch.
        choices: What the results depend on.
        runtime: How the network is run.
        attempt: How many workers have begun it, this one included.
    """

    case: Case
    bundle: Path
    bundle_sha256: str
    output: Path
    choices: OutputOptions
    runtime: Runtime
    attempt: int = 1

    def basis(self) -> Basis:
        """Tell what the results come from, as the files are now.

        Raises:
            FormatError: If the source or a channel is not there.
        """
        source = look_at(self.case.source, self.case.files)
        return self._basis((source, *map(look_at, self.case.channels)))

    def finish(
        self,
        status: Status,
        *,
        begun: float,
        error: Exception | None = None,
        done: "_Done | None" = None,
        basis: Basis | None = None,
    ) -> Record:
        """Make the record of this case.

        Args:
            status: What became of it.
            begun: When it was begun, as `time.monotonic` tells it.
            error: Why it is not done.
            done: Its results, if it is.
            basis: What they come from; None if that is not known.
        """
        return Record(
            id=self.case.id,
            source=str(self.case.source),
            status=status,
            error=None if error is None else Fault(type(error).__name__, str(error)),
            seconds=round(time.monotonic() - begun, 3),
            attempts=self.attempt,
            files=() if done is None else list_files(done.finished.folder),
            basis=basis or self._basis(()),
            cost=None if done is None else done.cost,
            finished=datetime.now(tz=UTC).isoformat(timespec="seconds"),
            warnings=() if done is None else done.finished.report.warnings,
        )

    @property
    def reading(self) -> ReadOptions:
        """How this case is opened."""
        reading = self.choices.reading
        return replace(reading, third_axis=self.case.third_axis or reading.third_axis)

    def _basis(self, inputs: tuple[InputFact, ...]) -> Basis:
        choices, moment = self.choices, self.choices.moment
        return Basis(
            inputs=inputs,
            bundle_sha256=self.bundle_sha256,
            settings={
                "format": choices.labels_format,
                "select": " ".join(f"{axis}={place}" for axis, place in choices.reading.select),
                "third_axis": self.reading.third_axis,
                "gaps": choices.reading.dicom.gaps,
                "values_are_hu": str(choices.reading.dicom.values_are_hu).lower(),
                "force": str(choices.force).lower(),
                "sr": str(choices.with_sr).lower(),
                "report": str(choices.with_report).lower(),
                "max_bytes": str(choices.max_bytes),
                "moment": moment if isinstance(moment, str) else moment.isoformat(),
                "backend": self.runtime.backend,
                "precision": self.runtime.precision,
            },
            bedside_version=__version__,
        )


def find_done(job: Job) -> Record | None:
    """Find the record of a job that has been done, with this bundle, on these files, just so.

    Returns:
        The record; None if the case is to be done (again).
    """
    record = read_record(job.output, job.case.id)
    if record is None or not is_whole(record, job.output):
        return None
    try:
        return record if record.basis == job.basis() else None
    except FormatError:
        return None


@dataclass(frozen=True)
class _Done:
    """Results in a folder where nobody looks yet, and what they cost."""

    finished: Finished
    cost: dict[str, Any] = field(default_factory=dict)


class Loader:
    """Loads each bundle once.

    Few are kept, because each holds the memory of its network.
    """

    _MOST = 4

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, Runtime], Loaded] = {}

    def load(self, job: Job) -> Loaded:
        """Return the bundle of a job, ready to run.

        Raises:
            BundleError: If it is no longer the file that it was when the batch began.
            BackendError: If the runtime is not installed.
        """
        from bedside.bundle import read_bundle
        from bedside.segment import open_segmenter

        key = (job.bundle_sha256, job.runtime)
        if key not in self._loaded:
            bundle = read_bundle(job.bundle)
            if bundle.sha256 != job.bundle_sha256:
                raise BundleError(
                    f"{job.bundle} has changed since the batch began. Begin again with the "
                    "new bundle, in another folder."
                )
            runtime = job.runtime
            segmenter = open_segmenter(
                bundle,
                backend=runtime.backend,
                # Workers must not differ in what they find the fastest, or results would.
                precision="default" if runtime.precision == "auto" else runtime.precision,
                threads=runtime.threads,
            )
            while len(self._loaded) >= self._MOST:
                self._loaded.pop(next(iter(self._loaded)))
            self._loaded[key] = Loaded(bundle, segmenter)
        return self._loaded[key]


def do_job(job: Job, load: Callable[[Job], Loaded]) -> Record:
    """Do one case, and put on record what became of it.

    Args:
        job: The case.
        load: Gives its bundle, ready to run.

    Returns:
        The record, which is on disk as well.

    Raises:
        BackendError: If no case can be done for want of a runtime.
        OutputError: If results cannot be written; then those of other cases cannot either.
    """
    begun = time.monotonic()
    basis = None
    part = begin_part(job.output, job.case.id)
    try:
        basis = job.basis()
        done = _segment(job, load(job), part / "results")
        record = job.finish("done", begun=begun, done=done, basis=basis)
        commit_record(record, job.output, done.finished.folder)
    except (BackendError, OutputError):
        raise
    except BedsideError as error:
        record = job.finish("refused", begun=begun, error=error, basis=basis)
        commit_record(record, job.output)
    except Exception as error:  # noqa: BLE001 - one case never stops the others
        record = job.finish("failed", begun=begun, error=error, basis=basis)
        commit_record(record, job.output)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return record


def _segment(job: Job, loaded: Loaded, folder: Path) -> _Done:
    """Segment the case into a folder where nobody looks yet."""
    from bedside.io.channels import join_channels
    from bedside.report.record import COST_KEYS, report_mapping

    case, reading = job.case, job.reading
    first = reading.open(case.source, files=case.files)
    source = join_channels([first, *map(reading.open, case.channels)])
    finished = segment_case(loaded, source, folder, choices=job.choices)
    told = report_mapping(finished.report)
    # The start was that of the worker, not of this case.
    keys = {"frames", "backend", "precision", *COST_KEYS} - {"startup_ms"}
    return _Done(finished, {key: told[key] for key in told if key in keys})
