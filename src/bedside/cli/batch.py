"""Many cases of `bedside segment`: a progress bar, then a table or JSON."""

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedside.batch.bucket import Bucket
from bedside.batch.manifest import Case, name_cases, read_manifest, read_shard, take_shard
from bedside.batch.record import STATUSES, Record
from bedside.batch.run import plan_batch, run_batch
from bedside.batch.worker_pool import Processes, WorkerPool
from bedside.cli.bundles import choose_bundle, choose_keys
from bedside.cli.console import case_progress, group_warnings, print_err, print_out, table
from bedside.cli.segment_settings import Settings, read_options
from bedside.errors import BedsideError, FormatError, UsageError
from bedside.io.read_options import ReadOptions
from bedside.options import Moment, Options
from bedside.report.folder import check_apart
from bedside.report.measurement_table import write_csv
from bedside.system.atomic import output_folder
from bedside.system.store_url import store_url

if TYPE_CHECKING:
    from bedside.bundle import Bundle

_BAD_INPUT = 3
# Memory of the parent process, with numpy and the names of many cases.
_LEADER_BYTES = 100 * 2**20


def segment_batch(settings: Settings) -> int:
    """Segment the cases of a manifest or of folders by worker processes.

    Returns:
        0, or 3 if a case was refused or failed.

    Raises:
        UsageError: If an option has no meaning, or the output holds other results already.
        FormatError: If the manifest or the folder is refused.
        BundleError: If a bundle is refused.
        BackendError: If the runtime, or Ray, is not installed.
        WorkerError: If no worker gets as far as its first case.
    """
    _check_options(settings)
    shard = None if settings.shard is None else read_shard(settings.shard)
    parsed = read_options(settings)
    options = _share_memory(settings, parsed)
    cases, skipped = _list_cases(settings, parsed.read)
    if shard is not None:
        cases = take_shard(cases, *shard)
    with _hide_names(settings, cases), _open_output(settings.output) as (output, bucket):
        plan = plan_batch(
            cases,
            output,
            model=_default_model(settings, cases),
            options=options,
            resume=settings.resume,
            shard=shard,
            open_bundle=_bundle_opener(settings),
            bucket=bucket,
        )
        with case_progress(len(plan.jobs), done=len(plan.kept)) as on_record:
            records = run_batch(
                plan, _open_pool(settings), size=settings.jobs, timeout_s=settings.timeout,
                on_record=lambda record: on_record(record.status),
            )  # fmt: skip
    if settings.csv is not None:
        write_csv(settings.csv, [(record.id, record.measurements) for record in records])
    listing = f"{plan.outputs}/{plan.listing.name}"
    if settings.json:
        _describe_json(records, listing, skipped)
    else:
        if not settings.no_names:
            _describe_cases(records, skipped)
        _describe_counts(records, listing, kept=len(plan.kept))
    return 0 if all(record.status == "done" for record in records) else _BAD_INPUT


@contextlib.contextmanager
def _open_output(path: Path) -> Iterator[tuple[Path, Bucket | None]]:
    """Yield the folder of a batch; if the results go into a store, a temporary one and the store.

    Raises:
        OutputError: If the folder cannot be made or written to.
    """
    if (url := store_url(path)) is not None:
        with tempfile.TemporaryDirectory(prefix="bedside-", ignore_cleanup_errors=True) as place:
            yield Path(place), Bucket(url)
        return
    output = Path(os.path.realpath(path))
    with output_folder(output):
        yield output, None


def _share_memory(settings: Settings, options: Options) -> Options:
    """Divide memory and cores among the workers; the parent process holds no voxels.

    The same ceiling gives the same parts in every run: results depend on them. What differs
    from run to run is kept out of the results.
    """
    ceiling = options.run.max_bytes
    if ceiling is not None:
        ceiling = max(0, ceiling - _LEADER_BYTES) // settings.jobs
    untrusted = options.read.untrusted
    if untrusted is not None:
        untrusted = replace(untrusted, ceiling_bytes=ceiling)
    return Options(
        read=replace(options.read, untrusted=untrusted),
        run=replace(options.run, max_bytes=ceiling, threads=_threads(settings)),
        output=replace(options.output, with_cost=False, moment=read_epoch()),
    )


