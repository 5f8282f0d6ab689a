import numpy as np
from PIL import Image

from bedside.cli.main import main
from bedside.spec import read_recipe
from folder_makers import make_folder
from makers import write_picture


def test_a_recipe_is_written_and_the_next_command_told(tmp_path, capsys):
    folder, recipe = make_folder(tmp_path / "Data Set"), tmp_path / "my.toml"
    assert main(["recipe", str(folder), "-o", str(recipe), "--modality", "us"]) == 0
    said = capsys.readouterr().out
    assert "24 cases of 12 patients, layout folder" in said
    assert "value 255, in 24 of 24 masks" in said
    assert said.splitlines()[-1] == f"Next: bedside train {recipe} -o runs/data-set"
    assert read_recipe(recipe).deployment.input.modality == "US"


def test_a_recipe_that_is_there_is_never_overwritten(tmp_path, capsys):
    recipe = tmp_path / "my.toml"
    recipe.write_text("mine")
    assert main(["recipe", str(make_folder(tmp_path / "data")), "-o", str(recipe)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert recipe.read_text() == "mine"


def test_a_refused_data_set_leaves_no_recipe(tmp_path, capsys):
    recipe = tmp_path / "my.toml"
    (tmp_path / "empty" / "images").mkdir(parents=True)
    (tmp_path / "empty" / "masks").mkdir()
    assert main(["recipe", str(tmp_path / "empty"), "-o", str(recipe)]) == 3
    assert "holds no case" in capsys.readouterr().err
    assert main(["recipe", str(tmp_path / "nowhere"), "-o", str(recipe)]) == 3
    assert not recipe.exists()


def test_one_image_after_another_of_one_name_is_one_patient_and_told_so(tmp_path, capsys):
    folder = make_folder(tmp_path / "data", patients=6, images=1)
    for file in (*folder.glob("images/*"), *folder.glob("masks/*")):
        file.rename(file.with_name("img_" + file.name))
    assert main(["recipe", str(folder), "-o", str(tmp_path / "my.toml")]) == 3
    assert "6 images of 1 patients" in capsys.readouterr().err


def write_other(folder, patients, swap):
    """Save the masks of some patients with other values, by the value that they have."""
    for patient in patients:
        for file in sorted(folder.glob(f"masks/p{patient:02d}_*")):
            mask = np.asarray(Image.open(file))
            write_picture(np.array([swap.get(k, k) for k in range(256)], np.uint8)[mask], file)


def test_masks_of_one_structure_that_were_saved_in_two_ways_are_told(tmp_path, capsys):
    folder = make_folder(tmp_path / "data")
    write_other(folder, range(9, 13), {255: 1})
    assert main(["recipe", str(folder), "-o", str(tmp_path / "my.toml")]) == 0
    said = capsys.readouterr().out
    assert (
        "values of 24 masks that never occur in one: 1 in 8 (such as p09_1) and 255 in 16 (such "
        "as p01_1)" in said
    )


def test_structures_that_share_masks_are_not_taken_for_one_that_was_saved_in_two_ways(
    tmp_path, capsys
):
    folder = make_folder(tmp_path / "data", values=(1, 2, 3))
    write_other(folder, range(1, 7), {1: 2})
    write_other(folder, range(7, 13), {3: 2})
    assert main(["recipe", str(folder), "-o", str(tmp_path / "my.toml")]) == 0
    assert "never occur in one" not in capsys.readouterr().out
