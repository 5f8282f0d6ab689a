"""Export in one screen: convert, run on images, compare; keep layers in f32 or refuse; write.

program -> converter -> compared with the bundle's f32 graph -> within the bound: written
                             `-> not: find the layer, keep it in f32, and repeat
"""

import hashlib
import platform
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from bedside.bundle import Bundle
from bedside.errors import BedsideError, ExportError
from bedside.evaluation.comparison import Comparison, Sample, compare_sessions
from bedside.export.certificate import Attempt, Bound, Certificate, FaultyLayer
from bedside.export.error_localization import find_faulty_layer, find_sensitive_layer
from bedside.export.folder import describe_export, written_folder
from bedside.export.formats.format import Converter, Format
from bedside.export.golden import describe_for_programs
from bedside.export.programs import Program, ProgramMaker
from bedside.runtime import Session, open_graph
from bedside.runtime.contract import WrappedSession
from bedside.runtime.execution_modes import computes_right
from bedside.runtime.interleaved_timing import time_interleaved
from bedside.runtime.machine import describe_processor

MAX_REPAIRS = 4
_TIMING_S = 1.0
_IN_F32 = "on this processor the runtime computes in f32 although bf16 was asked for"


@dataclass(frozen=True)
class Material:
    """A network to export, and how its exports are validated.

    Attributes:
        bundle: Where it comes from.
        precision: "f32", "bf16" or "int8".
        reference: The network in f32.
        make: Makes the program to convert, with some layers in f32.
        repairable: Whether layers can stay in f32.
        bound: Largest differences allowed.
        samples: Returns an iterator over the images, a new one each time.
        data: Description of these images.
        threads: Threads for one call.
        beside: Further files of the export, text by name.
    """

    bundle: Bundle
    precision: str
    reference: Program
    make: ProgramMaker
    repairable: bool
    bound: Bound
    samples: Callable[[], Iterable[Sample]]
    data: str
    threads: int = 1
    beside: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Trial:
    """A conversion and its validation."""

    attempt: Attempt
    comparison: Comparison | None
    latency_ms: dict[str, float]
    seconds: float


