import dataclasses
import json

import pytest

from bedside import spec
from bedside.errors import SpecError
from bedside.spec import (
    DeploymentSpec,
    ModelSpec,
    NotTouching,
    Recipe,
    find_recipe,
    from_mapping,
    read_recipe,
    to_mapping,
)

RECIPE = "camus"
PRE, POST = ("deployment", "preprocess"), ("deployment", "postprocess")
REFINE, PRIORS = ("deployment", "refine"), ("deployment", "priors")


def change(mapping, path, value):
    *parents, last = path
    for key in parents:
        mapping = mapping[key]
    mapping[last] = value


def test_settings_survive_json():
    recipe = read_recipe(RECIPE)
    assert from_mapping(Recipe, json.loads(json.dumps(to_mapping(recipe)))) == recipe


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("training", "epocs"), 3, 'unknown key "training.epocs". Did you mean "epochs"?'),
        (("deployment", "regions"), [{"name": "whole", "labels": [1, 4]}], "of labels [1, 4]"),
        (("deployment", "regions"), [{"name": "whole", "labels": []}], "of labels []"),
        (("deployment", "regions"), [{"name": "LV cavity", "labels": [1]}], "the same name"),
        (("training", "epochs"), "3", "training.epochs is '3'; expected int"),
        (("training", "epochs"), True, "training.epochs is True; expected int"),
        (("data", "relabel"), {"white": 1}, "relabel has white = 1; expected a value above 0"),
        (("data", "relabel"), {"0": 1}, "relabel has 0 = 1"),
        (("data", "relabel"), {"255": "1"}, "data.relabel.255 is '1'; expected int"),
        (("data", "relabel"), [255, 1], "data.relabel is [255, 1]; expected a table"),
        (("deployment", "preprocess", 0, "step"), "gray", "choose one of grey"),
        (("deployment", "preprocess", 3, "low"), 100.0, "need 0 <= low < high"),
        (("deployment", "model", "num_classes"), 3, "3 labels and background make 4"),
        (("deployment", "model", "levels", 0, "block"), "swin", "expected one of conv, reparam"),
        (("deployment", "model", "levels", 1, "windw"), 8, 'Did you mean "window"?'),
        (("deployment", "model", "levels", 1, "window"), "8", "expected int or tuple"),
        (("deployment", "model", "levels", 1, "num_heads"), 0, "num_heads is 0"),
        (("deployment", "model", "levels", 2, "window"), [4, 8, 2], "3 windows cannot share 4"),
        (("deployment", "model", "spatial_dims"), 4, "model.spatial_dims is 4; choose one of 2, 3"),
        (("deployment", "model", "stem_stride"), 1, "logit_stride is 2; expected at most"),
        (("deployment", "labels", 0, "value"), 2, "label values must be 1, 2, 3"),
        (("deployment", "input", "size_px"), [256], "size_px is (256,); model.spatial_dims is 2"),
        (("deployment", "input", "channel_names"), ["a", "b"], "expected 1 different names"),
        (("deployment", "input", "optional_channels"), ["t2"], "has t2; expected some of []"),
        (("schema_version",), 7, "schema_version is 7"),
        (PRE, [{"step": "window_preset", "preset": "lungs"}], "choose one of 'abdomen'"),
        (PRE, [{"step": "fit"}, {"step": "window_level", "level": 40, "width": 400}], "first step"),
        (PRE, [{"step": "z_score"}, {"step": "scale_percentile"}], "in front of z_score"),
        (PRE, [{"step": "scale_range"}, {"step": "clahe"}], "in front of scale_range"),
        (PRE, [{"step": "scale_range", "low": -2}], "low is -2; choose one of -1, 0"),
        (PRE, [{"step": "clahe", "clip": 0.5}], "clip is 0.5"),
        (PRE, [{"step": "non_local_means", "patch_px": 4}], "patch_px is 4; expected an odd"),
        (PRE, [{"step": "fan_gain", "target": 1.0}], "0 < target < 1"),
        (PRE, [{"step": "crop_body", "margin": -0.1}], "margin is -0.1"),
        (PRE, [{"step": "orient"}], "not for a network of 2 axes"),
        (POST, [{"step": "opening"}], "just one of radius_px, radius_mm, not 0"),
        (POST, [{"step": "closing", "radius_px": 1, "radius_mm": 1}], "not 2"),
        (POST, [{"step": "opening", "radius_mm": 0}], "radius_mm is 0"),
        (POST, [{"step": "drop_small", "min_ml": 1}], "min_ml has no meaning in 2 axes"),
        (POST, [{"step": "keep_largest", "labels": [4]}], "of labels [4]; expected some of"),
        (REFINE, [{"step": "local_crf", "dilations": []}], "dilations is []"),
        (REFINE, [{"step": "local_crf", "sigma": 0}], "sigma is 0"),
        (REFINE, [{"step": "dense_crf"}], "no longer has (this is 0.1.0): local_crf loses less"),
        (PRIORS, [{"step": "components", "label": 4}], "of labels [4]; expected different"),
        (PRIORS, [{"step": "apart", "first": 1, "second": 1}], "of labels [1, 1]"),
        (PRIORS, [{"step": "components", "label": 1, "action": "mend"}], "choose one of 'repair'"),
        (PRIORS, [{"step": "size", "label": 1, "unit": "ml"}], "ml has no meaning in 2 axes"),
        (
            PRIORS,
            [{"step": "size", "label": 1, "unit": "px", "least": 2, "most": 1}],
            "below least",
        ),
        (
            PRIORS,
            [{"step": "eccentricity", "label": 1, "most": 0.9, "action": "repair"}],
            "there is no repair",
        ),
        (PRIORS, [{"step": "encloses", "outer": 2, "inner": 1, "most_open": 2}], "0 to 1"),
    ],
)
def test_a_setting_that_means_nothing_is_named(path, value, message):
    mapping = to_mapping(read_recipe(RECIPE))
    change(mapping, path, value)
    with pytest.raises(SpecError) as caught:
        from_mapping(Recipe, mapping)
    assert message in str(caught.value)


