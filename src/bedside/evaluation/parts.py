"""Cases of one part of a bundle's split, without images that an earlier part holds too.

Whatever is measured, calibrated or fitted on a part asks here, so that the same copies are left
out of it everywhere.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bedside.bundle import Bundle
from bedside.datasets import Case, list_cases, relabel_for
from bedside.datasets.duplicates import leave_out_leaks
from bedside.errors import DataError

_FITTED, _COUNTED = "the images to fit to", "the images to count"


def _ignore(text: str) -> None:
    """Nobody wants to know."""


def select_part(
    cases: Sequence[Case],
    bundle: Bundle,
    part: str,
    *,
    data: Path,
    on_left_out: Callable[[str], None] = _ignore,
) -> list[Case]:
    """Cases of one part of a bundle's split, without copies of images of earlier parts.

    Images are read to be compared, but for the first part.

    Args:
        cases: All cases of the data set.
        bundle: Its split.
        part: "train", "val" or "test".
        data: Folder of the data set, for the error.
        on_left_out: Called with a sentence for each case that is left out.

    Raises:
        DataError: If none of the patients is there, the bundle says nothing of its split, or
            every image is in an earlier part too.
    """
    found = _of_part(cases, bundle, part)
    if not found:
        raise DataError(
            f"{data} holds none of the {len(bundle.split.get(part, ()))} patients in the part "
            f'"{part}" of {bundle.path.name}\'s split; name the folder of {bundle.card.data}.'
        )
    names = list(bundle.split)
    earlier = {name: bundle.split[name] for name in names[: names.index(part) + 1]}
    kept, left_out = leave_out_leaks(cases, earlier)
    left_out = tuple(text for text in left_out if f"left out of {part}:" in text)
    chosen = _of_part(kept, bundle, part)
    if not chosen:
        raise DataError(
            f'every image of {data} in the part "{part}" of {bundle.path.name}\'s split is in an '
            f"earlier part too: {left_out[0]} Name the data set that it was trained on."
        )
    for text in left_out:
        on_left_out(text)
    return chosen


def list_part(
    bundle: Bundle,
    data: Path,
    part: str,
    *,
    layout: str | None = None,
    on_left_out: Callable[[str], None] = _ignore,
) -> list[Case]:
    """Cases of one part of a bundle's split, with labels as the bundle knows them.

    Args:
        bundle: Its split, and the labels of mask values.
        data: Folder of the data set.
        part: "train", "val" or "test".
        layout: How the folder is laid out; None to detect it.
        on_left_out: Called with a sentence for each case that an earlier part holds too.

    Raises:
        DataError: If the folder holds none of the patients, or is laid out otherwise.
    """
    cases = list_cases(data, layout)
    chosen = select_part(cases, bundle, part, data=data, on_left_out=on_left_out)
    return relabel_for(chosen, bundle.card.relabel, spec=bundle.spec)


def list_validation(
    bundle: Bundle,
    data: Path,
    *,
    layout: str | None = None,
    on_left_out: Callable[[str], None] = _ignore,
) -> list[Case]:
    """List the cases of all validation patients of a bundle, and of no others.

    Args:
        bundle: Its split.
        data: Folder of the data set.
        layout: How the folder is laid out; None to detect it.
        on_left_out: Called with a sentence for each case that training holds too.

    Raises:
        DataError: If the bundle has no such patients, or the folder lacks some of them.
    """
    if bundle.card.untrained or not bundle.split["val"]:
        raise DataError(
            f"{bundle.path} names no validation patients: there is nothing to measure it on. "
            "A bundle that `bedside build` made of a trained run names them."
        )
    cases = list_cases(data, layout)
    wanted = set(bundle.split["val"])
    missing = sorted(wanted - {case.patient_id for case in cases})
    if missing and len(missing) < len(wanted):
        raise DataError(
            f"{data} lacks {len(missing)} of the {len(wanted)} validation patients of "
            f"{bundle.path.name}, {missing[0]} among them; expected all of them. "
            f"Name the whole folder of {bundle.card.data}."
        )
    chosen = select_part(cases, bundle, "val", data=data, on_left_out=on_left_out)
    return relabel_for(chosen, bundle.card.relabel, spec=bundle.spec)


def list_training(bundle: Bundle, data: Path, *, layout: str | None = None) -> list[Case]:
    """List the cases of a bundle's training patients that a folder holds; maybe none.

    Args:
        bundle: Its split.
        data: Folder of the data set.
        layout: How the folder is laid out; None to detect it.
    """
    chosen = _of_part(list_cases(data, layout), bundle, "train")
    return relabel_for(chosen, bundle.card.relabel, spec=bundle.spec)


def leave_out_own(
    own: Sequence[Case],
    others: Mapping[str, Sequence[Case]],
    *,
    is_fitted_to: Callable[[str, Case], bool],
    on_left_out: Callable[[str], None] = _ignore,
) -> dict[str, list[Case]]:
    """Leave out images of other data sets that are of the bundle's own, or were fitted to.

    Args:
        own: All cases of the bundle's data set.
        others: Cases of other data sets by folder.
        is_fitted_to: Whether a case of a folder is fitted to; the others are counted only.
        on_left_out: Called with a sentence for each case that is left out.

    Returns:
        The cases that are left, by folder.

    Raises:
        DataError: If every image of a folder is one of the bundle's own data set.
    """
    mine = "the bundle's data set"
    split: dict[str, list[str]] = {mine: [], _FITTED: [], _COUNTED: []}
    named: list[Case] = []
    places: dict[str, tuple[str, Case]] = {}
    for folder, cases in (("", own), *others.items()):
        for case in cases:
            # Data sets may name patients alike; and a folder may be one in which the other lies.
            patient = f"{folder}/{case.patient_id}"
            name = f"{folder}/{case.case_id}" if folder else case.case_id
            part = mine if not folder else _FITTED if is_fitted_to(folder, case) else _COUNTED
            split[part].append(patient)
            named.append(replace(case, patient_id=patient, case_id=name))
            places[name] = folder, case
    kept, left_out = leave_out_leaks(named, split)
    found: dict[str, list[Case]] = {folder: [] for folder in others}
    for case in kept:
        folder, original = places[case.case_id]
        if folder:
            found[folder].append(original)
    for folder, cases in found.items():
        if not cases:
            raise DataError(
                f"every image of {folder} is one of {mine}, or of another folder that was named; "
                "name data sets of other images."
            )
    for text in left_out:
        on_left_out(text)
    return found


def _of_part(cases: Sequence[Case], bundle: Bundle, part: str) -> list[Case]:
    patients = set(bundle.split.get(part, ()))
    return [case for case in cases if case.patient_id in patients]
