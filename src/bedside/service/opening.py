"""The image of a request, opened: one image, or a file for each channel."""

from dataclasses import replace
from pathlib import Path

from bedside.errors import UsageError
from bedside.io.channels import join_named
from bedside.io.opened import Source
from bedside.service.engine import Engine
from bedside.service.wanted import Wanted

_IMAGE = Path("image")


def open_wanted(engine: Engine, wanted: Wanted, path: Path) -> Source:
    """Open the image that a request has sent.

    Args:
        engine: Decodes it, in a process of its own.
        wanted: How it is opened, and which channels its files are.
        path: A file, or a folder with the files of a series, or with the channels in the order
            of their names.

    Raises:
        UsageError: If the model has no such channel, or its channels have no names.
        InputError: If the image is refused, or channels do not fit each other.
    """
    names = wanted.channel_names
    if not names:
        return engine.open(path, read=wanted.read)
    expected = engine.bundle(wanted.model).spec.input
    if not expected.channel_names:
        raise UsageError(f"the channels of {wanted.model} have no names. Leave channels out.")
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    opened = {
        # Messages call a file by its channel: the client does not know its name here.
        name: replace(engine.open(file, read=wanted.read), path=Path(name))
        for name, file in zip(names, files, strict=True)
    }
    return replace(join_named(opened, expected), path=_IMAGE)
