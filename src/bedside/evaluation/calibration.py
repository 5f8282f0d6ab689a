"""Calibrates the confidence of a bundle on its validation units, clean and with artefacts.

Training units help to weigh what masks look like, and count for nothing else.
Where channels may be missing, each unit is seen without each of them too.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from bedside.datasets.case import Case, read_case
from bedside.errors import DataError, InputError
from bedside.evaluation.cases import segment_named
from bedside.evaluation.confidence_fit import LEVEL, Drawn, fit_structure
from bedside.evaluation.missing import leave_out, list_subsets
from bedside.evaluation.planted import Artefact, plant_artefact
from bedside.evaluation.planted_chance import choose_artefacts
from bedside.pipeline.segmenter import Segmenter
from bedside.report.own_measurements import measure_structure
from bedside.spec.card import MIN_UNITS, count_units
from bedside.spec.confidence import Confidence, StructureModel
from bedside.stream.heart import find_values, simpson_volume
from bedside.volume import ImageSequence, LabelMap

ARTEFACTS_PER_CASE = 5
"""Planted into each validation case, one at a time."""

ARTEFACTS_PER_TRAINING_CASE = 2
"""Planted into each training case, which there are more of."""

_PHASES = "_ED", "_ES"


@dataclass(frozen=True)
class Image:
    """An image as the network drew it.

    Attributes:
        case_id: Name of the case.
        unit: Its patient, or another independent unit.
        artefact: What was planted; "" for nothing.
        sums: (F, K - 1, statistics); (1, ...) of a whole scan.
        counts: (F, K - 1, 3) pixels in both, of the truth, and of the prediction.
        own: Measurements of each structure, (predicted, true), by its place and their name.
        cavity_ml: Volume of the LV cavity in one plane, (predicted, true); None without one.
    """

    case_id: str
    unit: str
    artefact: str
    sums: np.ndarray = field(repr=False)
    counts: np.ndarray = field(repr=False)
    own: dict[tuple[int, str], tuple[float, float]] = field(default_factory=dict, repr=False)
    cavity_ml: tuple[float, float] | None = None


def calibrate(
    segmenter: Segmenter,
    cases: Sequence[Case],
    *,
    training: Sequence[Case] = (),
    seed: int = 0,
    on_case: Callable[[int], None] = lambda done: None,
) -> Confidence:
    """Calibrate how sure masks are.

    Args:
        segmenter: The bundle, loaded.
        cases: All validation cases.
        training: Training cases, which help to weigh features.
        seed: Seed of the planted artefacts.
        on_case: Called with the number of cases done.

    Raises:
        DataError: If there are too few independent units, or labels do not fit.
        InputError: If an image is refused as it is.
    """
    units = {case.person for case in cases}
    if len(units) < MIN_UNITS:
        raise DataError(
            f"the validation part has {len(cases)} cases of "
            f"{count_units(len(units), cases[0].unit)}; a calibration needs at least {MIN_UNITS} "
            f"{cases[0].unit}. Without one, masks have no confidence and measurements no interval."
        )
    drawn: tuple[list[Image], list[Image]] = [], []
    for count, case in enumerate((*cases, *training), 1):
        helps = count > len(cases)
        planted = choose_artefacts(
            segmenter.spec.input.modality, case.person, seed=seed,
            count=ARTEFACTS_PER_TRAINING_CASE if helps else ARTEFACTS_PER_CASE,
        )  # fmt: skip
        drawn[helps].extend(draw_case(segmenter, case, planted, seed=seed))
        on_case(count)
    return fit_confidence(segmenter, drawn[0], unit=cases[0].unit, training=drawn[1])


def fit_confidence(
    segmenter: Segmenter,
    images: Sequence[Image],
    *,
    unit: str,
    training: Sequence[Image] = (),
) -> Confidence:
    """Fit the models of all structures on images that were drawn.

    Args:
        segmenter: Whose labels they are.
        images: Of validation units, clean ones and with artefacts.
        unit: The independent unit, in the plural.
        training: The same of training units, which help to weigh features.

    Raises:
        DataError: If no structure is drawn in enough units.
    """
    spec = segmenter.spec
    is_volume = spec.model.spatial_dims == 3
    are_slices = any(len(image.sums) > 1 for image in images)
    levels: dict[str, tuple[StructureModel, ...]] = {"frames": (), "scans": ()}
    for level in levels:
        if is_volume if level == "frames" else not (is_volume or are_slices):
            continue
        models = [
            fit_structure(
                label.name, place, list(list_drawn(images, place, scans=level == "scans")),
                with_image=not is_volume,
                training=list(list_drawn(training, place, scans=level == "scans")),
            )
            for place, label in enumerate(spec.labels)
        ]  # fmt: skip
        levels[level] = tuple(model for model in models if model is not None)
    if not any(levels.values()):
        raise DataError(f"no structure is drawn in {MIN_UNITS} {unit} or more.")
    count = len({image.unit for image in images})
    helped = len({image.unit for image in training})
    return Confidence(
        **levels, level=LEVEL, unit=unit, units=count, images=len(images), training_units=helped
    )


def draw_case(
    segmenter: Segmenter, case: Case, planted: Sequence[Artefact], *, seed: int = 0
) -> Iterator[Image]:
    """Segment a case as it is, with each artefact, and without each channel that may be missing.

    Spoilt images that are refused are left out.

    Raises:
        InputError: If it is refused as it is.
    """
    source, truth = read_case(case, tuple(label.value for label in segmenter.spec.labels))
    segmenter.pipeline.describes = True

    def vary() -> Iterator[tuple[str, ImageSequence, np.ndarray]]:
        whole, given = source.sequence, segmenter.spec.input
        yield "", whole, truth
        for each in planted:
            yield each.name, *plant_artefact(each, whole, truth, name=case.case_id, seed=seed)
        for missing in list_subsets(given):
            if len(missing) == 1:
                yield f"without {missing[0]}", leave_out(whole, given, missing), truth

    for artefact, sequence, expected in vary():
        try:
            found = segment_named(segmenter, sequence, case)
        except InputError:
            if not artefact:
                raise
            continue
        assert found.sums is not None  # the pipeline describes
        own, cavity_ml = _measure(segmenter, case, expected, found.labels)
        yield Image(
            case.case_id, case.person, artefact, found.sums,
            _count(segmenter, expected, found.labels.array), own, cavity_ml,
        )  # fmt: skip


def list_drawn(images: Sequence[Image], place: int, *, scans: bool) -> Iterator[Drawn]:
    """One structure in all frames, or scans, in which it is drawn, with what was measured.

    Args:
        images: As they were drawn.
        place: Which structure.
        scans: Whether the slices of a scan count together.
    """
    changes = _measure_beats(images, place)
    for image in images:
        sums, counts = image.sums, image.counts
        if scans:
            sums, counts = sums.sum(axis=0)[None], counts.sum(axis=0)[None]
        for own_sums, (both, true, drawn) in zip(sums, counts[:, place], strict=False):
            if not drawn or not own_sums[place, 0]:
                continue
            measured = {name: pair for (at, name), pair in image.own.items() if at == place}
            if true:
                measured["volume" if scans else "area"] = (float(drawn), float(true))
            measured |= changes.get((image.case_id, image.artefact), {})
            dice = float(2 * both / (true + drawn))
            yield Drawn(image.unit, not image.artefact, own_sums, dice, measured)


def _measure_beats(
    images: Sequence[Image], place: int
) -> dict[tuple[str, str], dict[str, tuple[float, float]]]:
    """Changes from end-diastole to end-systole, where a patient has a frame of each."""
    by_name = {(image.case_id, image.artefact): image for image in images}
    found: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}
    for (name, artefact), full in by_name.items():
        small = by_name.get((name.removesuffix(_PHASES[0]) + _PHASES[1], artefact))
        if not name.endswith(_PHASES[0]) or small is None or len(full.counts) > 1:
            continue
        areas = [image.counts[0, place, [2, 1]].astype(float) for image in (full, small)]
        pairs = {"fractional_area_change": areas}
        if place == 0 and full.cavity_ml and small.cavity_ml:
            pairs["ejection_fraction"] = [np.array(full.cavity_ml), np.array(small.cavity_ml)]
        found[name, artefact] = {
            key: tuple((1 - np.array(low) / high).tolist())
            for key, (high, low) in pairs.items()
            if min(high) > 0
        }
    return found


def _count(segmenter: Segmenter, truth: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Pixels of each structure in both, in the truth, and in the prediction, frame by frame."""
    axes = (1, 2)
    return np.stack(
        [
            np.stack([(true & drawn).sum(axes), true.sum(axes), drawn.sum(axes)], axis=1)
            for label in segmenter.spec.labels
            for true, drawn in [(truth == label.value, labels == label.value)]
        ],
        axis=1,
    )


def _measure(
    segmenter: Segmenter, case: Case, truth: np.ndarray, labels: LabelMap
) -> tuple[dict[tuple[int, str], tuple[float, float]], tuple[float, float] | None]:
    """What is measured on one kind of structure alone; of single frames only."""
    own: dict[tuple[int, str], tuple[float, float]] = {}
    if len(truth) > 1:
        return own, None
    expected = LabelMap(truth.astype(np.uint8), labels.spacing_mm)
    for place, label in enumerate(segmenter.spec.labels):
        true = measure_structure(expected, label)
        for name, (value,) in measure_structure(labels, label).items():
            reference = case.reference.get(name, true[name][0])
            if value is not None and reference is not None:
                own[place, name] = (value, reference)
    values = find_values(segmenter.spec.labels)
    if values is None or values[0] != 1:
        return own, None
    spacing_mm = labels.spacing_mm or (1.0, 1.0)
    volumes = [
        simpson_volume(each.array[0], values, spacing_mm=spacing_mm) for each in (labels, expected)
    ]
    return own, None if None in volumes else (float(volumes[0] or 0), float(volumes[1] or 0))
