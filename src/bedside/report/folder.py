"""Result folders: all files of one case appear together or not."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from bedside.errors import UsageError
from bedside.io.own_results import is_result_name, read_marker, write_marker
from bedside.system.atomic import made_folder, output_errors
from bedside.system.signals import held
from bedside.system.unfinished import part_folder


@contextlib.contextmanager
def written_together(folder: Path) -> Iterator[Path]:
    """Return a hidden folder to write one case's results to, and move them out when all is well.

    What an earlier case left under other names goes, so that a folder never shows the
    pictures of one image beside the report of another; nothing else in it is touched.

    Args:
        folder: Where the results are to be.

    Yields:
        A folder beside them.

    Raises:
        OutputError: If something cannot be written or moved.
    """
    with output_errors(folder), made_folder(folder), part_folder(folder) as staging:
        yield staging
        with held():
            _move_out(staging, folder)


def _move_out(staging: Path, folder: Path) -> None:
    """Put the files of one case in their place, and remove an earlier case's others."""
    earlier = read_marker(folder)
    write_marker(staging, (path.name for path in staging.iterdir()))
    # The marker comes first: whatever else is there is known for a result.
    written = sorted(staging.iterdir())
    for name in earlier - {path.name for path in written}:
        _remove(folder / name)
    for path in written:
        if path.is_dir():
            _remove(folder / path.name)
        path.replace(folder / path.name)


def check_apart(source: Path, output: Path) -> None:
    """Make sure that no result takes the place of the source.

    Raises:
        UsageError: If the output folder is the source folder, or a result would have the
            name and place of the source.
    """
    source, output = (Path(os.path.realpath(path)) for path in (source, output))
    if source == output:
        raise UsageError(f"{output} is the source as well; choose another folder with -o.")
    if source.parent == output and is_result_name(source.name):
        raise UsageError(f"results would overwrite the source {source}; choose another -o.")


def _remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
