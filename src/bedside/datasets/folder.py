"""The plain layout: `images/` and `masks/`, with equal file stems."""

from pathlib import Path

from bedside.datasets.case import Case
from bedside.errors import DataError
from bedside.io.formats import FORMATS

SHAPE = "images/STEM.png and masks/STEM.png, or .nii.gz (patient: STEM up to the first _)"


def recognise(path: Path) -> bool:
    """Whether there is a folder of images and one of masks."""
    return (path / "images").is_dir() and (path / "masks").is_dir()


def list_cases(path: Path) -> list[Case]:
    """Pair every image with the mask of the same stem.

    Args:
        path: Folder that holds `images` and `masks`.

    Returns:
        Cases in order of their stems, which name them. The patient is the stem up to its
        first underscore.

    Raises:
        DataError: If a folder is missing, an image lacks its mask or a mask its image, or
            two files share a stem.
    """
    endings = tuple(end for row in FORMATS.values() for end in row.suffixes)
    truth_endings = tuple(end for row in FORMATS.values() for end in row.label_suffixes)
    images = _stems(path / "images", endings)
    masks = _stems(path / "masks", truth_endings)
    for stem in sorted(images.keys() ^ masks.keys()):
        if stem in images:
            raise DataError(
                f"case {stem} has no labels: expected {path / 'masks' / stem} ending in "
                f"{', '.join(truth_endings)}. Add them, or remove {images[stem]}."
            )
        raise DataError(
            f"case {stem} has no image: expected {path / 'images' / stem} ending in "
            f"{', '.join(endings)}. Add it, or remove {masks[stem]}."
        )
    return [
        Case(stem, stem.partition("_")[0], images=(images[stem],), truth=masks[stem])
        for stem in sorted(images)
    ]


def _stems(folder: Path, endings: tuple[str, ...]) -> dict[str, Path]:
    """Map the stems in a folder to files; hidden files and other endings are ignored."""
    if not folder.is_dir():
        raise DataError(f"{folder} is missing; the layout is {SHAPE}.")
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        ending = next((end for end in endings if file.name.lower().endswith(end)), None)
        if ending is None or file.name.startswith("."):
            continue
        stem = file.name[: -len(ending)]
        if stem in found:
            raise DataError(f"{found[stem]} and {file} share a stem; keep one of them.")
        found[stem] = file
    return found
