"""The Medical Segmentation Decathlon: `dataset.json` lists images and labels.

Source: Antonelli et al., Nature Communications 13, 2022, doi:10.1038/s41467-022-30695-9.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bedside.datasets.case import Case
from bedside.datasets.index import (
    INDEX,
    has_key,
    names_of_channels,
    names_of_values,
    read_index,
    table_of_values,
)
from bedside.datasets.pairing import NIFTI, find_file, split_ending
from bedside.errors import DataError

SHAPE = 'dataset.json whose "training" lists imagesTr/CASE.nii.gz and labelsTr/CASE.nii.gz'

# Tasks in which neighbouring numbers can be one person: both sides of a head were cropped
# apart. There, contiguous blocks of numbers take the place of patients.
_BLOCKS: Mapping[str, int] = {"Hippocampus": 30}
_NUMBER = re.compile(r"(\d+)$")


def recognise(path: Path) -> bool:
    """Whether there is an index that lists training cases."""
    return has_key(path, "training")


def list_cases(path: Path) -> list[Case]:
    """List the training cases of the index.

    Names hold no patient, so each case counts as its own patient. In the hippocampus data both
    sides of a person have neighbouring numbers: blocks of neighbours count as one patient, and
    networks are compared on pairs of neighbours. Several modalities are the channels along the
    fourth axis of an image's file.

    Args:
        path: Folder that holds `dataset.json`.

    Returns:
        Cases named as the image file, in order.

    Raises:
        DataError: If the index cannot be read, or a case lacks its image or its labels.
    """
    index = read_index(path)
    entries = index.get("training")
    if not isinstance(entries, list):
        raise DataError(f'{path / INDEX} has no list "training"; the layout is {SHAPE}.')
    block = _BLOCKS.get(str(index.get("name")), 0)
    labels = index.get("labels")
    values = table_of_values(labels if isinstance(labels, dict) else (), path)
    channels = names_of_channels(index.get("modality") or {}, path)
    known: dict[str, Any] = {
        "truth_values": values,
        "value_names": names_of_values(labels),
        "channel_names": channels,
        "in_one_file": len(channels) > 1,
    }
    cases = [replace(_case(path, entry, block=block), **known) for entry in entries]
    return sorted(cases, key=lambda case: case.case_id)


def _case(path: Path, entry: Any, *, block: int) -> Case:
    """Return the case of an entry of the index."""
    try:
        image, label = (_inside(path, entry[key]) for key in ("image", "label"))
    except (KeyError, TypeError) as error:
        raise DataError(
            f'{path / INDEX} lists {entry!r}; expected an "image" and a "label".'
        ) from error
    name = _stem(image)
    return Case(
        case_id=name,
        patient_id=_patient(name, block),
        person_id=_person(name) if block else None,
        unit="pairs of neighbouring volumes" if block else "cases",
        split_unit=f"blocks of {block} volumes" if block else None,
        images=(find_file(image.with_name(name), "image", case=name),),
        truth=find_file(label.with_name(_stem(label)), "labels", case=name),
    )


def _patient(name: str, block: int) -> str:
    """Return the patient of a case, or the block of neighbours that stands for it."""
    number = _NUMBER.search(name)
    if not (block and number):
        return name
    first = int(number[1]) // block * block
    return f"{first:03d}-{first + block - 1:03d}"


def _person(name: str) -> str | None:
    """Return a pair of neighbouring numbers, most likely the two sides of a person.

    Example:
        >>> _person("hippocampus_003"), _person("hippocampus_004")
        ('003-004', '003-004')
    """
    number = _NUMBER.search(name)
    if not number:
        return None
    first = int(number[1]) - 1 + int(number[1]) % 2
    return f"{first:03d}-{first + 1:03d}"


def _inside(path: Path, name: str) -> Path:
    """Resolve a path of the index, which must stay inside the data set."""
    file = path / name
    if not file.resolve().is_relative_to(path.resolve()):
        raise DataError(f"{path / INDEX} names {name}, outside {path}. Use relative names.")
    return file


def _stem(file: Path) -> str:
    """Return the name of a NIfTI file without its ending."""
    parted = split_ending(file.name, NIFTI)
    return parted[0] if parted else file.name