def test_a_missing_setting_is_named():
    mapping = to_mapping(read_recipe(RECIPE).deployment)
    del mapping["task"]
    with pytest.raises(SpecError, match='missing key "task"'):
        from_mapping(DeploymentSpec, mapping)


def test_a_recipe_that_is_no_toml_names_the_file(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("epochs = = 3")
    with pytest.raises(SpecError, match=r"broken\.toml is not TOML"):
        read_recipe(path)
    with pytest.raises(SpecError, match="cannot read"):
        read_recipe(tmp_path / "none.toml")


def write_named(tmp_path, *lines):
    text = find_recipe(RECIPE).read_text()
    begin, end = text.index("[deployment.model]"), text.index("[[deployment.postprocess]]")
    path = tmp_path / "named.toml"
    model = "\n".join(["[deployment.model]", "in_channels = 1", "num_classes = 4", *lines])
    path.write_text(f"{text[:begin]}{model}\n\n{text[end:]}")
    return path


def test_a_recipe_may_name_its_model_and_say_what_differs(tmp_path):
    named = read_recipe(write_named(tmp_path, 'name = "tiny"'))
    assert named == read_recipe(RECIPE)
    wider = read_recipe(write_named(tmp_path, 'name = "tiny"', "decoder_channels = 48"))
    model = named.deployment.model
    assert wider.deployment.model == dataclasses.replace(model, decoder_channels=48)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['name = "tinny"'], 'no model "tinny" with 2 axes; choose one of nano, tiny'),
        (['name = "tiny"', "spatial_dims = 4"], "with 4 axes"),
        (['name = "tiny"', "decodr_channels = 4"], 'Did you mean "decoder_channels"'),
        (['name = "tiny"', "decoder_channels = 0"], "decoder_channels is 0"),
    ],
)
def test_a_faulty_named_model_is_refused(tmp_path, lines, message):
    with pytest.raises(SpecError, match=r"named\.toml: .*" + message):
        read_recipe(write_named(tmp_path, *lines))


def test_a_recipe_says_only_what_differs_from_the_one_it_extends(tmp_path):
    base = tmp_path / "base.toml"
    base.write_text(find_recipe(RECIPE).read_text())
    path = tmp_path / "other.toml"
    path.write_text(
        'extends = "base.toml"\n[training]\nepochs = 3\n[deployment.model]\nname = "nano"\n'
    )
    recipe, origin = read_recipe(path), read_recipe(base)
    assert recipe.training == dataclasses.replace(origin.training, epochs=3)
    assert recipe.data == origin.data
    assert recipe.deployment.model.levels != origin.deployment.model.levels
    assert recipe.deployment.model.num_classes == 4


