"""Which steps an ablation drops, which it cannot, and which it adds."""

from dataclasses import replace

import pytest

from bedside.evaluation.pipeline_variants import list_variants
from bedside.spec import CropCentre, LocalCrf, ScaleRange, read_recipe

RECIPES = ["camus", "acdc", "hippocampus", "lidc", "vocalfolds"]


@pytest.mark.parametrize("name", RECIPES)
def test_each_step_is_dropped_alone_or_said_to_be_needed(name):
    spec = read_recipe(name).deployment
    variants, required = list_variants(spec)
    assert variants[0].spec == spec
    dropped = [variant for variant in variants if variant.kind == "without"]
    steps = (*spec.preprocess, *spec.postprocess)
    assert len(dropped) + len(required) == len(steps)
    for variant in dropped:
        before, after = variant.spec.preprocess, spec.preprocess
        fewer = len(spec.postprocess) - len(variant.spec.postprocess) + len(after) - len(before)
        ranges = sum(isinstance(step, ScaleRange) for step in variant.spec.preprocess)
        assert fewer + ranges == 1
        assert (variant.note != "") == (variant.spec.preprocess != spec.preprocess)
    assert len({variant.name for variant in variants}) == len(variants)


@pytest.mark.parametrize("name", RECIPES)
def test_candidates_change_just_one_thing_and_suit_the_axes(name):
    spec = read_recipe(name).deployment
    for variant in list_variants(spec)[0]:
        if variant.kind == "with":
            parts = ("preprocess", "postprocess", "refine", "priors")
            changed = [part for part in parts if getattr(variant.spec, part) != getattr(spec, part)]
            assert len(changed) == 1
            assert variant.spec.model == spec.model


def test_a_field_of_the_bundle_is_dropped_too_and_a_crop_that_makes_the_grid_is_not():
    spec = read_recipe("acdc").deployment
    with_crf = replace(spec, refine=(LocalCrf(),))
    assert "without local_crf" in [variant.name for variant in list_variants(with_crf)[0]]
    unfitted = replace(
        spec, preprocess=tuple(step for step in spec.preprocess if step.step != "fit")
    )
    assert CropCentre(share=0.85) in unfitted.preprocess
    assert "crop_centre" in [each.step for each in list_variants(unfitted)[1]]
