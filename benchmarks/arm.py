"""Exports on ARM: the same files on the same frames, on x86 and in an emulated Cortex-A76.

    python benchmarks/arm.py prepare ROOT
    python benchmarks/arm.py run ROOT acdc-sax=DATA vocal-folds=DATA --litert-python PYTHON

`prepare` unpacks Debian's Python for arm64 and the aarch64 wheels of the runtimes into a folder;
nothing is installed. `run` compares labels pixel by pixel and writes `arm.md`. qemu-user runs the
instructions of the processor, so results are those of the kernels that it would choose; times
are the emulator's and are not written.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from bedside.bundle import Bundle, find_bundle, read_bundle
from bedside.evaluation.certification import list_part
from bedside.export.bundle import spread_evenly
from bedside.export.formats.format import Options
from bedside.export.formats.table import find_format
from bedside.export.metadata import with_metadata
from bedside.export.parity import make_inputs
from bedside.export.programs import GraphProgram, Program, TorchProgram, to_inference
from bedside.export.rebuild import rebuild_network
from bedside.io.source import open_source
from bedside.pipeline.frames.plan import FramePlan, stack_neighbours
from bedside.pipeline.segmenter import open_segmenter
from bedside.runtime import open_graph
from bedside.system.atomic import write_text

QEMU, PROCESSOR = "qemu-aarch64", "cortex-a76"
CHILD = Path(__file__).with_name("arm_child.py")
PAGE, DATA = Path(__file__).with_suffix(".md"), Path(__file__).with_suffix(".json")
WHEELS = ("numpy", "onnxruntime", "ai-edge-litert", "flatbuffers", "protobuf", "packaging")
DEBS = ("python3", "libpython3.11", "libstdc++6", "libgomp1")
FLOORS = {"f32": 0.9999, "int8": 0.999}
"""Part of the pixels whose labels must be equal."""

# A Cortex-A76 as Linux describes it. The runtimes choose kernels by these files, and without them
# they read those of the machine that emulates, which describe no ARM processor.
CPUINFO = """processor\t: 0
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1
"""


@dataclass(frozen=True)
class Frames:
    """Real frames, ready for a network.

    Attributes:
        tensors: (frames, C, H, W) float32.
        plans: Their transforms, to restore labels by.
        stride: Pixels of the tensor for a logit.
    """

    tensors: np.ndarray
    plans: Sequence[FramePlan]
    stride: int

    def restore(self, logits: np.ndarray) -> np.ndarray:
        """Labels on the frames' own grids, one after another, flat."""
        return np.concatenate(
            [
                plan.transform.restore(one, stride=self.stride).ravel()
                for plan, one in zip(self.plans, logits, strict=True)
            ]
        )


@dataclass(frozen=True)
class Row:
    """One file on two processors.

    Attributes:
        bundle: Name of the bundle.
        file: Format and precision.
        runtime: Name and version on ARM.
        frames: How many.
        equal: Part of all pixels whose labels are equal on both.
        equal_inside: The same of pixels that either labels as a structure.
        logit: Largest difference of a logit, as a part of the largest.
        bundle_equal: Part of the pixels whose labels are those of the bundle's f32 on x86.
    """

    bundle: str
    file: str
    runtime: str
    frames: int
    equal: float
    equal_inside: float
    logit: float
    bundle_equal: float

    @property
    def holds(self) -> bool:
        """Whether as many pixels are equal as must be."""
        return self.equal >= FLOORS[self.file.split()[-1]]


