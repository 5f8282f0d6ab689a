"""Several models in one process: resident memory of a pool beside its ceiling, and foreign results.

Eight threads segment images by all shipped bundles, drawn at random, while the pool has room for
some of them only. Every result is compared with that of one thread. Writes pool.md.
"""

import argparse
import gc
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bedside.bundle import read_bundle, shipped_bundles
from bedside.pool import ModelPool, estimate_bytes
from bedside.runtime import installed_backends, open_session
from bedside.runtime.machine import describe_processor, package_version
from bedside.system.process_memory import resident_bytes, trim_heap

HERE = Path(__file__).parent
THREADS, MIB = 8, 2**20


def make_input(path: Path) -> np.ndarray:
    """Random values of the size of a bundle's input, (1, C, *S)."""
    spec = read_bundle(path).spec.input
    return np.random.default_rng(0).random((1, spec.channels, *spec.size_px), np.float32)


def measure_model(path: Path, backend: str, tensor: np.ndarray) -> tuple[float, float]:
    """Estimated and measured MiB of one model that one thread has called."""
    collect()
    before, bundle = resident_bytes(), read_bundle(path)
    session = open_session(bundle, backend=backend, precision="f32", threads=1)
    for _ in range(3):
        session.predict(tensor)
    collect()
    took = resident_bytes() - before
    session.close()
    return estimate_bytes(bundle) / MIB, took / MIB


def collect() -> None:
    """Free what nothing refers to, and return it to the system."""
    gc.collect()
    trim_heap()


def measure_pool(ceiling: int, backend: str, inputs: dict[Path, np.ndarray], calls: int) -> str:
    """One row: growth of resident memory, models loaded, foreign results."""
    alone = {}
    for path, tensor in inputs.items():
        session = open_session(read_bundle(path), backend=backend, precision="f32", threads=1)
        alone[path] = session.predict(tensor)
        session.close()
    collect()
    before, most, seen, foreign = resident_bytes(), [0], [0], [0]
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.01):
            most[0] = max(most[0], resident_bytes() - before)

    watching = threading.Thread(target=watch)
    watching.start()
    with ModelPool(ceiling, threads=2, at_once=2, backend=backend, precision="f32") as pool:

        def work(number: int) -> None:
            rng = np.random.default_rng(number)
            for place in rng.integers(len(inputs), size=calls):
                path = list(inputs)[place]
                with pool.model(path) as model:
                    logits = model.segmenter.session.predict(inputs[path])
                foreign[0] += not np.array_equal(logits, alone[path])
                seen[0] = max(seen[0], len(pool.loaded))

        with ThreadPoolExecutor(THREADS) as executor:
            list(executor.map(work, range(THREADS)))
    stop.set()
    watching.join()
    return (
        f"| {backend} | {ceiling / MIB:.0f} | {most[0] / MIB:.0f} | {seen[0]} of {len(inputs)} "
        f"| {THREADS * calls} | {foreign[0]} |"
    )


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=60, help="calls of each thread")
    calls = parser.parse_args().calls
    inputs = {path: make_input(path) for path in shipped_bundles()}
    backends = installed_backends()
    for backend in backends:  # so that loading a runtime counts for no model
        measure_model(next(iter(inputs)), backend, next(iter(inputs.values())))
    rows = [
        f"| {path.stem} | {backend} | {estimate:.0f} | {took:.0f} |"
        for path, tensor in inputs.items()
        for backend in backends
        for estimate, took in (measure_model(path, backend, tensor),)
    ]
    pools = [
        measure_pool(ceiling * MIB, backend, inputs, calls)
        for backend in backends
        for ceiling in (120, 400)
    ]
    versions = ", ".join(f"{name} {package_version(name)}" for name in (*backends, "numpy"))
    text = f"""# Several models in one process

Written by `benchmarks/pool.py` on {describe_processor()}; {versions}. f32.

A pool of all shipped bundles; {THREADS} threads draw a bundle for each call. "Memory" is the
largest growth of resident memory, in MiB, with freed memory that the C library keeps: the
ceiling holds for the estimates below, and the process stays within a fifth of it.

| runtime | ceiling | memory | loaded at most | calls | foreign results |
|---|---|---|---|---|---|
{chr(10).join(pools)}

One model, called by one thread, in MiB:

| bundle | runtime | estimate | measured |
|---|---|---|---|
{chr(10).join(rows)}
"""
    (HERE / "pool.md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