def test_a_recipe_may_leave_out_a_table_of_the_one_it_extends(tmp_path):
    (tmp_path / "base.toml").write_text(find_recipe(RECIPE).read_text())
    path = tmp_path / "other.toml"
    path.write_text('extends = "base.toml"\ndistill = false\n')
    assert read_recipe(tmp_path / "base.toml").distill is not None
    assert read_recipe(path).distill is None


def test_a_recipe_that_extends_itself_is_refused(tmp_path):
    path = tmp_path / "circle.toml"
    path.write_text('extends = "circle.toml"\n')
    with pytest.raises(SpecError, match="extends itself"):
        read_recipe(path)


def test_every_kind_of_step_survives_json():
    deployment = dataclasses.replace(
        read_recipe(RECIPE).deployment,
        preprocess=(
            spec.WindowPreset(preset="lung"), spec.CropBody(threshold=0.1), spec.Fit(),
            spec.Clahe(), spec.NonLocalMeans(), spec.ScaleRange(low=-1), spec.ZScore(),
        ),
        postprocess=(
            spec.DropSmall(min_mm2=2.5), spec.Opening(radius_px=1), spec.Closing(radius_mm=2),
        ),
        refine=(spec.LocalCrf(),),
        priors=(
            spec.ComponentCount(label=1), spec.Surrounds(outer=2, inner=1, open_to=(3,)),
            spec.NotTouching(first=1, second=3), spec.Size(label=1, unit="mm2", most=9),
            spec.Eccentricity(label=1, most=0.9), spec.LeftRight(left=1, right=2),
        ),
    )  # fmt: skip
    text = json.dumps(to_mapping(deployment))
    assert from_mapping(DeploymentSpec, json.loads(text)) == deployment


def test_a_frame_bundle_that_names_the_slices_of_non_local_means_still_reads():
    step = from_mapping(spec.NonLocalMeans, {"step": "non_local_means", "slices": 3})
    assert step == spec.NonLocalMeans()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"refine": (spec.LocalCrf(),)}, '"local_crf" is not for a network of 3 axes'),
        ({"preprocess": (spec.Clahe(),)}, '"clahe" is not for a network of 3 axes in bedside 0.1'),
        ({"preprocess": (spec.NonLocalMeans(),)}, '"non_local_means" is not for a network of 3'),
        ({"preprocess": (spec.FanGain(),)}, '"fan_gain" is not for a network of 3 axes'),
        ({"preprocess": (spec.Orient(), spec.CropBody())}, "make it the first step"),
        ({"postprocess": (spec.DropSmall(min_mm2=1),)}, "min_mm2 has no meaning in 3 axes"),
        ({"priors": (spec.Size(label=1, unit="mm2"),)}, "mm2 has no meaning in 3 axes"),
    ],
)
def test_what_makes_no_sense_for_scans_is_refused(change, message):
    deployment = read_recipe("hippocampus").deployment
    with pytest.raises(SpecError, match=message):
        dataclasses.replace(deployment, **change)


def test_names_of_schema_version_1_are_read_for_good():
    model = {
        "architecture": "hybrid", "in_channels": 1, "num_classes": 2, "stem_channels": 8,
        "decoder_channels": 8, "axes": 3,
        "levels": [{"block": "conv", "channels": 8, "depth": 1, "shared": "nothing"}],
    }  # fmt: skip
    read = from_mapping(ModelSpec, model)
    assert (read.spatial_dims, read.levels[0].shared) == (3, "none")
    assert "axes" not in to_mapping(read)
    recipe = to_mapping(read_recipe(RECIPE))
    change(recipe, ("schema_version",), 1)
    change(recipe, PRIORS, [{"step": "apart", "first": 1, "second": 2}])
    upgraded = from_mapping(Recipe, recipe)
    assert upgraded.deployment.priors == (NotTouching(first=1, second=2),)
    assert upgraded.schema_version == 2
    with pytest.raises(SpecError, match='unknown key "axes"'):
        from_mapping(ModelSpec, {**model, "spatial_dims": 3})
