"""The page's third-party files: `python -m bedside.web.vendor` has npm fetch the pinned versions.

They take megabytes and are not in the repository; a wheel takes along what is there.
"""

import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bedside.errors import BackendError, BedsideError, last_line
from bedside.system.atomic import files_together, write_bytes

FOLDER = Path(__file__).with_name("vendor")
COMMAND = "python -m bedside.web.vendor"
_DEADLINE_S = 600


@dataclass(frozen=True)
class Member:
    """One file of a package.

    Attributes:
        path: Where it lies in the package.
        sha256: Its hash in hexadecimal.
    """

    path: str
    sha256: str


@dataclass(frozen=True)
class Package:
    """A package of npm, and the files that the page takes of it.

    Attributes:
        name: Of the package.
        version: The only one whose files have these hashes.
        purpose: What it does for the page, for errors.
        members: By the name that a file has here.
    """

    name: str
    version: str
    purpose: str
    members: Mapping[str, Member]

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}"


# Modules end in .js here: older file servers send .mjs as no script.
RUNTIME = Package(
    name="onnxruntime-web",
    version="1.30.0",
    purpose="runs networks in a browser",
    members={
        "ort.js": Member(
            "package/dist/ort.wasm.min.mjs",
            "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
        ),
        "ort-threads.js": Member(
            "package/dist/ort-wasm-simd-threaded.mjs",
            "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
        ),
        "ort.wasm": Member(
            "package/dist/ort-wasm-simd-threaded.wasm",
            "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
        ),
    },
)


VIEWER = Package(
    name="@niivue/niivue",
    version="0.69.0",
    purpose="shows scans in three planes",
    members={
        "niivue.js": Member(
            "package/dist/index.js",
            "d6c2be4feb1ad53b2ac76b4196da8d8fd2263b662b511c55ca0fd127eb6a6532",
        ),
    },
)


def read_vendor_files(package: Package = RUNTIME, folder: Path = FOLDER) -> dict[str, bytes]:
    """Return the files of a package by their names, with the hashes that are pinned.

    Raises:
        BackendError: If one is missing or another one; the error says how to get them.
    """
    found = {}
    for name, member in package.members.items():
        try:
            content = (folder / name).read_bytes()
        except OSError:
            content = b""
        if hashlib.sha256(content).hexdigest() != member.sha256:
            state = "is another version" if content else "is not here"
            raise BackendError(
                f"{name} of {package.title}, which {package.purpose}, "
                f"{state}. Get it with: {COMMAND} (it needs npm)."
            )
        found[name] = content
    return found


def fetch(package: Package = RUNTIME, folder: Path = FOLDER) -> tuple[Path, ...]:
    """Have npm fetch a package, and write its files after checking their hashes.

    Returns:
        The files written.

    Raises:
        BackendError: If npm is missing or fails, or a file is not the one that is pinned.
        OutputError: If they cannot be written.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise BackendError("npm is not installed; it comes with Node.js, which Debian has as npm.")
    with tempfile.TemporaryDirectory() as scratch:
        wanted = f"{package.name}@{package.version}"
        done = subprocess.run(
            [npm, "pack", wanted, "--ignore-scripts", "--pack-destination", scratch],
            cwd=scratch, capture_output=True, text=True, timeout=_DEADLINE_S, check=False,
        )  # fmt: skip
        packed = list(Path(scratch).glob("*.tgz"))
        if done.returncode or len(packed) != 1:
            raise BackendError(f"npm cannot fetch {wanted}: {last_line(done.stderr)}.")
        contents = unpack(packed[0].read_bytes(), package)
    with files_together(folder) as staging:
        for name, content in contents.items():
            write_bytes(staging / name, content)
    return tuple(folder / name for name in contents)


def unpack(content: bytes, package: Package = RUNTIME) -> dict[str, bytes]:
    """Return the pinned files of a package by the names that they have here.

    Args:
        content: A gzipped tar.
        package: The package that it is.

    Raises:
        BackendError: If a file is missing, or is not the one that is pinned.
    """
    found = {}
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        for name, member in package.members.items():
            try:
                file = archive.extractfile(member.path)
            except KeyError:
                file = None
            text = file.read() if file else b""
            if hashlib.sha256(text).hexdigest() != member.sha256:
                raise BackendError(
                    f"{member.path} of {package.title} is not the file that was "
                    "pinned; nothing was written. Do not use what was fetched."
                )
            found[name] = text
    return found


def main() -> int:
    """Fetch the files, and name them.

    Returns:
        0, or the exit code of the error, which is printed.
    """
    try:
        written = [path for package in (RUNTIME, VIEWER) for path in fetch(package)]
    except BedsideError as error:
        sys.stderr.write(f"bedside: error: {error}\n")
        return error.exit_code
    sys.stdout.write("".join(f"{path}: {path.stat().st_size:,} bytes\n" for path in written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
