"""A batch from start to end: the plan, the workers, and the list of outcomes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bedside.batch.bucket import Bucket
from bedside.batch.job import Job, find_done
from bedside.batch.manifest import Case
from bedside.batch.outputs import Folder, Outputs
from bedside.batch.record import Record, append_line, clear_parts, write_lines
from bedside.batch.supervise import Supervisor
from bedside.batch.worker_pool import WorkerPool
from bedside.errors import FormatError, UsageError
from bedside.options import Options
from bedside.system.signals import undone_early

if TYPE_CHECKING:
    from bedside.bundle import Bundle


@dataclass(frozen=True)
class BatchPlan:
    """The plan of a batch.

    Attributes:
        jobs: Every case of it, in order.
        kept: Records of the cases that an earlier run has done.
        listing: The file with one line per case.
        outputs: Where the list goes at the end.
    """

    jobs: tuple[Job, ...]
    kept: tuple[Record, ...]
    listing: Path
    outputs: Outputs


def plan_batch(
    cases: Sequence[Case],
    output: Path,
    *,
    model: Path | None,
    options: Options,
    resume: bool,
    shard: tuple[int, int] | None = None,
    open_bundle: Callable[[str], "Bundle"] | None = None,
    bucket: Bucket | None = None,
) -> BatchPlan:
    """Check the cases and find what must run; nothing is written.

    Args:
        cases: The cases, those of one shard only.
        output: Folder for all results; for work in progress only, if there is a bucket.
        model: Bundle of the cases that name none; None if every case names one.
        options: How files are read, networks run, and what is written.
        resume: Whether to resume an earlier run.
        shard: Number of this shard and of all; each shard has its own list.
        open_bundle: Finds and reads a bundle by name or path; None for `bedside.bundle`'s.
        bucket: Where results go in a store.

    Raises:
        BundleError: If a bundle does not exist or is damaged.
        UsageError: If there are results already without `resume`, or a folder that this
            program has not written.
    """
    name = "results.jsonl" if shard is None else "results-{}-of-{}.jsonl".format(*shard)
    bundles = _find_bundles(cases, model, open_bundle or _open_bundle)
    outputs: Outputs = bucket or Folder(output)
    jobs = tuple(
        Job(case, *bundles[case.model], output, options, bucket=bucket) for case in cases
    )  # fmt: skip
    taken = outputs.find_taken([case.id for case in cases])
    begun = [job for job in jobs if job.case.id in taken]
    for job in begun:
        _check_place(job, resume=resume)
    if not resume and outputs.has_list(name):
        raise UsageError(_already(f"{outputs}/{name}"))
    found = (find_done(job) for job in begun if resume)
    return BatchPlan(jobs, tuple(record for record in found if record), output / name, outputs)


def run_batch(
    plan: BatchPlan,
    pool: WorkerPool,
    *,
    size: int,
    timeout_s: float | None = None,
    on_record: Callable[[Record], None] = lambda record: None,
) -> tuple[Record, ...]:
    """Run the cases of a batch that are not done.

    During the run, records are appended to the list as cases finish; at the end, also after an
    error, the list is rewritten in the order of the cases.

    Args:
        plan: From `plan_batch`.
        pool: Starts workers.
        size: Maximum number of workers.
        timeout_s: Time limit of a case; None for none.
        on_record: Called with each record as cases finish.

    Returns:
        One record per case, in their order, including those of an earlier run.

    Raises:
        BackendError: If the runtime is not installed.
        OutputError: If results cannot be written.
        WorkerError: If workers crash before they start a case.
    """
    records = {record.id: record for record in plan.kept}
    order = [job.case.id for job in plan.jobs]
    waiting = [job for job in plan.jobs if job.case.id not in records]

    def take(record: Record) -> None:
        records[record.id] = record
        append_line(record, plan.listing)
        on_record(record)

    def close() -> None:
        # A worker may have finished a case before it was stopped, without reporting it.
        left = (find_done(job) for job in waiting if job.case.id not in records)
        records.update({record.id: record for record in left if record})
        clear_parts(output, [*order, plan.listing.name])
        write_lines(committed(), plan.listing)
        plan.outputs.put_list(plan.listing)

    def committed() -> tuple[Record, ...]:
        return tuple(records[case_id] for case_id in order if case_id in records)

    output = plan.listing.parent
    clear_parts(output, [*order, plan.listing.name])
    write_lines(plan.kept, plan.listing)
    with undone_early(close):
        try:
            Supervisor(waiting, pool, size=size, timeout_s=timeout_s, on_record=take).run()
        finally:
            close()
    return committed()


def _open_bundle(name: str) -> "Bundle":
    from bedside.bundle import find_bundle, read_bundle

    return read_bundle(find_bundle(name))


def _find_bundles(
    cases: Sequence[Case], model: Path | None, open_bundle: Callable[[str], "Bundle"]
) -> dict[str | None, tuple[Path, str]]:
    """Path and hash of each bundle that is named."""
    found: dict[str | None, tuple[Path, str]] = {}
    for case in cases:
        if case.model not in found:
            if case.model is None and model is None:
                raise UsageError(f'case "{case.id}" names no model. Name one with -m.')
            # An absolute path cannot be confused with the name of a shipped bundle.
            bundle = open_bundle(case.model or str(Path(model or "").absolute()))
            found[case.model] = (bundle.path.resolve(), bundle.sha256)
    return found


def _check_place(job: Job, *, resume: bool) -> None:
    """Refuse a folder that exists, unless an earlier run wrote it and is resumed.

    Raises:
        UsageError: If the folder is not free.
        FormatError: If the source lies in the folder of its results.
    """
    case, outputs = job.case, job.outputs
    place = f"{outputs}/{case.id}"
    record = outputs.read_record(case.id)
    if record is not None and not resume:
        raise UsageError(_already(place))
    if record is None and outputs.is_in_the_way(case.id, resume=resume):
        raise UsageError(
            f"{place} is in the way, and no record says that it holds results. "
            "Move it, or choose another folder with -o."
        )
    if outputs.holds(case):
        raise FormatError(f"{case.name} lies in {place}, where its results would go.")


def _already(place: str) -> str:
    return (
        f"{place} holds results of an earlier run. Continue it with --resume, "
        "or choose another folder with -o."
    )
