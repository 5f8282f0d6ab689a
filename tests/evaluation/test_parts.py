"""Whatever is measured, calibrated or fitted on a part is so without copies of earlier parts."""

import dataclasses
import shutil

import nibabel as nib
import numpy as np
import pytest

from bedside.bundle import read_bundle, write_bundle
from bedside.cli.main import main
from bedside.datasets import list_cases
from bedside.errors import DataError
from bedside.evaluation.gate_contrast import is_fitted_to
from bedside.evaluation.parts import list_part, list_training, list_validation
from bedside.spec import Fit, Grey, ScalePercentile
from models_for_tests import make_bundle, make_card, make_verdict
from runs_for_tests import make_camus

PEOPLE = [f"patient{number:04d}" for number in range(1, 35)]
SPLIT = {"train": tuple(PEOPLE[:21]), "val": tuple(PEOPLE[21:31]), "test": tuple(PEOPLE[31:33])}
COPY = "patient0022_4CH_ED"
LEFT_OUT = (
    f"{COPY} is left out of val: patient0001_4CH_ED and {COPY} are the same image, mirrored, and "
    "patient0001_4CH_ED is in train."
)


def name_image(folder, case_id):
    return folder / case_id.partition("_")[0] / f"{case_id}.nii.gz"


def mirror(folder, source, copy):
    """Replace an image by the mirror image of another one."""
    image = nib.load(name_image(folder, source))
    turned = np.asarray(image.dataobj)[::-1]
    nib.save(nib.Nifti1Image(turned, image.affine, image.header), name_image(folder, copy))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Patients of whom one for validation has the mirrored image of one for training."""
    folder = make_camus(tmp_path_factory.mktemp("data"), patients=34)
    mirror(folder, "patient0001_4CH_ED", COPY)
    mirror(folder, "patient0023_4CH_ES", "patient0032_4CH_ES")
    return folder


@pytest.fixture
def bundle(tmp_path):
    bundle = make_bundle(tmp_path, untrained=False)
    return split_by(bundle, SPLIT)


def split_by(bundle, split):
    spec = dataclasses.replace(bundle.spec, preprocess=(Grey(), Fit(), ScalePercentile()))
    graphs = {"f32": bundle.read_graph("f32")}
    card = make_card(make_verdict("f32"), untrained=False)
    write_bundle(bundle.path, spec=spec, card=card, graphs=graphs, split=split)
    return read_bundle(bundle.path)


def test_a_part_is_without_copies_of_earlier_parts_only(bundle, data):
    told = []
    names = {
        part: {case.case_id for case in list_part(bundle, data, part, on_left_out=told.append)}
        for part in SPLIT
    }
    assert len(names["train"]) == 42
    assert len(names["val"]) == 19
    assert COPY not in names["val"]
    assert names["test"] == {
        "patient0032_4CH_ED", "patient0033_4CH_ED", "patient0033_4CH_ES"
    }  # fmt: skip
    assert told[0] == LEFT_OUT
    assert len(told) == 2
    assert told[1].endswith("patient0023_4CH_ES is in val.")


def test_validation_is_whole_although_a_copy_is_left_out(bundle, data):
    told = []
    assert len(list_validation(bundle, data, on_left_out=told.append)) == 19
    assert told == [LEFT_OUT]
    assert len(list_training(bundle, data)) == 42


def test_a_part_of_copies_alone_is_refused(bundle, data, tmp_path):
    folder = shutil.copytree(data, tmp_path / "data")
    for phase in ("ED", "ES"):
        mirror(folder, f"patient0002_4CH_{phase}", f"patient0022_4CH_{phase}")
    leaky = split_by(bundle, {**SPLIT, "val": ("patient0022",)})
    with pytest.raises(DataError, match=r'in the part "val" .* is in an earlier part too'):
        list_validation(leaky, folder)


@pytest.mark.parametrize("command", ["certify", "calibrate", "gate"])
def test_commands_say_which_copies_they_leave_out(command, bundle, data, tmp_path, capsys):
    place = [str(data)] if command == "gate" else ["--data", str(data)]
    output = tmp_path / "new.bedside"
    assert main([command, str(bundle.path), *place, "-o", str(output)]) == 0
    said = capsys.readouterr()
    assert f"warning: {LEFT_OUT}\n" in said.err
    after = read_bundle(output)
    if command == "certify":
        assert {each.cases for each in after.card.precisions if each.ran_in} == {19}
    elif command == "calibrate":
        assert after.confidence.units == 10
        assert after.confidence.images == 19 * 6  # as they are, and with five artefacts
    else:
        assert "of 19 validation cases" in said.out


def test_artefacts_on_the_card_are_of_test_images_that_nothing_has_seen(
    bundle, data, tmp_path, capsys
):
    output = tmp_path / "new.bedside"
    told = ["certify", str(bundle.path), "--data", str(data), "-o", str(output), "--robustness"]
    assert main(told) == 0
    assert "warning: patient0032_4CH_ES is left out of test" in capsys.readouterr().err


def test_own_images_in_other_folders_are_neither_fitted_to_nor_counted(
    bundle, data, tmp_path, capsys
):
    other = make_camus(tmp_path / "other", patients=40)
    for person in PEOPLE:  # as they are its own
        shutil.rmtree(other / person)
    shutil.copytree(data / "patient0034", other / "patient0034")  # of no part, yet its own kind
    mirror(other, "patient0035_4CH_ED", "patient0038_4CH_ED")
    by_name = {case.case_id: case for case in list_cases(other)}
    fitted, counted = by_name["patient0038_4CH_ED"], by_name["patient0035_4CH_ED"]
    assert is_fitted_to(fitted)
    assert not is_fitted_to(counted)
    output = tmp_path / "new.bedside"
    command = ["gate", str(bundle.path), str(data), "-o", str(output), "--contrast", str(other)]
    assert main(command) == 0
    said = capsys.readouterr()
    copies = [line for line in said.err.splitlines() if str(other) in line]
    assert len(copies) == 3
    for name in ("patient0034_4CH_ED", "patient0034_4CH_ES"):
        assert f"{other}/{name} is left out of " in said.err
    assert f"{other}/{counted.case_id} is left out of the images to count: " in said.err
    left = sum(not is_fitted_to(case) for case in by_name.values()) - 1
    left -= 2 * (not is_fitted_to(by_name["patient0034_4CH_ED"]))
    assert f"of {left} cases of {other}" in said.out


def test_the_own_data_are_no_images_of_another_kind(bundle, data, tmp_path, capsys):
    output = tmp_path / "new.bedside"
    command = ["gate", str(bundle.path), str(data), "-o", str(output)]
    assert main([*command, "--foreign", str(data)]) == 3
    assert f"every image of {data} is one of the bundle's data set" in capsys.readouterr().err
    assert not output.exists()
