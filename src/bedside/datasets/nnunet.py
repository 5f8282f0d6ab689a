"""The raw layout of nnU-Net (version 2): an index, and one file per channel.

Source: Isensee et al., Nature Methods 18, 2021, doi:10.1038/s41592-020-01008-z, and the
description of the format that comes with its code, `documentation/dataset_format.md`.
"""

import re
from collections.abc import Mapping
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
from bedside.datasets.pairing import find_file, list_stems
from bedside.errors import DataError
from bedside.io.formats import FORMATS

SHAPE = (
    "dataset.json with channel_names, labels and file_ending; imagesTr/CASE_0000.nii.gz, one per "
    "channel, and labelsTr/CASE.nii.gz"
)

ENDINGS = tuple(
    end for row in FORMATS.values() for end in row.label_suffixes if end in row.suffixes
)
"""Supported endings of files."""

_CHANNEL = re.compile(r"(.+)_(\d{4})")


def recognise(path: Path) -> bool:
    """Whether there is an index that names channels."""
    return has_key(path, "channel_names")


def list_cases(path: Path) -> list[Case]:
    """List the training cases.

    Names hold no patient, so each case counts as its own patient.

    Args:
        path: Folder of one data set, such as `Dataset004_Hippocampus`.

    Returns:
        Cases in order of their names, with their channels in the index's order.

    Raises:
        DataError: If the index cannot be read or asks for what is not supported, or a case
            lacks a channel or labels, or has a channel that the index does not name.
    """
    index = read_index(path)
    ending = _ending(index, path)
    channels: Any = index.get("channel_names")
    names = names_of_channels(channels, path, key="channel_names")
    values = _values(index, path)
    return [
        Case(
            case_id=name,
            patient_id=name,
            images=_images(path, name, channels=channels, ending=ending),
            truth=find_file(path / "labelsTr" / name, "labels", case=name, endings=(ending,)),
            truth_values=values,
            channel_names=names,
            value_names=names_of_values(index["labels"]),
        )
        for name in _names(path, channels=len(channels), ending=ending)
    ]


def _images(path: Path, name: str, *, channels: Mapping[str, Any], ending: str) -> tuple[Path, ...]:
    """Find a case's channels."""
    return tuple(
        find_file(
            path / "imagesTr" / f"{name}_{int(number):04d}",
            f"channel {number} ({channels[number]})",
            case=name,
            endings=(ending,),
        )
        for number in sorted(channels, key=int)
    )


def _names(path: Path, *, channels: int, ending: str) -> list[str]:
    """List the cases that have a channel or labels."""
    for folder in (path / "imagesTr", path / "labelsTr"):
        if not folder.is_dir():
            raise DataError(f"{folder} is missing; the layout is {SHAPE}.")
    names = set(list_stems(path / "labelsTr", (ending,)))
    for stem in list_stems(path / "imagesTr", (ending,)):
        parts = _CHANNEL.fullmatch(stem)
        if parts is None or int(parts[2]) >= channels:
            raise DataError(
                f"case {parts[1] if parts else stem}: {path / 'imagesTr' / stem}{ending} is none "
                f"of the {channels} channels that {INDEX} names; expected CASE_0000 and so on."
            )
        names.add(parts[1])
    return sorted(names)


def _values(index: Mapping[str, Any], path: Path) -> Mapping[int, int]:
    """Return the values that labels may have."""
    labels = index.get("labels")
    if not isinstance(labels, dict):
        raise DataError(f'{path / INDEX} has "labels" {labels!r}; expected names and values.')
    regions = [name for name, value in labels.items() if isinstance(value, list)]
    if regions:
        raise DataError(
            f"{path / INDEX} has labels that are regions, {', '.join(regions)}. List the values "
            "in the files as labels, and the regions in the recipe's [[deployment.regions]]."
        )
    if "ignore" in labels:
        raise DataError(
            f'{path / INDEX} has an "ignore" label; every voxel must have a label or be background.'
        )
    return table_of_values(labels.values(), path)


def _ending(index: Mapping[str, Any], path: Path) -> str:
    """Return the ending of the files."""
    ending = index.get("file_ending")
    if ending not in ENDINGS:
        raise DataError(
            f'{path / INDEX} has "file_ending" {ending!r}; expected one of {", ".join(ENDINGS)}.'
        )
    return str(ending)
