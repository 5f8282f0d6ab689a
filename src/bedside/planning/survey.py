"""Properties of a data set: grids, spacing, colours, intensities, and the shapes of labels."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from bedside.datasets import Case, detect_layout, list_cases, read_case, relabel_cases
from bedside.datasets.case import open_image
from bedside.datasets.index import names_of_values
from bedside.io.raster import is_turned
from bedside.pipeline.frames.geometry_steps import STRONG_COLOUR
from bedside.planning.apart import ValueGroup, find_apart
from bedside.planning.masks import choose_relabel, count_values, read_values_held, spread
from bedside.system.regular_files import read_regular
from bedside.volume import ImageSequence, find_orientation

MOST_IMAGES = 32
"""Images that are looked at."""

FEWEST_SLICES = 8
"""A stack of fewer slices is taken slice by slice."""
WIDEST_STEP = 3.0
"""So is one whose slices are further apart than so many pixels."""

_PEEKED = 5
_COLOURED = 0.1
_VOXELS = 20_000
_WHOLE = 0.99
_NEARLY = 0.95
_INDEX = "dataset.json"


@dataclass(frozen=True)
class Structure:
    """One label, as the experts drew it.

    Attributes:
        value: The label.
        name: What it is called; None if the data set does not say.
        masks: Number of masks that have it.
        single: Whether it is in one piece nearly everywhere.
        solid: Whether it encloses no background nearly anywhere.
        extent: Median of the root of its area over the image's longer side, in [0, 1]; of
            the cube root of its volume in 3D.
    """

    value: int
    name: str | None
    masks: int
    single: bool
    solid: bool
    extent: float


@dataclass(frozen=True)
class Survey:
    """Properties of a data set.

    Attributes:
        path: Its folder.
        layout: How it is laid out.
        about: What its `dataset.json` says; empty without one.
        cases: Number of cases.
        patients: Number of patients.
        masks: Number of masks that were read.
        images: Number of images that were looked at.
        spatial_dims: 3 if its scans are to be taken whole.
        frames: Median number of frames or slices of a case.
        channels: Channels of an image.
        coloured: Whether its images are colour pictures.
        modality: DICOM's word, from the files; None if they do not say.
        size_px: Median (height, width), or (depth, height, width) of oriented scans.
        spacing_mm: Median of the oriented scans' spacing; None for images.
        densities: Intensities that 0.5 % and 99.5 % of the labelled voxels lie below.
        structures: The labels.
        relabel: Label for each value of the masks that is none itself.
        turned: Number of images looked at that are to be turned by their EXIF, which is not done.
        apart: Groups of values of which no mask holds two; empty if there is one alone, or if an
            index names the values.
    """

    path: Path
    layout: str
    about: Mapping[str, Any]
    cases: int
    patients: int
    masks: int
    images: int
    spatial_dims: int
    frames: int
    channels: int
    coloured: bool
    modality: str | None
    size_px: tuple[int, ...]
    spacing_mm: tuple[float, ...] | None
    densities: tuple[float, float]
    structures: tuple[Structure, ...]
    relabel: Mapping[int, int]
    turned: int = 0
    apart: tuple[ValueGroup, ...] = ()


@dataclass(frozen=True)
class _Look:
    """Properties of one image; `shapes` has (single, solid, extent) of each label there."""

    frames: int
    channels: int
    colour: float
    modality: str | None
    size_px: tuple[int, ...]
    spacing_mm: tuple[float, ...] | None
    densities: tuple[float, float]
    shapes: tuple[tuple[int, bool, bool, float], ...]
    turned: bool


def survey_data(
    path: Path, *, layout: str | None = None, spatial_dims: int | None = None
) -> Survey:
    """Return the properties of a data set, from up to 1000 masks and some images.

    Args:
        path: Its folder.
        layout: A key of the table of layouts; detected if None.
        spatial_dims: 2 for scans slice by slice, 3 for whole scans; by their spacing if None.

    Raises:
        DataError: If it is in no known layout, or an image and its mask do not fit.
        FormatError: If a file cannot be read.
    """
    layout = layout or detect_layout(path)
    cases = list_cases(path, layout)
    held = read_values_held(cases)
    counts = count_values(held)
    relabel = choose_relabel(counts, where=str(path))
    values = sorted(relabel.get(value, value) for value in counts if value)
    table = {str(value): label for value, label in relabel.items()}
    chosen = spread(relabel_cases(cases, table, labels=values), MOST_IMAGES)
    spatial_dims = spatial_dims or _choose_axes(spread(cases, _PEEKED))
    looks = [_look(case, tuple(values), spatial_dims) for case in chosen]
    about = _read_about(path)
    masks = {relabel.get(value, value): count for value, count in counts.items()}
    return Survey(
        path=path,
        layout=layout,
        about=about,
        cases=len(cases),
        patients=len({case.patient_id for case in cases}),
        masks=max(counts.values()),
        images=len(looks),
        spatial_dims=spatial_dims,
        frames=_median([look.frames for look in looks]),
        channels=Counter(look.channels for look in looks).most_common(1)[0][0],
        coloured=bool(np.median([look.colour for look in looks]) > _COLOURED),
        modality=Counter(look.modality for look in looks).most_common(1)[0][0],
        size_px=tuple(map(_median, zip(*(look.size_px for look in looks), strict=True))),
        spacing_mm=_median_spacing(looks),
        densities=_median_densities(looks),
        structures=_structures(looks, masks, _names(about, relabel)),
        relabel=relabel,
        turned=sum(look.turned for look in looks),
        apart=()
        if counts.keys() <= {0, *names_of_values(about.get("labels"))}
        else find_apart(held),
    )


def _choose_axes(cases: Sequence[Case]) -> int:
    """3 if most scans have enough slices, close enough to each other; else 2."""
    whole = 0
    for case in cases:
        sequence = open_image(case).sequence
        if sequence.spacing_mm and sequence.slice_spacing_mm and case.trust_spacing:
            near = sequence.slice_spacing_mm <= WIDEST_STEP * max(sequence.spacing_mm)
            whole += near and len(sequence) >= FEWEST_SLICES
    return 3 if 2 * whole > len(cases) else 2


def _look(case: Case, values: tuple[int, ...], spatial_dims: int) -> _Look:
    """Survey one case."""
    source, truth = read_case(case, values)
    sequence = source.sequence
    parts = [truth] if spatial_dims == 3 else [frame for frame in truth if frame.any()]
    shapes = [(value, *_shape(part, value)) for part in parts for value in np.unique(part) if value]
    middle = sequence.decode(len(sequence) // 2)
    size_px, spacing_mm = _grid(sequence) if spatial_dims == 3 else (sequence.shape[2:], None)
    return _Look(
        frames=len(sequence),
        channels=sequence.shape[1],
        colour=_colour_share(middle),
        modality=sequence.modality,
        size_px=size_px,
        spacing_mm=spacing_mm,
        densities=_densities(sequence, truth),
        shapes=tuple(shapes),
        turned=is_turned(sequence),
    )


def _grid(sequence: ImageSequence) -> tuple[tuple[int, ...], tuple[float, ...] | None]:
    """(D, H, W) and spacing of a scan in the patient's axes."""
    shape = (len(sequence), *sequence.shape[2:])
    if sequence.geometry is None:
        return shape, sequence.voxel_mm
    orientation = find_orientation(sequence.geometry)
    spacing_mm = sequence.voxel_mm and orientation.reorder(sequence.voxel_mm)
    return tuple(shape[axis] for axis in orientation.order), spacing_mm


