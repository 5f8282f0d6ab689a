"""A bundle whose channels have names: which may be missing, and what is told."""

import json

import nibabel
import numpy as np
import pytest

import bedside
import makers
from bedside.cli.main import main
from bright_network import SQUARE_MM, write_two_channels


@pytest.fixture
def of_two_channels(bundle, tmp_path):
    """Label 1 wherever FLAIR is brighter than T1, which may be missing."""
    return write_two_channels(tmp_path / "two.bedside", like=bundle)


def test_channels_are_given_by_name_in_any_order_and_one_may_be_missing(
    of_two_channels, tmp_path, capsys
):
    pixels = np.zeros((64, 64), np.uint8)
    pixels[10:40, 10:40] = 200
    flair = makers.write_nifti(pixels, tmp_path / "flair.nii.gz", spacing_mm=SQUARE_MM)
    bright = np.where(pixels, 220, 0).astype(np.uint8)
    t1 = makers.write_nifti(bright, tmp_path / "t1.nii.gz", spacing_mm=SQUARE_MM)
    command = ["segment", "-m", str(of_two_channels), "--json"]

    def segment(folder, *channels):
        out = tmp_path / folder
        assert main([*command, "-o", str(out), "--channels", *channels]) == 0
        report = json.loads(capsys.readouterr().out)
        [mask] = out.glob("*.nii.gz")
        return nibabel.load(mask).get_fdata().sum(), report["warnings"]

    both, told = segment("a", f"flair={flair}", f"t1={t1}")
    assert both == 0
    assert not [text for text in told if "channel" in text]
    alone, told = segment("b", f"flair={flair}")
    assert alone == 900
    assert [text for text in told if "channel t1 was not given" in text]
    model = bedside.load(of_two_channels)
    assert model.segment({"flair": flair}).labels.sum() == 900
    assert model.segment({"t1": t1, "flair": flair}).labels.sum() == 0


def test_channels_have_names_all_or_none(of_two_channels, tmp_path, capsys):
    path = makers.write_nifti(np.full((64, 64), 9, np.uint8), tmp_path / "a.nii.gz")
    command = ["segment", "-m", str(of_two_channels), "-o", str(tmp_path / "out"), "--channels"]
    for channels, message in (
        ([f"flair={path}", str(path)], "a name for each"),
        ([f"flair={path}", f"flair={path}"], "each once"),
        ([f"t1={path}"], "no channel flair was given"),
        ([f"flare={path}"], 'Did you mean "flair"?'),
        ([f"FLAIR={path}"], 'Did you mean "flair"?'),
    ):
        assert main([*command, *channels]) in (2, 3)
        assert message in capsys.readouterr().err
    command.insert(1, str(path))
    assert main([*command, f"flair={path}"]) == 2
    assert "has no name" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_one_image_is_not_taken_for_two_channels(of_two_channels, tmp_path, capsys):
    pixels = np.zeros((64, 64), np.uint8)
    pixels[10:40, 10:40] = 200
    one, copy = (makers.write_nifti(pixels, tmp_path / name) for name in ("a.nii", "b.nii.gz"))
    command = ["segment", "-m", str(of_two_channels), "-o", str(tmp_path / "out"), "--channels"]
    for other in (one, copy):
        assert main([*command, f"flair={one}", f"t1={other}"]) == 2
        assert "channels flair and t1 are the same image" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
