"""Certificates: the accuracy that a bundle keeps in each backend and precision."""

from collections.abc import Callable, Sequence

from bedside.bundle import Bundle
from bedside.datasets import Case
from bedside.evaluation.comparison import Comparison, compare_sessions, read_samples
from bedside.runtime import Session, find_backend
from bedside.runtime.execution_modes import ExecutionMode, list_runnable, open_mode
from bedside.runtime.machine import package_version
from bedside.spec import PrecisionResult

DEFAULT_MAX_DROP = 0.005


def certify(
    bundle: Bundle,
    cases: Sequence[Case],
    *,
    max_drop: float = DEFAULT_MAX_DROP,
    threads: int | None = None,
    accelerator: str | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> tuple[PrecisionResult, ...]:
    """Measure a bundle in every backend that is installed, in every precision it computes.

    All are compared with f32 of the first backend of the table that is installed, that
    backend's own f32 among them: case by case, through the whole pipeline.

    Args:
        bundle: What to measure; its card does not matter.
        cases: Validation cases, whose labels chose nothing but which network is taken.
        max_drop: Dice that any structure may lose against the reference.
        threads: Threads for one call; None for every core allowed.
        accelerator: A backend on a GPU or an NPU, to be measured too.
        on_stage: Called with what is being done.

    Returns:
        A result for each, the reference first; none for bf16 where the processor has no bf16
        and the runtime computes in f32 instead. None passes if the reference draws nothing in
        any image, and experts have.

    Raises:
        BackendError: If no backend is installed that runs the bundle in f32, or the accelerator
            is not there.
        InputError: If a case is refused.
    """
    find_backend("auto")  # raises if none is installed
    sessions = _open_sessions(bundle, threads, accelerator)
    reference, names = next(iter(sessions)), {" ".join(variant): variant for variant in sessions}
    on_stage(f"measuring {', '.join(names)} on {len(cases)} validation cases")
    compared = compare_sessions(
        bundle.spec,
        sessions[reference],
        {name: sessions[variant] for name, variant in names.items()},
        read_samples(cases, bundle.spec),
    )
    return tuple(
        _certificate(names[name], comparison, max_drop=max_drop, reference=reference)
        for name, comparison in compared.items()
        if not _is_ignored(names[name], comparison)
    )


def _open_sessions(
    bundle: Bundle, threads: int | None, accelerator: str | None
) -> dict[ExecutionMode, Session]:
    """Open every way to run a bundle here, emulated ones too; f32 of the first backend first."""
    from bedside.runtime import default_threads

    count = threads or default_threads()
    modes = list_runnable(bundle, accelerator=accelerator)
    return {variant: open_mode(bundle, variant, threads=count) for variant in modes}


def _is_ignored(variant: ExecutionMode, comparison: Comparison) -> bool:
    """Whether a runtime computed in f32 although bf16 was asked for."""
    return variant[1] == "bf16" and comparison.worst_logit == 0


def _certificate(
    variant: ExecutionMode, comparison: Comparison, *, max_drop: float, reference: ExecutionMode
) -> PrecisionResult:
    """Return a comparison as an entry of the card."""
    backend, precision = variant
    row = find_backend(backend)
    return PrecisionResult(
        precision=precision,
        dice=tuple(
            None if each.dice is None else round(each.dice, 5) for each in comparison.structures
        ),
        max_drop=round(comparison.loss, 5),
        passed=comparison.loss <= max_drop and not comparison.misses_all,
        agreement=tuple(round(each.agreement, 5) for each in comparison.structures),
        size_change=tuple(
            None if each.size_change is None else round(each.size_change, 5)
            for each in comparison.structures
        ),
        worst_logit_part=round(comparison.worst_logit_part, 6),
        cases=comparison.cases,
        ran_in=f"{backend} {package_version(row.install or row.package)}",
        backend=backend,
        reference=" ".join(reference),
    )
