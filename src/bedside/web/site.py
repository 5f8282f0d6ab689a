"""All files of the page: the same for a server that sends them and for a folder."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bedside.bundle import Bundle
from bedside.errors import UsageError
from bedside.spec import DeploymentSpec
from bedside.web.model_files import check_supported, make_model_files
from bedside.web.vendor import FOLDER, RUNTIME, Package, read_vendor_files

STATIC = Path(__file__).with_name("static")
SITE, WORKER = "site.json", "sw.js"
SCHEMA_VERSION = 1

POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
    "img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; worker-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    # These two let the page use threads.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",
}
"""Headers that every file of the page is sent with."""

MEDIA_TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".txt": "text/plain; charset=utf-8",
    ".onnx": "application/octet-stream",
    ".bin": "application/octet-stream",
}


def list_page_files(packages: Iterable[Package] = (RUNTIME,)) -> dict[str, Path]:
    """Return the files of the page itself, by their path in it; without models.

    Args:
        packages: Packages of others that are among them.

    Raises:
        BackendError: If one is not here.
    """
    files = {
        path.relative_to(STATIC).as_posix(): path
        for path in sorted(STATIC.rglob("*"))
        if path.is_file()
    }
    for package in packages:
        files |= {f"vendor/{name}": FOLDER / name for name in read_vendor_files(package)}
    return files


def make_site(bundles: Sequence[Bundle]) -> dict[str, bytes]:
    """Return all files of a page that runs without a server, by path.

    Args:
        bundles: Its models.

    Raises:
        UsageError: If the page cannot run a bundle.
        BackendError: If the browser's runtime is not here.
    """
    files = {name: path.read_bytes() for name, path in list_page_files().items()}
    for bundle in bundles:
        for name, content in make_model_files(bundle).items():
            files[f"models/{bundle.spec.name}/{name}"] = content
    models = [(bundle.spec.name, bundle.spec) for bundle in bundles]
    files[SITE] = describe_site(models, server=None, runtime=RUNTIME.title)
    return files | {WORKER: complete_worker(files)}


def describe_site(
    models: Iterable[tuple[str, DeploymentSpec]],
    *,
    server: str | None,
    runtime: str | None,
    viewer: str | None = None,
) -> bytes:
    """Return `site.json`: what the page offers.

    Args:
        models: Name and spec of each model.
        server: Where the page finds the API of the server that sends it, relative to itself;
            None if there is none.
        runtime: The browser's runtime; None if the page has none and runs nothing itself.
        viewer: What shows scans in three planes; None if the page shows slices only.
    """
    about = {
        "schema_version": SCHEMA_VERSION,
        "models": [
            {
                "name": name,
                "version": spec.version,
                "task": spec.task,
                "on_device": runtime is not None and _is_supported(spec),
            }
            for name, spec in models
        ],
        "server": server,
        "runtime": runtime,
        "viewer": viewer,
    }
    return (json.dumps(about, indent=1) + "\n").encode()


def complete_worker(files: Mapping[str, bytes]) -> bytes:
    """Return the service worker with the files that it keeps, and a version that is theirs."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0".encode() + hashlib.sha256(files[name]).digest())
    lines = (
        f"const VERSION = {json.dumps(digest.hexdigest()[:16])};",
        f"const FILES = {json.dumps(sorted(name for name in files if name != WORKER))};",
        f"const HEADERS = {json.dumps(dict(HEADERS), indent=1)};",
    )
    return "\n".join(lines).encode() + b"\n" + files[WORKER]


def _is_supported(spec: DeploymentSpec) -> bool:
    try:
        check_supported(spec)
    except UsageError:
        return False
    return True
