import tomllib
from itertools import combinations

import numpy as np
import pytest

from bedside.planning.colors import choose_color, to_oklab
from bedside.spec import shipped_recipes

# What a person sees who has no cones for red, or for green; on linear values.
# Source: Machado, Oliveira and Fernandes 2009, doi:10.1109/TVCG.2009.113, severity 1.
_EYES = {
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
               [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                 [-0.011820, 0.042940, 0.968881]],
}  # fmt: skip


def see(colors, eyes):
    srgb = np.asarray(colors) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(_EYES[eyes]).T, 0, 1)
    return 255 * np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)


def nearest(colors):
    places = to_oklab(colors)
    return min(float(np.linalg.norm(one - other)) for one, other in combinations(places, 2))


# 0.02 can just be told apart side by side; lines far apart need several times as much.
@pytest.mark.parametrize(
    ("count", "normal", "blind"), [(6, 0.17, 0.12), (10, 0.13, 0.08), (16, 0.11, 0.065)]
)
def test_colours_are_far_apart_to_every_eye(count, normal, blind):
    colors = [choose_color(index) for index in range(count)]
    assert nearest(colors) > normal
    assert all(nearest(see(colors, eyes)) > blind for eyes in _EYES)


def test_colours_after_the_table_are_new_and_do_not_depend_on_their_number():
    colors = [choose_color(index) for index in range(60)]
    assert nearest(colors) > 0.04
    assert [choose_color(index) for index in reversed(range(60))] == colors[::-1]


def test_every_colour_can_be_seen_on_black():
    assert to_oklab([choose_color(index) for index in range(60)])[:, 0].min() > 0.45


@pytest.mark.parametrize("path", shipped_recipes(), ids=lambda path: path.name)
def test_colours_of_a_recipe_are_far_apart(path):
    labels = tomllib.loads(path.read_text()).get("deployment", {}).get("labels", [])
    if len(labels) > 1:
        assert nearest([label["color"] for label in labels]) > 0.11
