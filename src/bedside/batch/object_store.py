"""Objects of an S3-like store, by fsspec: `s3://bucket/study/...`; its address is in AWS_... ."""

import contextlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from bedside.batch.record import InputFact
from bedside.errors import (
    BackendError,
    BedsideError,
    FormatError,
    OutputError,
    install_command,
    last_line,
)

_MAX_MANIFEST_BYTES = 2**30


def join_url(folder: str, name: str) -> str:
    """Return the URL of an object that a manifest names, relative to the manifest's own folder.

    Raises:
        FormatError: If the name is a path of a machine, or leads upwards.

    Example:
        >>> join_url("s3://study/lists", "images/a.nii.gz")
        's3://study/lists/images/a.nii.gz'
    """
    if name.startswith("s3://"):
        folder, name = "s3:/", name.removeprefix("s3:/").lstrip("/")
    if name.startswith("/") or ".." in PurePosixPath(name).parts or "://" in name:
        raise FormatError(
            f'"{name}" is no object of the store; expected s3://bucket/key, or a key relative '
            "to the manifest."
        )
    return f"{folder}/{name}"


def read_object(url: str) -> bytes:
    """Return the content of an object.

    Raises:
        FormatError: If it cannot be read, or is a GB or more.
        BackendError: If fsspec's adapter is not installed.
    """
    with store_errors(url, FormatError, "read"):
        store = open_store()
        if store.info(url)["size"] >= _MAX_MANIFEST_BYTES:
            raise FormatError(f"{url} has a GB or more; no manifest does.")
        content: bytes = store.cat_file(url)
        return content


def describe_object(url: str) -> InputFact:
    """Return size and time of an object, or of all below a URL that ends with a slash.

    Raises:
        FormatError: If it is not there.
    """
    with store_errors(url, FormatError, "read"):
        facts = [info for _, info in _list_objects(url)]
        return InputFact(
            sum(info["size"] for info in facts),
            max(int(info["LastModified"].timestamp()) * 10**9 for info in facts),
            len(facts),
        )


def fetch(url: str, folder: Path) -> Path:
    """Copy an object, or all below a URL that ends with a slash, into a folder.

    Returns:
        The file or the folder that was made.

    Raises:
        FormatError: If it is not there.
    """
    with store_errors(url, FormatError, "read"):
        store, target = open_store(), folder / PurePosixPath(url).name
        base = url.removeprefix("s3://")
        for name, _ in _list_objects(url):
            below = name.removeprefix(base) if url.endswith("/") else ""
            if ".." in PurePosixPath(below).parts:
                raise FormatError(f"{url} holds the name {below!r}, which leads out of it.")
            path = target / below if below else target
            path.parent.mkdir(parents=True, exist_ok=True)
            store.get_file(name, str(path))
    return target


def open_store() -> Any:
    """Return the store; address and keys are those of the environment (AWS_...).

    Raises:
        BackendError: If the adapter is not installed.
    """
    try:
        import fsspec

        # A list that is kept would hide what other workers have put since.
        return fsspec.filesystem("s3", use_listings_cache=False)
    except ImportError as error:
        raise BackendError(
            f"s3:// needs s3fs, which is not installed. Install it with: {install_command('s3fs')}."
        ) from error


def _list_objects(url: str) -> list[tuple[str, Any]]:
    """List an object, or all below a URL that ends with a slash; names without "s3://"."""
    if not url.endswith("/"):
        return [(url.removeprefix("s3://"), open_store().info(url))]
    found = sorted(open_store().find(url, detail=True).items())
    if not found:
        raise FileNotFoundError
    return found


def list_folder(url: str) -> list[Any]:
    """List what lies directly below a URL; nothing if there is nothing."""
    with contextlib.suppress(FileNotFoundError), store_errors(url, OutputError, "list"):
        return list(open_store().ls(url, detail=True))
    return []


def find_object(url: str) -> bytes | None:
    """Return the content of an object; None if it is not there."""
    with contextlib.suppress(FileNotFoundError), store_errors(url, OutputError, "read"):
        content: bytes = open_store().cat_file(url)
        return content
    return None


def remove_object(url: str) -> None:
    """Remove an object, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        open_store().rm_file(url)


@contextlib.contextmanager
def store_errors(url: str, kind: type[BedsideError], verb: str) -> Iterator[None]:
    """Turn what the store or its client raises into an error of ours, in one line.

    A missing object is passed on where it means that something is not yet done: if it is no input,
    and nothing is written.
    """
    try:
        yield
    except BedsideError:
        raise
    except FileNotFoundError as error:
        if kind is FormatError:
            raise FormatError(f"cannot read {url}: there is no such object.") from error
        if verb != "write":
            raise
        raise kind(f"cannot write {url}: there is no such bucket.") from error
    except Exception as error:
        reason = last_line(error, otherwise=type(error).__name__).rstrip(".")
        raise kind(
            f"cannot {verb} {url}: {reason}. Check AWS_ENDPOINT_URL and the keys."
        ) from error
