"""Many cases for `bedside segment`: settings in; a bar, a table, or JSON out."""

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedside.batch.case import Moment, OutputOptions
from bedside.batch.job import Runtime
from bedside.batch.manifest import Case, name_cases, read_manifest, read_shard, take_shard
from bedside.batch.record import STATUSES, Record
from bedside.batch.results import check_apart, results_folder
from bedside.batch.run import plan_batch, run_batch
from bedside.batch.worker_pool import Processes, WorkerPool
from bedside.cli.amounts import parse_bytes
from bedside.cli.bundles import choose_bundle, choose_keys
from bedside.cli.console import case_progress, group_warnings, print_err, print_out, table
from bedside.errors import UsageError

if TYPE_CHECKING:
    from bedside.bundle import Bundle
    from bedside.cli.segment import Settings

_BAD_INPUT = 3
# What the leading process takes, with numpy and the names of many cases.
_LEADER_BYTES = 100 * 2**20


def is_batch(settings: "Settings") -> bool:
    """Whether workers are to do it, and not this process."""
    asked = (settings.manifest, settings.shard, settings.ray, settings.timeout)
    return settings.jobs != 1 or settings.resume or any(value is not None for value in asked)


def segment_batch(settings: "Settings") -> int:
    """Segment the cases of a manifest or a folder, each by one of several workers.

    Returns:
        0, or 3 if a case was refused or failed.

    Raises:
        UsageError: If an option has no meaning, or the output holds other results already.
        FormatError: If the manifest or the folder is refused.
        BundleError: If a bundle is refused.
        BackendError: If the runtime, or Ray, is not installed.
        WorkerError: If no worker gets as far as its first case.
    """
    from bedside.cli.segment import read_reading

    _check_options(settings)
    shard = None if settings.shard is None else read_shard(settings.shard)
    cases, skipped = _list_cases(settings)
    if shard is not None:
        cases = take_shard(cases, *shard)
    output = Path(os.path.realpath(settings.output))
    with results_folder(output):
        plan = plan_batch(
            cases,
            output,
            model=_default_model(settings, cases),
            choices=OutputOptions(
                settings.format,
                read_reading(settings, max_bytes=_ceiling(settings)),
                force=settings.force,
                with_sr=settings.sr,
                with_report=not settings.no_report,
                with_cost=False,
                moment=read_epoch(),
                max_bytes=_ceiling(settings),
            ),
            runtime=Runtime(settings.backend, settings.precision, _threads(settings)),
            resume=settings.resume,
            shard=shard,
            open_bundle=_bundle_opener(settings),
        )
        with case_progress(len(plan.jobs), done=len(plan.kept)) as on_record:
            records = run_batch(
                plan, _crew(settings), size=settings.jobs, deadline_s=settings.timeout,
                on_record=lambda record: on_record(record.status),
            )  # fmt: skip
    if settings.json:
        _describe_json(records, plan.listing, skipped)
    else:
        _describe_records(records, plan.listing, skipped, kept=len(plan.kept))
    return 0 if all(record.status == "done" for record in records) else _BAD_INPUT


def _ceiling(settings: "Settings") -> int | None:
    """Return each worker its part of the memory; the process that leads them holds no voxels.

    The same ceiling gives the same parts in every run: results depend on them.
    """
    if settings.max_ram is None:
        return None
    return max(0, parse_bytes(settings.max_ram) - _LEADER_BYTES) // settings.jobs


def read_epoch() -> Moment:
    """Read the moment that files are to tell: SOURCE_DATE_EPOCH, or else that of each image.

    Raises:
        UsageError: If the variable is no number of seconds since 1970.
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


def _check_options(settings: "Settings") -> None:
    """Refuse options that mean nothing, alone or together."""
    if settings.manifest is not None and settings.source is not None:
        raise UsageError("name a source or a --manifest, not both.")
    if settings.channels:
        raise UsageError('--channels goes with one scan; in a manifest write "channels": [...].')
    if settings.jobs < 1:
        raise UsageError(f"--jobs is {settings.jobs}; expected at least 1.")
    if settings.threads is not None and settings.threads < 1:
        raise UsageError(f"--threads is {settings.threads}; expected at least 1.")
    if settings.timeout is not None and not 0 < settings.timeout < 1e9:
        raise UsageError(f"--deadline is {settings.timeout}; expected seconds, above 0.")


def _list_cases(settings: "Settings") -> tuple[tuple[Case, ...], tuple[str, ...]]:
    """List all cases, and what of a folder is none."""
    source = settings.source
    if settings.manifest is not None:
        return read_manifest(settings.manifest.absolute()), ()
    if source is None or not source.is_dir():
        raise UsageError(
            "--jobs, --shard, --resume, --deadline and --ray go with a folder or a --manifest."
        )
    from bedside.cli.segment import read_reading

    root = Path(os.path.realpath(source))
    check_apart(root, settings.output)
    found = read_reading(settings).find(root).outside(settings.output)
    for note in found.notes:
        print_err(note)
    return name_cases(found.paths, root, files=found.files), found.skipped


def _default_model(settings: "Settings", cases: Sequence[Case]) -> Path | None:
    """Find the bundle of those that name none."""
    if settings.model is None and all(case.model is not None for case in cases):
        return None
    return choose_bundle(settings.model)


def _bundle_opener(settings: "Settings") -> Callable[[str], "Bundle"]:
    """What finds and reads the bundles that cases name, signed where that is asked for."""
    from bedside.bundle import find_bundle, read_bundle

    keys = choose_keys(settings.trusted_keys, require_signed=settings.require_signed)
    return lambda name: read_bundle(find_bundle(name, on_notice=print_err), trusted=keys)


def _threads(settings: "Settings") -> int:
    """Share the cores that this process may use among the workers."""
    from bedside.runtime.session import MAX_DEFAULT_THREADS, count_cores

    shared = count_cores() // settings.jobs
    return settings.threads or max(1, min(shared, MAX_DEFAULT_THREADS))


def _crew(settings: "Settings") -> WorkerPool:
    """Find who does the work."""
    if settings.ray is None:
        return Processes()
    from bedside.batch.ray import connect

    return connect(settings.ray)


def _describe_json(records: Sequence[Record], listing: Path, skipped: Sequence[str]) -> None:
    from bedside.report.record import to_json
    from bedside.spec.reading import to_mapping

    mapping: dict[str, Any] = {
        "results": str(listing),
        "counts": _count(records),
        "cases": [to_mapping(record) for record in records],
        "skipped": list(skipped),
    }
    print_out(to_json(mapping))


def _describe_records(
    records: Sequence[Record], listing: Path, skipped: Sequence[str], *, kept: int
) -> None:
    """Print every case that is not done, then a table of how many became what."""
    from bedside.spec import DISCLAIMER

    for record in records:
        if record.error is not None:
            print_out(f"{record.status.capitalize()}: {record.id}: {record.error.message}")
    for text in skipped:
        print_out(f"Skipped: {text}")
    for line in group_warnings([(record.id, text) for record in records
                                for text in record.warnings]):  # fmt: skip
        print_out(line)
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
