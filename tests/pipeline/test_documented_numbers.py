"""What docs/bundle-format.md says of resizing, labels and steps, held against OpenCV and us."""

import dataclasses
import math
import re
import typing
from pathlib import Path

import cv2
import numpy as np
import pytest

from bedside.spec import (
    CT_WINDOWS,
    Code,
    DeploymentSpec,
    InputSpec,
    Label,
    PostprocessStep,
    PreprocessStep,
    Prior,
    RefineStep,
    Region,
    SlidingWindowSpec,
)

PAGE = (Path(__file__).parents[2] / "docs" / "bundle-format.md").read_text("utf-8")
F32 = np.float32


def random_sizes(kind, count=60):
    """(n rows, n columns), (N rows, N columns) of resizes of one kind."""
    generator = np.random.default_rng(3)
    for _ in range(count):
        rows, columns, down, across = (int(n) for n in generator.integers(2, 50, 4))
        if kind == "shrinks":
            yield (rows + down, columns + across), (rows, columns)
        elif kind == "whole":
            times = generator.integers(1, 5, 2)
            yield (rows * int(times[0]), columns * int(times[1])), (rows, columns)
        elif kind == "mixed":
            yield (rows, columns + across), (rows + down, columns)
        else:
            yield (rows, columns), (rows + down, columns + across)


def draw(shape):
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, np.uint8)


def area_weights(old, new):
    weights = np.zeros((new, old), F32)
    step = 1 / (new / old)
    for i in range(new):
        begin, end = i * step, i * step + step
        for k in range(math.floor(begin), min(math.ceil(end), old)):
            overlap = min(end, k + 1) - max(begin, k)
            if overlap > 0.001:
                weights[i, k] = F32(overlap / min(step, old - begin))
    return weights


def by_area(image, shape):
    if all(old % new == 0 for old, new in zip(image.shape, shape, strict=True)):
        down, across = (old // new for old, new in zip(image.shape, shape, strict=True))
        total = image.reshape(shape[0], down, shape[1], across).sum(axis=(1, 3), dtype=np.int64)
        if (down, across) == (2, 2):
            return (total + 2) >> 2
        return np.rint(total.astype(F32) * F32(1 / (down * across)))
    rows, columns = (area_weights(*pair) for pair in zip(image.shape, shape, strict=True))
    lines, result = np.zeros((len(image), shape[1]), F32), np.zeros(shape, F32)
    for k in range(image.shape[1]):
        lines += image[:, k, None].astype(F32) * columns[None, :, k]
    for k in range(len(image)):
        result += lines[None, k] * rows[:, k, None]
    return np.rint(result)


def neighbours(old, new, *, area, columns):
    growth = new / old
    step = 1 / growth
    i = np.arange(new)
    if area:
        k = np.floor(i * step).astype(int)
        t = ((i + 1) - (k + 1) * growth).astype(F32)
        t = np.where(t <= 0, F32(0), t - np.floor(t))
    else:
        centre = ((i + 0.5) * step - 0.5).astype(F32)
        k = np.floor(centre).astype(int)
        t = centre - k.astype(F32)
    if columns:
        t = np.where((k < 0) | (k >= old - 1), F32(0), t)
    weights = [np.rint(2048 * part).astype(int) for part in (F32(1) - t, t)]
    return [np.clip(k + j, 0, old - 1) for j in (0, 1)], weights


def in_11_bits(image, shape, *, area):
    (k_y, w_y), (k_x, w_x) = (
        neighbours(old, new, area=area, columns=axis == 1)
        for axis, (old, new) in enumerate(zip(image.shape, shape, strict=True))
    )
    wide = image.astype(int)
    lines = [sum(w_x[j] * wide[k_y[row]][:, k_x[j]] for j in (0, 1)) for row in (0, 1)]
    parts = [(w_y[row][:, None] * (lines[row] >> 4)) >> 16 for row in (0, 1)]
    return (parts[0] + parts[1] + 2) >> 2


@pytest.mark.parametrize("kind", ["shrinks", "whole"])
def test_area_is_the_mean_of_what_a_pixel_covers(kind):
    for old, new in random_sizes(kind):
        image = draw(old)
        wanted = cv2.resize(image, new[::-1], interpolation=cv2.INTER_AREA)
        assert np.array_equal(by_area(image, new), wanted), (old, new)


@pytest.mark.parametrize(
    ("kind", "method"), [("mixed", cv2.INTER_AREA), ("grows", cv2.INTER_AREA), ("grows", 1)]
)
def test_where_an_axis_grows_two_neighbours_have_weights_of_11_bits(kind, method):
    for old, new in random_sizes(kind):
        image = draw(old)
        wanted = cv2.resize(image, new[::-1], interpolation=method)
        found = in_11_bits(image, new, area=method == cv2.INTER_AREA)
        assert np.array_equal(found, wanted), (old, new)


@pytest.mark.parametrize("kind", ["grows", "mixed", "shrinks"])
def test_logits_are_interpolated_about_their_centres(kind):
    def place(old, new):
        y = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
        first = y.astype(int)
        return first, np.minimum(first + 1, old - 1), (y - first).astype(F32)

    def fma(low, high, t):
        return (low.astype(np.float64) + (high - low).astype(np.float64) * t).astype(F32)

    for old, new in random_sizes(kind):
        plane = np.random.default_rng(0).standard_normal(old).astype(F32)
        first, second, t = place(old[1], new[1])
        lines = fma(plane[:, first], plane[:, second], t)
        first, second, t = place(old[0], new[0])
        found = fma(lines[first], lines[second], t[:, None])
        wanted = cv2.resize(plane, new[::-1], interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=5e-7)


def test_grey_is_a_sum_of_integers():
    image = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    red, green, blue = image.astype(int).transpose(2, 0, 1)
    grey = (9798 * red + 19235 * green + 3735 * blue + 16384) >> 15
    assert np.array_equal(grey, cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))