def export_certified(
    material: Material,
    target: Format,
    converter: Converter,
    output: Path,
    *,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Certificate:
    """Convert a network, compare its results with the bundle's, and write it with a certificate.

    Args:
        material: What is exported.
        target: The format.
        converter: What converts to it.
        output: Folder for the files; it appears whole, or not at all.
        on_stage: Called with what is being done.

    Returns:
        The certificate, which lies in the folder as well.

    Raises:
        ExportError: If it is out of bounds, also with layers in f32, or the bundle draws nothing
            where experts have. Nothing is written then.
        OutputError: If the folder cannot be written.
    """
    attempts: list[Attempt] = []
    with written_folder(output) as folder:
        while True:
            _empty(folder)
            kept = attempts[-1].layers_in_f32 if attempts else ()
            if attempts:
                kept = (*kept, cast(FaultyLayer, attempts[-1].faulty_layer).layer)
            trial = _try(material, converter, folder, kept, on_stage=on_stage)
            attempts.append(trial.attempt)
            if not trial.attempt.fault:
                break
            _check_worth_repairing(material, target, converter, attempts)
            on_stage(f"{trial.attempt.faulty_layer}; leaving it in f32")
        for name, text in material.beside.items():
            (folder / name).write_text(text, "utf-8")
        certificate = _certify(material, target, converter, tuple(attempts), trial, folder)
        describe_export(folder, material.bundle, certificate, hints=converter.hints)
        on_stage("writing golden tensors")
        if refused := describe_for_programs(folder, material.bundle):
            on_stage(f"no golden tensors, a synthetic image is refused: {refused}")
    return certificate


def _try(
    material: Material,
    converter: Converter,
    folder: Path,
    kept: tuple[str, ...],
    *,
    on_stage: Callable[[str], None],
) -> _Trial:
    """Convert and validate once; if it is out of bounds, find the layer at fault."""
    on_stage("converting" if not kept else f"converting, {len(kept)} layers in f32")
    program = material.make(kept)
    begin = time.perf_counter()
    converter.convert(program, folder)
    seconds = round(time.perf_counter() - begin, 3)
    if converter.open is None:
        return _Trial(Attempt(kept, ""), None, {}, seconds)
    on_stage(f"running it in {converter.runs_in} on {material.data}")
    session, plain = converter.open(folder), _open_plain(material)
    seen = _Worst(session)
    comparison = compare_sessions(
        material.bundle.spec, plain, {"exported": seen}, material.samples()
    )["exported"]
    if comparison.misses_all:
        raise ExportError(
            f"not certified: {material.bundle.spec.name} drew nothing in any of "
            f"{comparison.cases} images, where experts have ({material.data}). No export of it is "
            "written; train the network until it draws something, or check that these are its data."
        )
    if material.precision == "bf16" and comparison.worst_logit == 0:
        return _Trial(Attempt(kept, ""), None, {}, seconds)
    fault = material.bound.find_fault(comparison)
    if fault:
        on_stage(f"it {fault}; looking for the layer")
        run = _make_runner(converter)
        faulty_layer = (
            find_sensitive_layer(material.reference, material.make, run, seen.tensor, kept=kept)
            if material.repairable
            else find_faulty_layer(
                material.reference, program, run, seen.tensor, precision=material.precision
            )
        )
        return _Trial(Attempt(kept, fault, faulty_layer), comparison, {}, seconds)
    return _Trial(Attempt(kept, ""), comparison, _time(session, plain, seen.tensor), seconds)


class _Worst(WrappedSession):
    """A session that remembers the input with the most contrast."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.tensor = np.zeros(0, np.float32)
        self._spread = -1.0
        self._lock = threading.Lock()

    def predict(self, tensor: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        # The image with the most contrast shows errors of layers best.
        spread = float(tensor[0].std())
        with self._lock:
            if spread > self._spread:
                self._spread, self.tensor = spread, tensor[:1].copy()
        return super().predict(tensor, out)


def _open_plain(material: Material) -> Session:
    return open_graph(material.bundle.read_graph("f32"), threads=material.threads)


def _make_runner(converter: Converter) -> Callable[[Program, np.ndarray], np.ndarray]:
    """A function that converts a part of a program and runs it once."""

    def run(program: Program, tensor: np.ndarray) -> np.ndarray:
        with tempfile.TemporaryDirectory() as scratch:
            converter.convert(program, Path(scratch))
            opener = cast(Callable[[Path], Session], converter.open)
            try:
                return opener(Path(scratch)).predict(tensor)
            except BedsideError:
                # A part of a network that does not run counts as completely wrong.
                return np.zeros(0, np.float32)

    return run


def _check_worth_repairing(
    material: Material, target: Format, converter: Converter, attempts: Sequence[Attempt]
) -> None:
    """Raise if keeping a further layer in f32 cannot help.

    Raises:
        ExportError: What is wrong, where, and what was tried.
    """
    last = attempts[-1]
    faulty_layer = last.faulty_layer
    helpless = (
        not material.repairable
        or faulty_layer is None
        or faulty_layer.layer in last.layers_in_f32
        or faulty_layer.layer not in material.reference.layers
        or len(attempts) > MAX_REPAIRS
    )
    if not helpless:
        return
    name = material.bundle.spec.name
    where = f" In it, {faulty_layer}." if faulty_layer else ""
    tried = (
        f" Leaving {', '.join(last.layers_in_f32)} in f32 did not correct it."
        if last.layers_in_f32
        else ""
    )
    if not material.repairable:
        tried = " No layer of it can be left in a higher precision."
    if not computes_right(converter.backend, material.precision):
        tried += (
            " On this processor sums of products of 8 bits saturate, so that it cannot tell "
            "whether the export is right elsewhere: export it on one with VNNI or its like."
        )
    raise ExportError(
        f"the export of {name} to {target.name} in {material.precision} {last.fault}, on "
        f"{material.data}, and is not written.{where}{tried}"
    )


def _time(session: Session, plain: Session, tensor: np.ndarray) -> dict[str, float]:
    """Median and shortest latency of both, interleaved; other work only adds to them."""
    calls = {
        "exported": lambda: session.predict(tensor),
        "float": lambda: plain.predict(tensor),
    }
    times = time_interleaved(calls, total_s=_TIMING_S)
    medians = {name: round(latency.p50_ms, 4) for name, latency in times.items()}
    shortest = {f"{name}_best": round(latency.best_ms, 4) for name, latency in times.items()}
    return medians | shortest


def _certify(
    material: Material,
    target: Format,
    converter: Converter,
    attempts: tuple[Attempt, ...],
    trial: _Trial,
    folder: Path,
) -> Certificate:
    bundle = material.bundle
    ran = trial.comparison is not None
    return Certificate(
        bundle={
            "name": bundle.spec.name,
            "version": bundle.spec.version,
            "sha256": bundle.sha256,
        },
        format=target.name,
        precision=material.precision,
        made_with=converter.made_with,
        ran_in=converter.runs_in if ran else "",
        not_run="" if ran else converter.not_here or _IN_F32,
        data=material.data if ran else "",
        bound=material.bound,
        passed=True if ran else None,
        comparison=trial.comparison,
        attempts=attempts,
        files=_describe_files(folder),
        latency_ms=trial.latency_ms,
        processor=describe_processor(),
        architecture=platform.machine(),
        seconds=trial.seconds,
    )


def _empty(folder: Path) -> None:
    """Delete the files of an earlier attempt."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _describe_files(folder: Path) -> dict[str, dict[str, int | str]]:
    """Size and hash of each file below a folder, by its path in it."""
    return {
        str(path.relative_to(folder)): {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
