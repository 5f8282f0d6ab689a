"""All files of the page: the same for a server that sends them and for a folder."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from bedside.bundle import Bundle
from bedside.web.model_files import make_model_files
from bedside.web.vendor import RUNTIME, read_vendor_files

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


def read_page_files() -> dict[str, bytes]:
    """Return the page itself and the browser's runtime, by path; without models.

    Raises:
        BackendError: If the runtime is not here.
    """
    files = {
        path.relative_to(STATIC).as_posix(): path.read_bytes()
        for path in sorted(STATIC.rglob("*"))
        if path.is_file()
    }
    vendored = read_vendor_files()
    return files | {f"vendor/{name}": content for name, content in vendored.items()}


def make_site(bundles: Sequence[Bundle], *, server: str | None = None) -> dict[str, bytes]:
    """Return all files of the page with its models, by path.

    Args:
        bundles: What it offers to run on the device.
        server: Where the page finds the API of the server that sends it, relative to itself;
            None if there is none.

    Raises:
        UsageError: If the page cannot run a bundle.
        BackendError: If the browser's runtime is not here.
    """
    files = read_page_files()
    for bundle in bundles:
        for name, content in make_model_files(bundle).items():
            files[f"models/{bundle.spec.name}/{name}"] = content
    about = {
        "schema_version": SCHEMA_VERSION,
        "models": [
            {"name": bundle.spec.name, "version": bundle.spec.version, "task": bundle.spec.task}
            for bundle in bundles
        ],
        "server": server,
        "runtime": f"{RUNTIME.name} {RUNTIME.version}",
    }
    files[SITE] = (json.dumps(about, indent=1) + "\n").encode()
    return files | {WORKER: _complete_worker(files)}


def _complete_worker(files: Mapping[str, bytes]) -> bytes:
    """Return the service worker with the list of files to keep, and a version that is theirs."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0".encode() + hashlib.sha256(files[name]).digest())
    kept = sorted(name for name in files if name != WORKER)
    # Of the headers those that a file server without settings does not send.
    lines = (
        f"const VERSION = {json.dumps(digest.hexdigest()[:16])};",
        f"const FILES = {json.dumps(kept)};",
        f"const HEADERS = {json.dumps(dict(HEADERS), indent=1)};",
    )
    return "\n".join(lines).encode() + b"\n" + files[WORKER]
