"""The folder of engines: what a device's compiler made of a graph, which takes it minutes."""

from pathlib import Path

from bedside.system.cache import cache_folder


def engine_folder(runtime: str) -> Path | None:
    """Return the folder where a runtime keeps its engines, made if it was not there.

    The runtime names its files by graph, device and driver, and makes new ones where these differ.

    Args:
        runtime: Name of the runtime.

    Returns:
        A folder below the user's cache, or None where there is none: nothing is kept then.
    """
    base = cache_folder()
    if base is None:
        return None
    folder = base / "engines" / runtime
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder
