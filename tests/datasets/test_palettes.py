"""Masks as PNG with palettes, and names of one patient: what could be learned or scored wrongly."""

import unicodedata

import numpy as np
import pytest
from PIL import Image

from bedside.datasets import list_cases, read_truth
from bedside.errors import DataError
from bedside.planning import survey_data
from bedside.planning.masks import count_values, read_values_held
from folder_makers import make_folder

RED, GREEN, GREY = (255, 0, 0), (0, 255, 0), (128, 128, 128)


def save_masks(folder, palettes, *, number=lambda index: 1):
    """Save each mask with a palette of its own: a square of one number on 0."""
    for index, (path, palette) in enumerate(
        zip(sorted((folder / "masks").iterdir()), palettes, strict=True)
    ):
        mask = np.zeros_like(np.asarray(Image.open(path)))
        mask[4:9, 5:11] = number(index)
        image = Image.fromarray(mask)
        image.putpalette([part for color in palette for part in color])
        image.save(path)


def make_pairs(path):
    folder = make_folder(path, patients=4)
    return folder, len(list_cases(folder))


def test_a_structure_whose_colour_is_grey_keeps_its_number_in_a_mask_of_its_own(tmp_path):
    folder, count = make_pairs(tmp_path)
    save_masks(folder, [((0, 0, 0), RED, GREY)] * count, number=lambda index: 1 + index % 2)
    cases = list_cases(folder)
    assert dict(count_values(read_values_held(cases))) == {0: count, 1: count // 2, 2: count // 2}
    assert read_truth(cases[1], (1, 2)).max() == 2


def test_palettes_that_number_their_colours_differently_are_refused(tmp_path):
    folder, count = make_pairs(tmp_path)
    palettes = [((0, 0, 0), RED, GREEN)] * (count - 1) + [((0, 0, 0), GREEN, RED)]
    save_masks(folder, palettes)
    with pytest.raises(DataError, match=r"number 1 is \(255, 0, 0\) in one and \(0, 255, 0\)"):
        read_values_held(list_cases(folder))


def test_palettes_may_differ_in_colours_that_no_mask_uses(tmp_path):
    folder, count = make_pairs(tmp_path)
    palettes = [((0, 0, 0), RED, (index, 9, 9)) for index in range(count)]
    save_masks(folder, palettes)
    assert dict(count_values(read_values_held(list_cases(folder)))) == {0: count, 1: count}


def test_a_patient_whose_name_is_spelled_in_two_ways_is_one_patient(tmp_path):
    folder = make_folder(tmp_path, patients=4)
    names = sorted({case.patient_id for case in list_cases(folder)})
    other = {
        names[0]: names[0].upper(),
        names[1]: unicodedata.normalize("NFD", "bär"),
        names[2]: unicodedata.normalize("NFC", "Bär"),
    }
    for part in ("images", "masks"):
        for file in sorted((folder / part).iterdir()):
            patient, _, rest = file.name.partition("_")
            # Of the first patient the second image alone.
            if patient in other and (patient != names[0] or rest.startswith("2")):
                file.rename(file.with_name(f"{other[patient]}_{patient}{rest}"))
    found = {case.patient_id for case in list_cases(folder)}
    assert len(found) == 3, found


def turn_by_exif(folder, orientation):
    """Save the images as JPEG that are to be turned."""
    for path in sorted((folder / "images").iterdir()):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.open(path).save(path.with_suffix(".jpg"), exif=exif)
        path.unlink()


def test_a_survey_counts_images_that_exif_turns_without_a_change_of_their_size(tmp_path):
    folder = make_folder(tmp_path, patients=5)
    assert survey_data(folder).turned == 0
    turn_by_exif(folder, 3)
    assert survey_data(folder).turned == 10


def test_a_mask_of_a_turned_image_is_refused_with_the_reason(tmp_path):
    folder = make_folder(tmp_path, patients=5)
    turn_by_exif(folder, 6)
    for path in sorted((folder / "masks").iterdir()):
        Image.open(path).transpose(Image.Transpose.ROTATE_270).save(path)
    with pytest.raises(DataError, match="By EXIF the image is to be turned"):
        survey_data(folder)
