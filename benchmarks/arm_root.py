"""A folder with Debian's Python for arm64 and the runtimes' aarch64 wheels, and its emulator.

Nothing is installed: packages are unpacked into the folder. qemu-user runs the instructions of the
processor, so results are those of the kernels that it would choose; times are the emulator's.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import Distribution
from pathlib import Path

import numpy as np
from packaging.requirements import Requirement

QEMU, PROCESSOR = "qemu-aarch64", "cortex-a76"
CHILD = Path(__file__).with_name("arm_child.py")
WHEELS = ("numpy", "onnxruntime", "ai-edge-litert", "flatbuffers", "protobuf", "packaging")
# ExecuTorch's Python runtime is linked to torch, torch imports the others, and is linked to CUDA.
EXECUTORCH = (
    "executorch", "torch", "typing_extensions", "sympy", "mpmath", "networkx", "filelock",
    "fsspec", "jinja2", "markupsafe", "pyyaml",
)  # fmt: skip
DEBS = ("python3", "libpython3.11", "libstdc++6", "libgomp1")
CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"

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


def prepare_root(root: Path, *, executorch: bool = False) -> None:
    """Unpack Python and the runtimes for aarch64 into a folder, and describe its processor.

    Args:
        root: The folder.
        executorch: Add ExecuTorch, and torch, which its runtime for Python is linked to; for
            aarch64 PyPI has it with CUDA only, whose libraries are 2 GB and are loaded too.
    """
    if not (root / "usr/bin/python3.11").exists():
        unpack_debian(root)
    unpack_wheels(root / "opt/site", WHEELS)
    if executorch:
        unpack_wheels(root / "opt/site", EXECUTORCH)
        unpack_wheels(root / "opt/site", list_cuda(root / "opt/site"), alone=False)
    describe_processor(root)


def unpack_debian(root: Path) -> None:
    """Unpack Debian's Python for arm64."""
    state = root / "apt"
    for folder in (state / "lists/partial", state / "cache/archives/partial"):
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


def list_cuda(site: Path) -> list[str]:
    """Return what the unpacked torch requires of CUDA's libraries."""
    (metadata,) = site.glob("torch-*.dist-info")
    needed = (Requirement(line) for line in Distribution.at(metadata).requires or ())
    named = (each for each in needed if each.name.startswith(("nvidia-", "cuda-toolkit")))
    return [str(each).partition(";")[0] for each in named]


def unpack_wheels(site: Path, names: Sequence[str], *, alone: bool = True) -> None:
    """Unpack wheels for aarch64, in the versions of `constraints.txt`.

    Args:
        site: Folder for them.
        names: What to unpack.
        alone: Leave out what they require.
    """
    site.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as wheels:
        platforms = [f"--platform=manylinux_2_{n}_aarch64" for n in range(17, 37)]
        platforms += ["--platform=manylinux2014_aarch64"]
        pip = [sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:"]
        pip += ["--no-deps"] if alone else []
        exact = ["--python-version=3.11", "--implementation=cp", "--abi=cp311", "--abi=abi3"]
        subprocess.run(
            [*pip, *exact, "--abi=none", *platforms, "-d", wheels, "-c", CONSTRAINTS, *names],
            check=True,
        )
        for wheel in Path(wheels).glob("*.whl"):
            shutil.unpack_archive(wheel, site, "zip")


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

    Args:
        root: Folder that `prepare_root` made.
        model: `model.onnx`, `model.tflite` or `model.pte`.
        tensors: (images, C, *S) float32.

    Returns:
        Logits, (images, classes, *S), and name and version of the runtime.

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
            raise RuntimeError(f"{model.name} on ARM: {done.returncode} {done.stderr[-2000:]}")
        found = json.loads(done.stdout.splitlines()[-1])
        if found["machine"] != "aarch64":
            raise RuntimeError(f"that was no ARM processor but {found['machine']}.")
        return np.load(target), f"{found['package']} {found['version']}"