def test_components_of_a_frame_are_numbered_by_blocks_of_two_by_two():
    generator = np.random.default_rng(0)
    for _ in range(50):
        mask = (generator.random(generator.integers(2, 40, 2)) < 0.3).astype(np.uint8)
        count, parts = cv2.connectedComponents(mask, connectivity=8)
        rows, columns = np.indices(mask.shape) // 2
        block = rows * mask.shape[1] + columns
        firsts = [block[parts == number].min() for number in range(1, count)]
        assert firsts == sorted(firsts)


@pytest.mark.parametrize("union", [PreprocessStep, PostprocessStep, RefineStep, Prior])
def test_the_page_names_every_step_with_its_settings(union):
    for step in typing.get_args(union) or [union]:
        names = [field.name for field in dataclasses.fields(step) if field.name != "step"]
        assert f"`{step.step}`" in PAGE, step.step
        assert [name for name in names if f"`{name}`" not in PAGE] == [], step.step


def test_the_page_names_no_step_that_is_not_there():
    known = {
        step.step
        for union in (PreprocessStep, PostprocessStep, RefineStep, Prior)
        for step in typing.get_args(union) or [union]
    }
    tables = re.findall(r"\| step \|.*?\n\n", PAGE, re.DOTALL)
    named = {
        name
        for row in "".join(tables).split("\n|")
        for name in re.findall(r"`(\w+)`", row.removeprefix("|").split("|")[0])
    }
    assert named == known


@pytest.mark.parametrize(
    "settings", [DeploymentSpec, InputSpec, Label, Code, Region, SlidingWindowSpec]
)
def test_the_page_names_every_key_of_the_spec(settings):
    names = [field.name for field in dataclasses.fields(settings)]
    assert [name for name in names if f"`{name}`" not in PAGE] == []


def test_the_page_has_the_windows_of_ct():
    for name, (level, width) in CT_WINDOWS.items():
        assert f"{name} ({level:g}, {width:g})" in PAGE
