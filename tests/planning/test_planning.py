"""A recipe written from a data set says what is true of it, and trains without an edit."""

import json

import numpy as np
import pytest

from bedside.datasets import list_recipe_cases, read_truth
from bedside.errors import DataError, SplitError
from bedside.planning import Wishes, choose_recipe, survey_data, to_toml
from bedside.planning.schedule import FEWEST_PATIENTS, choose_split
from bedside.spec import WindowLevel, read_recipe
from bedside.training.split import split_patients
from folder_makers import make_folder, make_scans
from makers import write_picture


def plan(path, wishes=None, **options):
    survey = survey_data(path, **options)
    return choose_recipe(survey, wishes or Wishes()), survey


def steps(kind):
    return [step.step for step in kind]


@pytest.mark.parametrize("model", ["nano", "tiny", "small-conv", "base"])
@pytest.mark.parametrize(
    "make", [make_folder, make_scans, lambda path: make_folder(path, colour=True, values=(1, 2, 3))]
)
def test_what_is_written_reads_as_what_was_chosen(tmp_path, make, model):
    chosen, survey = plan(make(tmp_path / 'a "b"'), Wishes(model=model))
    recipe = tmp_path / "r.toml"
    recipe.write_text(to_toml(chosen, survey), encoding="utf-8")
    assert read_recipe(recipe) == chosen.recipe


def test_masks_of_0_and_255_become_label_1_for_whoever_reads_the_recipe(tmp_path):
    chosen, survey = plan(make_folder(tmp_path / "data"))
    assert chosen.recipe.data.relabel == {"255": 1}
    case = list_recipe_cases(chosen.recipe)[0]
    truth = read_truth(case, (1,))
    assert np.unique(truth).tolist() == [0, 1]
    assert (truth.shape, survey.structures[0].masks) == ((1, 72, 96), 24)


def test_values_with_gaps_become_labels_in_their_order(tmp_path):
    chosen, _ = plan(make_folder(tmp_path / "data", values=(3, 1, 64)))
    assert chosen.recipe.data.relabel == {"3": 2, "64": 3}
    truth = read_truth(list_recipe_cases(chosen.recipe)[0], (1, 2, 3))
    assert np.unique(truth).tolist() == [0, 1, 2, 3]


def test_a_value_that_a_relabelled_one_took_the_place_of_is_refused(tmp_path):
    folder = make_folder(tmp_path / "data")
    chosen, _ = plan(folder)
    write_picture(np.full((72, 96), 1, np.uint8), folder / "masks" / "p01_1.png")
    with pytest.raises(DataError, match=r"p01_1.*holds the label 1; expected only 0, 255"):
        read_truth(list_recipe_cases(chosen.recipe)[0], (1,))


def test_an_image_is_seen_at_its_aspect_in_multiples_of_32(tmp_path):
    folder = make_folder(tmp_path / "data", patients=5)
    assert plan(folder)[0].recipe.deployment.input.size_px == (96, 96)
    for file in (*folder.glob("images/*"), *folder.glob("masks/*")):
        write_picture(np.full((600, 800), 200, np.uint8), file)
    assert plan(folder)[0].recipe.deployment.input.size_px == (192, 256)


def test_a_small_structure_gets_a_finer_input(tmp_path):
    folder = make_folder(tmp_path / "data", patients=5)
    small = np.zeros((600, 800), np.uint8)
    small[300:320, 400:420] = 1
    for file in folder.glob("images/*"):
        write_picture(np.full((600, 800), 90, np.uint8), file)
        write_picture(small, folder / "masks" / file.name)
    assert plan(folder)[0].recipe.deployment.input.size_px == (256, 320)


def test_repairs_are_those_that_the_masks_never_contradict(tmp_path):
    whole = plan(make_folder(tmp_path / "whole"))[0].recipe.deployment
    assert steps(whole.postprocess) == ["keep_largest", "fill_holes"]
    folder = make_folder(tmp_path / "parts")
    two = np.zeros((72, 96), np.uint8)
    two[5:30, 5:30] = two[40:65, 40:65] = 1
    two[10:20, 10:20] = 0
    for file in folder.glob("masks/*"):
        write_picture(two, file)
    assert plan(folder)[0].recipe.deployment.postprocess == ()


def test_variations_are_those_of_the_modality(tmp_path):
    folder = make_folder(tmp_path / "data")
    speckled = plan(folder, Wishes(modality="US"))[0].recipe.augment
    assert min(speckled.speckle, speckled.depth_gain, speckled.fan_cut) > 0
    for modality in ("MR", "CT", "OT"):
        augment = plan(folder, Wishes(modality=modality))[0].recipe.augment
        assert (augment.speckle, augment.depth_gain, augment.fan_cut) == (0, 0, 0)