def read_epoch() -> Moment:
    """The time that DICOM files state: SOURCE_DATE_EPOCH if set, else the time of each image.

    Raises:
        UsageError: If the variable is not a number of seconds since 1970.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return "source"
    try:
        return datetime.fromtimestamp(int(text), tz=UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(
            f'SOURCE_DATE_EPOCH is "{text}"; expected seconds since 1970, or unset it.'
        ) from error


def _check_options(settings: Settings) -> None:
    """Refuse options that have no meaning, alone or together."""
    if settings.manifest is not None and settings.sources:
        raise UsageError("name a source or a --manifest, not both.")
    if settings.channels:
        raise UsageError('--channels goes with one scan; in a manifest write "channels": [...].')
    if settings.jobs < 1:
        raise UsageError(f"--jobs is {settings.jobs}; expected at least 1.")
    if settings.threads is not None and settings.threads < 1:
        raise UsageError(f"--threads is {settings.threads}; expected at least 1.")
    if settings.no_names and settings.json:
        raise UsageError("--json prints every case; it does not go with --no-names.")
    if settings.timeout is not None and not 0 < settings.timeout < 1e9:
        raise UsageError(f"--timeout is {settings.timeout}; expected seconds, above 0.")


def _list_cases(settings: Settings, read: ReadOptions) -> tuple[tuple[Case, ...], tuple[str, ...]]:
    """All cases, and what was skipped."""
    if settings.manifest is not None:
        return _read_manifest(settings.manifest, with_names=not settings.no_names), ()
    if not settings.sources or (len(settings.sources) == 1 and not settings.sources[0].is_dir()):
        raise UsageError(
            "--jobs, --shard, --resume, --timeout, --ray and -o s3://... go with a folder or a "
            "--manifest, or with several images."
        )
    sources = tuple(Path(os.path.realpath(source)) for source in settings.sources)
    cases, skipped, notes = find_cases(sources, settings.output, read)
    for note in notes:
        print_err(note)
    return cases, skipped


@contextlib.contextmanager
def _hide_names(settings: Settings, cases: Sequence[Case]) -> Iterator[None]:
    """Replace ids and paths in an error by the number of the case, if names may not be printed."""
    try:
        yield
    except BedsideError as error:
        if not settings.no_names:
            raise
        text = str(error)
        for number, case in enumerate(cases, start=1):
            for name in (case.name, case.id):
                text = text.replace(name, f"case {number}")
        raise type(error)(text) from None


def _read_manifest(path: Path, *, with_names: bool) -> tuple[Case, ...]:
    """Read the manifest; an error quotes its line only if names may be printed."""
    try:
        return read_manifest(path if store_url(path) else path.absolute())
    except FormatError as error:
        line = re.search(r", line \d+(?=:)", str(error))
        if with_names or line is None:
            raise
        raise FormatError(
            f"the manifest{line[0]}, does not fit. Without --no-names the reason is printed."
        ) from None


def find_cases(
    sources: Sequence[Path], output: Path, read: ReadOptions
) -> tuple[tuple[Case, ...], tuple[str, ...], tuple[str, ...]]:
    """List the images of files and folders, each with a name of its own.

    Args:
        sources: Files and folders; an image that is found twice is one case.
        output: Folder of all results; what lies in it is no image.
        read: How files are opened.

    Returns:
        The cases, what was skipped, and notes for a person.

    Raises:
        FormatError: If one is not there, or a folder has no image.
        UsageError: If results would take the place of an image.
    """
    if len(sources) > 1:
        sources = tuple(Path(os.path.realpath(source)) for source in sources)
    found = []
    for source in sources:
        check_apart(source, output)
        found.append(read.find(source).outside(output))
    folders = [source if source.is_dir() else source.parent for source in sources]
    root = sources[0] if len(sources) == 1 else Path(os.path.commonpath(folders))
    paths = tuple(dict.fromkeys(path for each in found for path in each.paths))
    files = {path: several for each in found for path, several in each.files.items()}
    named = name_cases([_make_absolute(path) for path in paths], _make_absolute(root))
    return (
        tuple(
            replace(case, source=path, files=files.get(path, ()))
            for case, path in zip(named, paths, strict=True)
        ),
        tuple(dict.fromkeys(text for each in found for text in each.skipped)),
        tuple(dict.fromkeys(text for each in found for text in each.notes)),
    )


def _make_absolute(path: Path) -> Path:
    """The absolute path, with links kept; the series in "." has an absolute path too."""
    return Path(os.path.abspath(path))


def _default_model(settings: Settings, cases: Sequence[Case]) -> Path | None:
    """The bundle of the cases that name none."""
    if settings.model is None and all(case.model is not None for case in cases):
        return None
    return choose_bundle(settings.model)


def _bundle_opener(settings: Settings) -> Callable[[str], "Bundle"]:
    """A function that finds and reads bundles by name, and checks signatures if required."""
    from bedside.bundle import find_bundle, read_bundle

    keys = choose_keys(settings.trusted_keys, require_signed=settings.require_signed)
    return lambda name: read_bundle(find_bundle(name, on_notice=print_err), trusted=keys)


def _threads(settings: Settings) -> int:
    """Threads of each worker: its share of the available cores."""
    from bedside.runtime.session import MAX_DEFAULT_THREADS, count_cores

    shared = count_cores() // settings.jobs
    return settings.threads or max(1, min(shared, MAX_DEFAULT_THREADS))


def _open_pool(settings: Settings) -> WorkerPool:
    """The pool of workers: processes of this machine, or a Ray cluster."""
    if settings.ray is None:
        return Processes()
    from bedside.batch.ray import connect

    return connect(settings.ray)


def _describe_json(records: Sequence[Record], listing: str, skipped: Sequence[str]) -> None:
    from bedside.report.record import to_json
    from bedside.spec.reading import to_mapping

    mapping: dict[str, Any] = {
        "results": listing,
        "counts": _count(records),
        "cases": [to_mapping(record) for record in records],
        "skipped": list(skipped),
    }
    print_out(to_json(mapping))


def _describe_cases(records: Sequence[Record], skipped: Sequence[str]) -> None:
    """Print every case that is not done, what was skipped, and warnings."""
    for record in records:
        if record.error is not None:
            print_out(f"{record.status.capitalize()}: {record.id}: {record.error.message}")
    for text in skipped:
        print_out(f"Skipped: {text}")
    for line in group_warnings([(record.id, text) for record in records
                                for text in record.warnings]):  # fmt: skip
        print_out(line)


def _describe_counts(records: Sequence[Record], listing: str, *, kept: int) -> None:
    """Print a table of the outcomes, which names no case."""
    from bedside.spec import DISCLAIMER

    rows = [("cases", "number", "median s", "longest s")]
    for status in STATUSES:
        seconds = sorted(record.seconds for record in records if record.status == status)
        if seconds:
            middle, longest = seconds[len(seconds) // 2], seconds[-1]
            rows.append((status, str(len(seconds)), f"{middle:.2f}", f"{longest:.2f}"))
    for line in table(rows):
        print_out(line)
    before = f", {kept} of them by an earlier run" if kept else ""
    print_out(f"{len(records)} cases{before}: {listing}")
    print_out(DISCLAIMER)


def _count(records: Sequence[Record]) -> dict[str, int]:
    return {status: sum(record.status == status for record in records) for status in STATUSES}