def _shape(truth: np.ndarray, value: int) -> tuple[bool, bool, float]:
    """Whether a label is in one piece and without holes, and how large it is."""
    inside = ndimage.find_objects((truth == value).astype(np.uint8))[0]
    mask = truth[inside] == value
    parts, _ = ndimage.label(mask, np.ones((3,) * mask.ndim))
    holes = ndimage.binary_fill_holes(mask) & (truth[inside] == 0)
    single = bool(np.bincount(parts.ravel())[1:].max() >= _WHOLE * mask.sum())
    extent = float(mask.sum() ** (1 / mask.ndim)) / max(truth.shape)
    return single, not holes.any(), extent


def _colour_share(frame: np.ndarray) -> float:
    """Part of a frame (C, H, W) that is strongly coloured."""
    if len(frame) != 3:
        return 0.0
    spread_of = frame.max(axis=0).astype(np.int32) - frame.min(axis=0)
    return float((spread_of > STRONG_COLOUR).mean())


def _densities(sequence: ImageSequence, truth: np.ndarray) -> tuple[float, float]:
    """Return the range of intensities under the labels of the fullest frame."""
    index = int(np.count_nonzero(truth, axis=(1, 2)).argmax())
    inside = sequence.decode(index)[0][truth[index] > 0]
    if not inside.size:
        return 0.0, 0.0
    low, high = np.percentile(inside[:: max(1, inside.size // _VOXELS)], (0.5, 99.5))
    return float(low), float(high)


def _structures(
    looks: Sequence[_Look], masks: Mapping[int, int], names: Mapping[int, str]
) -> tuple[Structure, ...]:
    """Put together what is known of each label."""
    found: dict[int, list[tuple[bool, bool, float]]] = defaultdict(list)
    for look in looks:
        for value, single, solid, extent in look.shapes:
            found[int(value)].append((single, solid, extent))
    structures = []
    for value in sorted(masks.keys() - {0}):
        # A label that no image looked at has: nothing is known, so nothing is repaired.
        singles, solids, extents = zip(*found[value] or [(False, False, 1.0)], strict=True)
        structures.append(
            Structure(
                value=value,
                name=names.get(value),
                masks=masks[value],
                single=bool(np.mean(singles) >= _NEARLY),
                solid=bool(np.mean(solids) >= _NEARLY),
                extent=float(np.median(extents)),
            )
        )
    return tuple(structures)


def _read_about(path: Path) -> Mapping[str, Any]:
    """Read `dataset.json`, in the Decathlon's or nnU-Net's form."""
    try:
        about = json.loads(read_regular(path / _INDEX))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _names(about: Mapping[str, Any], relabel: Mapping[int, int]) -> dict[int, str]:
    """Names of labels that an index has, none if two are the same."""
    known = names_of_values(about.get("labels"))
    names = {relabel.get(value, value): name for value, name in known.items()}
    return names if len(set(names.values())) == len(names) else {}


def _median(values: Sequence[int]) -> int:
    return round(float(np.median(values)))


def _median_spacing(looks: Sequence[_Look]) -> tuple[float, ...] | None:
    """Return the median along each axis, to two digits after the first that counts."""
    known = [look.spacing_mm for look in looks if look.spacing_mm is not None]
    if not known:
        return None
    return tuple(float(f"{value:.3g}") for value in np.median(known, axis=0))


def _median_densities(looks: Sequence[_Look]) -> tuple[float, float]:
    low, high = np.median([look.densities for look in looks], axis=0)
    return float(low), float(high)