def test_colour_pictures_go_in_as_three_channels(tmp_path):
    deployment = plan(make_folder(tmp_path / "data", colour=True))[0].recipe.deployment
    assert (deployment.input.modality, deployment.input.channels) == ("ES", 3)
    assert steps(deployment.preprocess) == ["rgb", "fit", "scale_percentile"]


def test_scans_are_taken_whole_at_their_spacing_along_the_patients_axes(tmp_path):
    chosen, survey = plan(make_scans(tmp_path / "data"))
    deployment = chosen.recipe.deployment
    assert survey.size_px == (16, 24, 20)
    assert deployment.preprocess[1].spacing_mm == (2.0, 1.0, 1.5)
    assert deployment.input.size_px == (16, 24, 24)
    assert (deployment.model.spatial_dims, deployment.model.stem_stride) == (3, 2)


@pytest.mark.parametrize(
    "options", [{"spacing_mm": (1.0, 1.0, 8.0)}, {"shape": (20, 24, 5)}], ids=["far", "few"]
)
def test_a_stack_of_few_or_distant_slices_is_taken_slice_by_slice(tmp_path, options):
    folder = make_scans(tmp_path / "data", **options)
    assert plan(folder)[0].recipe.deployment.model.spatial_dims == 2
    assert plan(folder, spatial_dims=3)[0].recipe.deployment.model.spatial_dims == 3


def test_a_large_scan_gets_a_window_that_memory_holds(tmp_path):
    folder = make_scans(tmp_path / "data", patients=5, shape=(120, 140, 130))
    size = plan(folder)[0].recipe.deployment.input.size_px
    assert max(size) <= 96
    assert np.prod(size) <= 2**19
    assert all(side % 8 == 0 for side in size)


def test_densities_below_air_make_it_ct_with_a_window_around_the_labels(tmp_path):
    chosen, _ = plan(make_scans(tmp_path / "data", densities=(40, -300)))
    deployment = chosen.recipe.deployment
    assert deployment.input.modality == "CT"
    window = next(step for step in deployment.preprocess if isinstance(step, WindowLevel))
    assert window.level - window.width / 2 <= -310
    assert window.level + window.width / 2 >= -290


def test_names_and_terms_come_from_an_index(tmp_path):
    folder = make_folder(tmp_path / "data", values=(2, 1))
    about = {"labels": {"0": "background", "1": "inner", "2": "outer"}, "modality": {"0": "MRI"}}
    (folder / "dataset.json").write_text(json.dumps(about | {"licence": "CC BY 4.0"}))
    recipe = plan(folder, layout="folder")[0].recipe
    assert [label.name for label in recipe.deployment.labels] == ["inner", "outer"]
    assert (recipe.deployment.input.modality, recipe.data.license) == ("MR", "CC BY 4.0")
    about = {"labels": {"background": 0, "inner": 1, "outer": 2}}
    (folder / "dataset.json").write_text(json.dumps(about))
    recipe = plan(folder, layout="folder")[0].recipe
    assert [label.name for label in recipe.deployment.labels] == ["inner", "outer"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((72, 96), np.uint8), "nothing but 0"),
        (np.tile(np.arange(96, dtype=np.uint8) * 2, (72, 1)), "95 values.*soft edges"),
        (np.full((72, 96, 3), (200, 10, 10), np.uint8), "p01_1.*is a colour picture"),
    ],
    ids=["empty", "soft", "colour"],
)
def test_masks_that_are_none_are_refused(tmp_path, value, message):
    folder = make_folder(tmp_path / "data", patients=5)
    for file in folder.glob("masks/*"):
        write_picture(value, file)
    with pytest.raises(DataError, match=message):
        plan(folder)


def test_too_few_patients_are_refused_with_the_number_needed(tmp_path):
    folder = make_folder(tmp_path / "data", patients=4, images=5)
    with pytest.raises(SplitError, match="20 images of 4 patients; at least 5 patients"):
        plan(folder)


def test_any_larger_number_of_patients_can_be_split(tmp_path):
    survey = survey_data(make_folder(tmp_path / "data", patients=5))
    for patients in range(FEWEST_PATIENTS, 80):
        shares = choose_split(type(survey)(**{**vars(survey), "patients": patients}))
        assert split_patients(map(str, range(patients)), fractions=shares, seed=0)
