import cv2
import numpy as np
import pytest

from bedside.datasets import Case
from bedside.datasets.duplicates import (
    SIMILARITY,
    describe_image,
    find_shared_images,
    leave_out_leaks,
)
from layout_makers import write_nifti, write_png


def make_picture(seed: int, shape=(120, 160)) -> np.ndarray:
    """A smooth picture with some structure, (H, W) uint8."""
    noise = np.random.default_rng(seed).random(shape, dtype=np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 5)
    return cv2.normalize(smooth, None, 10, 230, cv2.NORM_MINMAX).astype(np.uint8)


def as_case(folder, name, picture) -> Case:
    """A case whose patient is what stands in front of the underscore."""
    path = write_png(folder / f"{name}.png", picture)
    return Case(name, name.partition("_")[0], (path,), path)


def compress(picture: np.ndarray, quality: int) -> np.ndarray:
    _, content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)


COPIES = {
    "as it is": lambda picture: picture,
    "brighter": lambda picture: (0.8 * picture + 30).astype(np.uint8),
    "compressed": lambda picture: compress(picture, 60),
    "smaller": lambda picture: cv2.resize(
        picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA
    ),
    "mirrored": lambda picture: picture[:, ::-1],
    "upside down": lambda picture: picture[::-1],
    "turned by half": lambda picture: picture[::-1, ::-1],
    "mirrored and compressed": lambda picture: compress(picture[:, ::-1], 60),
    "in colour": lambda picture: np.repeat(picture[..., None], 3, axis=2),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_a_copy_under_another_patient_is_found(tmp_path, copy):
    picture = make_picture(0)
    cases = [
        as_case(tmp_path, "a_1", picture),
        as_case(tmp_path, "b_1", make_picture(1)),
        as_case(tmp_path, "c_1", copy(picture)),
    ]
    [pair] = find_shared_images(cases)
    assert (pair.first.case_id, pair.second.case_id) == ("a_1", "c_1")
    assert pair.similarity >= SIMILARITY


def test_equal_images_are_called_so_and_others_nearly(tmp_path):
    picture = make_picture(0)
    cases = [as_case(tmp_path, f"{name}_1", picture) for name in "ab"]
    assert find_shared_images(cases)[0].describe() == "a_1 and b_1 are the same image"
    cases[1] = as_case(tmp_path, "b_1", compress(picture, 60))
    assert "nearly the same image" in find_shared_images(cases)[0].describe()
    cases[1] = as_case(tmp_path, "b_1", picture[:, ::-1])
    assert find_shared_images(cases)[0].describe() == "a_1 and b_1 are the same image, mirrored"
    # One that is its own mirror image is not called mirrored.
    even = np.maximum(picture, picture[:, ::-1])
    cases = [as_case(tmp_path, f"{name}_1", even) for name in "ab"]
    assert find_shared_images(cases)[0].describe() == "a_1 and b_1 are the same image"


def test_images_of_one_patient_and_images_of_nothing_are_no_copies(tmp_path):
    picture, empty = make_picture(0), np.full((30, 40), 90, np.uint8)
    cases = [as_case(tmp_path, f"a_{number}", picture) for number in (1, 2)]
    cases += [as_case(tmp_path, f"{name}_1", empty) for name in "bc"]
    assert find_shared_images(cases) == []
    assert describe_image(cases[-1]) is None


@pytest.mark.parametrize("axes", [(), (0,), (1,), (2,), (0, 1), (0, 1, 2)])
def test_a_scan_is_compared_by_slices_spread_over_it(tmp_path, axes):
    scans = [np.stack([make_picture(10 * n + z, (40, 48)) for z in range(12)]) for n in range(2)]
    cases = []
    for name, scan in (("a", scans[0]), ("b", scans[1]), ("c", np.flip(scans[0], axes))):
        path = write_nifti(tmp_path / f"{name}.nii.gz", scan.T)
        cases.append(Case(f"{name}_1", name, (path,), path))
    [pair] = find_shared_images(cases)
    assert (pair.first.patient_id, pair.second.patient_id) == ("a", "c")
    assert pair.mirrored == bool(axes)


def test_an_image_that_cannot_be_read_is_left_to_its_reader(tmp_path):
    cases = [as_case(tmp_path, f"{name}_1", make_picture(0)) for name in "ab"]
    (tmp_path / "b_1.png").write_bytes(b"no picture")
    seen = []
    assert find_shared_images(cases, on_case=seen.append) == []
    assert seen == [1, 2]


def test_copies_are_left_out_of_the_later_part_only(tmp_path):
    pictures = {"a_1": 0, "a_2": 1, "b_1": 2, "c_1": 0, "c_2": 3, "d_1": 2, "e_1": 1}
    cases = [as_case(tmp_path, name, make_picture(seed)) for name, seed in pictures.items()]
    split = {"train": ("a",), "val": ("b",), "test": ("c", "d")}
    kept, words = leave_out_leaks(cases, split)
    # e is in no part.
    assert [case.case_id for case in kept] == ["a_1", "a_2", "b_1", "c_2", "e_1"]
    assert words == (
        "c_1 is left out of test: a_1 and c_1 are the same image, and a_1 is in train.",
        "d_1 is left out of test: b_1 and d_1 are the same image, and b_1 is in val.",
    )
