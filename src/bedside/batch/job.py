"""One case, given as paths: read, segmented, written and recorded.

`run_job` is the only function that workers call, wherever they run; no voxels enter or leave it.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedside.batch.bucket import Bucket
from bedside.batch.manifest import Case
from bedside.batch.object_store import describe_object, fetch
from bedside.batch.outputs import Folder, Outputs
from bedside.batch.record import (
    Basis,
    Fault,
    InputFact,
    Record,
    Status,
    begin_part,
    input_fact,
    list_files,
)
from bedside.errors import BackendError, BedsideError, BundleError, FormatError, OutputError
from bedside.io.read_options import ReadOptions
from bedside.options import Options, RunOptions
from bedside.report.measurement_table import measurement_rows
from bedside.version import __version__

if TYPE_CHECKING:
    from bedside.report.results import SavedResult
    from bedside.segment import Model


_FETCHED = "fetched"


@dataclass(frozen=True)
class Job:
    """A case, with all that a worker needs to run it.

    Attributes:
        case: The image.
        bundle: File of its bundle.
        bundle_sha256: Expected hash of that file.
        output: Folder of the whole batch; of work in progress only, if there is a bucket.
        options: How the file is read, the network runs, and what is written.
        attempt: How many workers have started it, including this one.
        bucket: Where results go in a store; None if they stay in the folder.
    """

    case: Case
    bundle: Path
    bundle_sha256: str
    output: Path
    options: Options
    attempt: int = 1
    bucket: Bucket | None = None

    @property
    def outputs(self) -> Outputs:
        """Where results and records go."""
        return self.bucket or Folder(self.output)

    def basis(self) -> Basis:
        """The inputs and settings of the results, from the files as they are now.

        Raises:
            FormatError: If the source or a channel does not exist.
        """
        if self.case.urls:
            return self._basis(tuple(map(describe_object, self.case.urls)))
        source = input_fact(self.case.source, self.case.files)
        return self._basis((source, *map(input_fact, self.case.channels)))

    def finish(
        self,
        status: Status,
        *,
        begun: float,
        error: Exception | None = None,
        done: "SavedResult | None" = None,
        basis: Basis | None = None,
    ) -> Record:
        """The record of this case.

        Args:
            status: Its outcome.
            begun: Start time, from `time.monotonic`.
            error: The reason if it is not done.
            done: Its results, if it is.
            basis: Their inputs and settings; None if unknown.
        """
        return Record(
            id=self.case.id,
            source=self.case.name,
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
        # Listed only if set, so that records of earlier versions stay valid.
        added = {
            "probabilities": "true" if output.with_probabilities else "",
            "pixel_spacing": " ".join(map(str, read.pixel_spacing_mm or ())),
            "gate": "" if run.gate == "warn" else run.gate,
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
    """The record of a job that is already done with this bundle, these files and these settings.

    Returns:
        The record; None if the case must run (again).
    """
    record = job.outputs.read_record(job.case.id)
    if record is None or not job.outputs.is_whole(record):
        return None
    try:
        return record if record.basis == job.basis() else None
    except FormatError:
        return None


class Loader:
    """Loads each bundle once and keeps a few, since each holds the memory of its network."""

    _MOST = 4

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, RunOptions], Model] = {}

    def load(self, job: Job) -> "Model":
        """The bundle of a job, ready to run.

        Raises:
            BundleError: If the file has changed since the batch began.
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
                # All workers must run the same precision, or their results would differ.
                options = replace(options, precision="default")
            model = Model.open(bundle, options)
            while len(self._loaded) >= self._MOST:
                self._loaded.pop(next(iter(self._loaded))).close()
            self._loaded[key] = model
        return self._loaded[key]


def run_job(job: Job, load: "Callable[[Job], Model]") -> Record:
    """Run one case and record the outcome.

    Args:
        job: The case.
        load: Returns its bundle, ready to run.

    Returns:
        The record, which is also on disk.

    Raises:
        BackendError: If the runtime is missing, so that no case can run.
        OutputError: If results cannot be written, which affects all cases.
    """
    begun = time.monotonic()
    basis = None
    part = begin_part(job.output, job.case.id)
    try:
        basis = job.basis()
        done = _segment(job, load(job), part)
        record = job.finish("done", begun=begun, done=done, basis=basis)
        job.outputs.commit(record, done.folder)
    except (BackendError, OutputError):
        raise
    except BedsideError as error:
        record = job.finish("refused", begun=begun, error=_rename(error, job, part), basis=basis)
        job.outputs.commit(record)
    except Exception as error:  # noqa: BLE001 - one case must not stop the others
        record = job.finish("failed", begun=begun, error=error, basis=basis)
        job.outputs.commit(record)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return record


def _segment(job: Job, model: "Model", part: Path) -> "SavedResult":
    """Segment the case into a temporary folder."""
    from bedside.io.channels import join_channels
    from bedside.segment import segment_file

    case, read = _fetch(job.case, part), job.read
    first = read.open(case.source, files=case.files)
    source = join_channels([first, *map(read.open, case.channels)])
    return segment_file(model, source, part / "results", job.options.output)


def _fetch(case: Case, part: Path) -> Case:
    """Copy what is in a store into a temporary folder; channels may have the source's name."""
    if not case.urls:
        return case
    paths = [fetch(url, part / _FETCHED / str(at)) for at, url in enumerate(case.urls)]
    return replace(case, source=paths[0], channels=tuple(paths[1:]))


def _rename(error: BedsideError, job: Job, part: Path) -> BedsideError:
    """The error with the URLs of what was fetched, in place of paths that are gone."""
    text = str(error)
    for at, url in enumerate(job.case.urls):
        text = text.replace(str(part / _FETCHED / str(at)), url.rstrip("/").rpartition("/")[0])
    return type(error)(text) if text != str(error) else error


def _read_cost(saved: "SavedResult") -> dict[str, Any]:
    """Time and memory of a case, without the start-up time, which is the worker's."""
    from bedside.report.record import COST_KEYS, report_mapping

    mapping = report_mapping(saved.report)
    keys = {"frames", "backend", "precision", *COST_KEYS} - {"startup_ms"}
    return {key: mapping[key] for key in mapping if key in keys}
