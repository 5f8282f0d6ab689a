"""The page with one bundle as a folder that any file server can show."""

from collections.abc import Callable
from pathlib import Path

from bedside.bundle import Bundle
from bedside.export.folder import LICENSE, written_folder
from bedside.web.site import SITE, make_site


def export_site(
    bundle: Bundle, output: Path, *, on_stage: Callable[[str], None] = lambda stage: None
) -> dict[str, int]:
    """Write the page with a bundle that runs in the browser.

    Args:
        bundle: What the page runs.
        output: Folder to write; it appears whole, or not at all, and replaces an earlier one.
        on_stage: Called with what is being done.

    Returns:
        Size in bytes of each file, by its path.

    Raises:
        UsageError: If the page cannot run the bundle, or something else is there.
        BackendError: If the browser's runtime is not here.
        OutputError: If the folder cannot be written.
    """
    on_stage("running the frame that the page checks itself with")
    card = bundle.card
    terms = f"{bundle.spec.name} {bundle.spec.version}\n{card.license}\n{card.source}\n"
    files = make_site([bundle]) | {LICENSE: f"{terms}{card.disclaimer}\n".encode()}
    with written_folder(output, marker=SITE) as folder:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return {name: len(content) for name, content in files.items()}