def prepare_root(root: Path) -> None:
    """Unpack Python and the runtimes for aarch64 into a folder, and describe its processor."""
    state, site = root / "apt", root / "opt/site"
    for folder in (state / "lists/partial", state / "cache/archives/partial", site):
        folder.mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures::": "arm64",
        "Dir::State::lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    subprocess.run([*apt, "update"], check=True)
    install = ["install", "-y", "--download-only", "--no-install-recommends"]
    subprocess.run([*apt, *install, *DEBS], check=True)
    for package in (state / "cache/archives").glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, root], check=True)
    with tempfile.TemporaryDirectory() as wheels:
        platforms = [f"--platform=manylinux_2_{n}_aarch64" for n in (17, 27, 28)]
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
        exact = ["--python-version=3.11", "--implementation=cp", "--abi=cp311", "--abi=abi3"]
        constraints = Path(__file__).parents[1] / "constraints.txt"
        subprocess.run(
            [*pip, *exact, "--abi=none", *platforms, "-d", wheels, "-c", constraints, *WHEELS],
            check=True,
        )
        for wheel in Path(wheels).glob("*.whl"):
            shutil.unpack_archive(wheel, site, "zip")
    describe_processor(root)


def describe_processor(root: Path) -> None:
    """Write the files of Linux that describe a processor."""
    cpus = root / "sys/devices/system/cpu"
    cpus.mkdir(parents=True, exist_ok=True)
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/cpuinfo").write_text(CPUINFO)
    for name in ("possible", "present", "online"):
        (cpus / name).write_text("0\n")


def run_emulated(root: Path, model: Path, tensors: np.ndarray) -> tuple[np.ndarray, str]:
    """Run a model on ARM.

    Returns:
        Logits, (frames, classes, H, W), and name and version of the runtime.

    Raises:
        RuntimeError: If the emulator or the runtime fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "tensors.npy", Path(folder) / "logits.npy"
        np.save(source, tensors)
        emulator = [QEMU, "-cpu", PROCESSOR, "-L", root, "-E", f"PYTHONPATH={root / 'opt/site'}"]
        command = [*emulator, root / "usr/bin/python3.11", CHILD, model, source, target]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{model.name} on ARM: {done.stderr[-2000:]}")
        found = json.loads(done.stdout.splitlines()[-1])
        if found["machine"] != "aarch64":
            raise RuntimeError(f"that was no ARM processor but {found['machine']}.")
        return np.load(target), f"{found['package']} {found['version']}"


def read_frames(bundle: Bundle, data: Path, count: int) -> Frames:
    """The middle frames of some validation patients, as the pipeline prepares them."""
    spec = bundle.spec
    segmenter = open_segmenter(bundle, precision="f32", threads=1)
    plans, tensors = [], []
    for case in spread_evenly(list_part(bundle, data, "val"), count):
        sequence = segmenter.resolve_axes(open_source(case.image).sequence)
        sequence = stack_neighbours(sequence, spec.input.neighbours)
        plan = segmenter.plan(sequence)
        plans.append(plan)
        tensors.append(plan.apply(sequence.decode(len(sequence) // 2)))
    return Frames(np.concatenate(tensors), plans, spec.model.logit_stride)


def make_program(bundle: Bundle, to: str, precision: str) -> Program:
    """What a converter takes."""
    if find_format(to).kind == "graph":
        return GraphProgram(with_metadata(bundle.read_graph(precision), bundle.spec))
    module = to_inference(rebuild_network(bundle).create())
    shape = (1, bundle.spec.input.channels, *bundle.spec.input.size_px)
    return TorchProgram.trace(module, torch.from_numpy(make_inputs(shape, count=1)[-1]))


def compare(
    bundle: Bundle, frames: Frames, root: Path, *, to: str, precision: str, python: Path | None
) -> Row:
    """Export a bundle, and run the file on both processors."""
    converter = find_format(to).make_converter(Options(precision, litert_python=python))
    with tempfile.TemporaryDirectory() as folder:
        converter.convert(make_program(bundle, to, precision), Path(folder))
        model = next(Path(folder).glob("model.*"))
        if converter.open is None:
            raise RuntimeError(f"{to} does not run here: {converter.not_here}")
        here = _predict(converter.open(Path(folder)), frames.tensors)
        there, runtime = run_emulated(root, model, frames.tensors)
    plain = _predict(open_graph(bundle.read_graph("f32"), threads=1), frames.tensors)
    first, second = frames.restore(here), frames.restore(there)
    inside = (first > 0) | (second > 0)
    return Row(
        bundle.spec.name,
        f"{to} {precision}",
        runtime,
        len(frames.tensors),
        float((first == second).mean()),
        float((first == second)[inside].mean()),
        float(np.abs(there - here).max() / np.abs(here).max()),
        float((second == frames.restore(plain)).mean()),
    )


def _predict(session, tensors: np.ndarray) -> np.ndarray:
    return np.concatenate([session.predict(tensor[None]) for tensor in tensors])


def write_page(rows: Sequence[Row], page: Path = PAGE) -> None:
    """Write the table."""
    lines = [
        "# Exports on ARM",
        "",
        "`benchmarks/arm.py run` converts a bundle, and runs the same file on the same frames, of",
        "validation patients, on x86 and in an emulated Cortex-A76 (`qemu-aarch64`, the runtimes'",
        "aarch64 wheels, one thread). Labels are compared on the frames' own grids. Kernels differ",
        "between processors, above all in int8, so **an export is certified per architecture**: a",
        "certificate of x86 shows nothing of ARM. Nothing is said of milliseconds, which an",
        "emulator does not have.",
        "",
        "| bundle | file | runtime on ARM | frames | labels equal to x86 | within structures | "
        "largest difference of a logit | labels equal to the bundle's f32 on x86 | required | |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{row.bundle}` | {row.file} | {row.runtime} | {row.frames} | {100 * row.equal:.4f} % | "
        f"{100 * row.equal_inside:.3f} % | {row.logit:.2g} of the largest | "
        f"{100 * row.bundle_equal:.3f} % | {100 * FLOORS[row.file.split()[-1]]:g} % | "
        f"{'holds' if row.holds else '**fails**'} |"
        for row in rows
    ]
    lines += [
        "",
        "ExecuTorch's aarch64 wheel needs torch beside it, and was not run.",
    ]
    write_text(page, "\n".join(lines) + "\n")


def read_rows(path: Path = DATA) -> list[Row]:
    """Rows of earlier runs."""
    return [Row(**row) for row in json.loads(path.read_text("utf-8"))] if path.is_file() else []


def add_row(row: Row) -> None:
    """Write a row in the place of an earlier one of the same file, and the page of all."""
    rows = {(each.bundle, each.file): each for each in [*read_rows(), row]}
    write_text(DATA, json.dumps([asdict(each) for each in rows.values()], indent=1) + "\n")
    write_page(list(rows.values()))


def run(arguments: argparse.Namespace) -> None:
    """Compare all; the page is written after each file, so that nothing is lost."""
    for pair in arguments.bundles:
        name, _, data = pair.partition("=")
        bundle = read_bundle(find_bundle(name))
        frames = read_frames(bundle, Path(data), arguments.frames)
        kinds = [
            ("onnx", precision) for precision in ("f32", "int8") if precision in bundle.precisions
        ]
        kinds += [("litert", "f32")] if arguments.litert_python else []
        for to, precision in (kind for kind in kinds if kind[0] in arguments.formats):
            row = compare(
                bundle, frames, arguments.root, to=to, precision=precision,
                python=arguments.litert_python,
            )  # fmt: skip
            sys.stderr.write(f"{row}\n")
            add_row(row)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    prepared = commands.add_parser("prepare")
    prepared.add_argument("root", type=Path)
    running = commands.add_parser("run")
    running.add_argument("root", type=Path)
    running.add_argument("bundles", nargs="+", metavar="BUNDLE=DATA")
    running.add_argument("--formats", nargs="+", default=["onnx", "litert"])
    running.add_argument("--frames", type=int, default=20)
    running.add_argument("--litert-python", type=Path)
    given = parser.parse_args()
    if given.command == "prepare":
        prepare_root(given.root.resolve())
    else:
        given.root = given.root.resolve()
        run(given)
