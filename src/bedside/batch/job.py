"""One case, given as paths: read, segment, write, and put on record.

The only function that workers call, wherever they run; no voxel enters or leaves it.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from bedside.options import Options, RunOptions
from bedside.report.measurement_table import measurement_rows
from bedside.version import __version__

if TYPE_CHECKING:
    from bedside.report.results import SavedResult
    from bedside.segment import Model


@dataclass(frozen=True)
class Job:
    """A case, and all that a worker must know to do it.

    Attributes:
        case: The image.
        bundle: File of its bundle.
        bundle_sha256: What that file must be.
        output: Folder of the whole batch.
        options: How the file is read, the network runs, and what is written.
        attempt: How many workers have begun it, this one included.
    """

    case: Case
    bundle: Path
    bundle_sha256: str
    output: Path
    options: Options
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
        done: "SavedResult | None" = None,
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
            files=() if done is None else list_files(done.folder),
            basis=basis or self._basis(()),
            cost=None if done is None else _read_cost(done),
            finished=datetime.now(tz=UTC).isoformat(timespec="seconds"),
            warnings=() if done is None else done.report.warnings,
            measurements=() if done is None else measurement_rows(done.report),
        )

    @property
    def threads(self) -> int:
        """Threads of one worker."""
        return self.options.run.threads or 1

    @property
    def read(self) -> ReadOptions:
        """How this case is opened."""
        read, case = self.options.read, self.case
        return replace(
            read,
            third_axis=case.third_axis or read.third_axis,
            pixel_spacing_mm=case.pixel_spacing_mm or read.pixel_spacing_mm,
        )

    def _basis(self, inputs: tuple[InputFact, ...]) -> Basis:
        read, run, output = self.read, self.options.run, self.options.output
        moment = output.moment
        # Named only where they are asked for, so that earlier records still hold.
        added = {
            "probabilities": "true" if output.with_probabilities else "",
            "pixel_spacing": " ".join(map(str, read.pixel_spacing_mm or ())),
        }
        return Basis(
            inputs=inputs,
            bundle_sha256=self.bundle_sha256,
            settings={
                "format": output.labels_format,
                "select": " ".join(f"{axis}={place}" for axis, place in read.select),
                "third_axis": read.third_axis,
                "gaps": read.dicom.gaps,
                "values_are_hu": str(read.dicom.values_are_hu).lower(),
                "force": str(run.force).lower(),
                "sr": str(output.with_sr).lower(),
                "report": str(output.with_report).lower(),
                "max_bytes": str(run.max_bytes),
                "moment": moment if isinstance(moment, str) else moment.isoformat(),
                "backend": run.backend,
                "precision": run.precision,
                **{name: text for name, text in added.items() if text},
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


class Loader:
    """Loads each bundle once.

    Few are kept, because each holds the memory of its network.
    """

    _MOST = 4

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, RunOptions], Model] = {}

    def load(self, job: Job) -> "Model":
        """The bundle of a job, ready to run.

        Raises:
            BundleError: If it is no longer the file that it was when the batch began.
            BackendError: If the runtime is not installed.
        """
        from bedside.bundle import read_bundle
        from bedside.segment import Model

        options = job.options.run
        key = (job.bundle_sha256, options)
        if key not in self._loaded:
            bundle = read_bundle(job.bundle)
            if bundle.sha256 != job.bundle_sha256:
                raise BundleError(
                    f"{job.bundle} has changed since the batch began. Begin again with the "
                    "new bundle, in another folder."
                )
            if options.precision == "auto":
                # Workers must not differ in what they find the fastest, or results would.
                options = replace(options, precision="default")
            model = Model.open(bundle, options)
            while len(self._loaded) >= self._MOST:
                self._loaded.pop(next(iter(self._loaded))).close()
            self._loaded[key] = model
        return self._loaded[key]


def do_job(job: Job, load: "Callable[[Job], Model]") -> Record:
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
        commit_record(record, job.output, done.folder)
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


def _segment(job: Job, model: "Model", folder: Path) -> "SavedResult":
    """Segment the case into a folder where nobody looks yet."""
    from bedside.io.channels import join_channels
    from bedside.segment import segment_file

    case, read = job.case, job.read
    first = read.open(case.source, files=case.files)
    source = join_channels([first, *map(read.open, case.channels)])
    return segment_file(model, source, folder, job.options.output)


def _read_cost(saved: "SavedResult") -> dict[str, Any]:
    """Time and memory of a case; the start was that of the worker, and is left out."""
    from bedside.report.record import COST_KEYS, report_mapping

    told = report_mapping(saved.report)
    keys = {"frames", "backend", "precision", *COST_KEYS} - {"startup_ms"}
    return {key: told[key] for key in told if key in keys}
