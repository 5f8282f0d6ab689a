"""The table of layouts: a layout is a module with `recognise` and `list_cases`, and a row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bedside.datasets import (
    acdc,
    brats,
    btcv,
    camus,
    folder,
    hc18,
    lidc,
    luna16,
    msd,
    nnunet,
    video,
)
from bedside.datasets.case import Case, relabel_cases
from bedside.datasets.meaning import check_meaning
from bedside.datasets.palettes import check_palettes
from bedside.datasets.patients import unite_spellings
from bedside.errors import DataError, UsageError
from bedside.spec import DeploymentSpec, Recipe


@dataclass(frozen=True)
class Layout:
    """A layout of images and labels in a folder.

    Attributes:
        shape: Description of the folder for messages.
        recognise: Whether a folder has this layout; looks at names only.
        list_cases: Its cases in order; looks at names only.
    """

    shape: str
    recognise: Callable[[Path], bool]
    list_cases: Callable[[Path], list[Case]]


LAYOUTS: dict[str, Layout] = {
    "camus": Layout(camus.SHAPE, camus.recognise, camus.list_cases),
    "acdc": Layout(acdc.SHAPE, acdc.recognise, acdc.list_cases),
    "hc18": Layout(hc18.SHAPE, hc18.recognise, hc18.list_cases),
    "lidc": Layout(lidc.SHAPE, lidc.recognise, lidc.list_cases),
    "video": Layout(video.SHAPE, video.recognise, video.list_cases),
    "brats": Layout(brats.SHAPE, brats.recognise, brats.list_cases),
    "luna16": Layout(luna16.SHAPE, luna16.recognise, luna16.list_cases),
    "nnunet": Layout(nnunet.SHAPE, nnunet.recognise, nnunet.list_cases),
    "btcv": Layout(btcv.SHAPE, btcv.recognise, btcv.list_cases),
    "msd": Layout(msd.SHAPE, msd.recognise, msd.list_cases),
    "folder": Layout(folder.SHAPE, folder.recognise, folder.list_cases),
}


def detect_layout(path: Path) -> str:
    """Return the layout of a folder, by the names in it.

    Args:
        path: The data set's folder.

    Returns:
        A key of `LAYOUTS`; the first that fits.

    Raises:
        DataError: If it is no folder, or none fits.
    """
    path = Path(path)
    _check_folder(path)
    for name, layout in LAYOUTS.items():
        if layout.recognise(path):
            return name
    known = "; ".join(f"{name}: {layout.shape}" for name, layout in LAYOUTS.items())
    raise DataError(f"{path} is in no known layout. Known are {known}.")


def list_cases(path: Path, layout: str | None = None) -> list[Case]:
    """List the cases of a data set without reading pixels.

    Names of one patient that differ in upper and lower case, or in how accents are stored, become
    one name.

    Args:
        path: The data set's folder.
        layout: A key of `LAYOUTS`; detected if None.

    Returns:
        At least one case, in order of patient and case.

    Raises:
        UsageError: If `layout` is not in the table.
        DataError: If the folder does not fit the layout, or a case lacks image or truth.
    """
    path = Path(path)
    _check_folder(path)
    name = layout or detect_layout(path)
    if name not in LAYOUTS:
        raise UsageError(f'layout "{name}" is not known. Choose one of {", ".join(LAYOUTS)}.')
    cases = LAYOUTS[name].list_cases(path)
    if not cases:
        raise DataError(f'{path} holds no case in layout "{name}": {LAYOUTS[name].shape}.')
    return unite_spellings(cases)


def list_recipe_cases(recipe: Recipe, folder: Path | None = None) -> list[Case]:
    """List the cases of a recipe's data set, with its table of mask values.

    Args:
        recipe: Names the folder, its layout and the labels.
        folder: The data set's folder, if not the recipe's.

    Raises:
        DataError: As `list_cases`.
    """
    cases = list_cases(folder or Path(recipe.data.path), recipe.data.layout)
    return relabel_for(cases, recipe.data.relabel, spec=recipe.deployment)


def relabel_for(cases: list[Case], table: Mapping[str, int], *, spec: DeploymentSpec) -> list[Case]:
    """Return cases with the labels of a deployment.

    Args:
        cases: Cases of a data set.
        table: Label for each value of the masks; {} if values are labels.
        spec: The deployment, with names of labels and channels.

    Raises:
        DataError: If the data set names a value or a channel as another one of the deployment, or
            the palettes of its masks number their colours differently.
    """
    given = relabel_cases(cases, table, labels=[label.value for label in spec.labels])
    check_meaning(given, spec.labels, channels=spec.input.channel_names)
    check_palettes(given)
    return given


def _check_folder(path: Path) -> None:
    """Refuse what is not a folder."""
    if not path.is_dir():
        seen = "is a file" if path.exists() else "does not exist"
        raise DataError(f"{path} {seen}; give the folder that holds the data set.")
