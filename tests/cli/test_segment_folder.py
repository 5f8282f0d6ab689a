"""`bedside segment` with folders: what is taken, what is skipped, and what it is called."""

import json
from pathlib import Path

import numpy as np
import pytest

from bedside.batch.manifest import name_cases
from bedside.cli.main import main
from bedside.io.own_results import MARKER
from dicom_makers import make_slices, write_series
from makers import make_fan, make_labels, write_picture

MODES = ([], ["--jobs", "2"], ["--untrusted"])


@pytest.fixture
def study(tmp_path):
    """Two images, one of them behind a link, a mask, and what is no image."""
    folder = tmp_path / "study"
    (folder / "masks").mkdir(parents=True)
    (tmp_path / "store").mkdir()
    write_picture(make_fan(1)[0], folder / "a.png")
    write_picture(make_fan(1, seed=1)[0], tmp_path / "store" / "b.png")
    (folder / "linked").symlink_to(tmp_path / "store")
    write_picture(make_labels(1)[0], folder / "masks" / "a.png")
    (folder / "notes.txt").write_text("words")
    return folder


def segment(study, bundle, out, capsys, *more):
    command = ["segment", str(study), "-m", str(bundle), "-o", str(out), "--json", *more]
    assert main(command) == 0
    told = json.loads(capsys.readouterr().out)
    return {Path(case["source"]).name for case in told["cases"]}, told["skipped"]


@pytest.mark.parametrize("more", MODES)
def test_the_same_images_are_found_and_the_same_is_skipped_each_time(
    study, bundle, tmp_path, capsys, more
):
    first, skipped = segment(study, bundle, study / "out", capsys, *more)
    assert first == {"a.png", "b.png"}
    assert len(skipped) == 2
    assert (study / "out" / "linked" / "b" / "segmentation.png").is_file()
    # The results lie in the folder now, and are no images.
    second, again = segment(study, bundle, tmp_path / "new", capsys, *more)
    assert second == first
    said = set(again) - set(skipped)
    assert {f"{study / 'out' / name} holds results of bedside" for name in ("a", "linked/b")} == {
        text.partition(":")[0] for text in said if "results.jsonl" not in text
    }
    for name in ("a", "linked/b"):
        files = (MARKER, "segmentation.png", "overlay.png")
        old, new = ([(place / name / file).read_bytes() for file in files] for place in
                    (study / "out", tmp_path / "new"))  # fmt: skip
        assert old == new


def test_what_is_skipped_stands_under_the_table(study, bundle, tmp_path, capsys):
    assert main(["segment", str(study), "-m", str(bundle), "-o", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "is a label map, by its name and its values" in text
    assert "2 segmented, 0 refused, 2 skipped" in text


def test_images_that_lie_in_the_output_folder_are_skipped_and_said(study, bundle, tmp_path, capsys):
    out = study / "linked"
    first, skipped = segment(study, bundle, out, capsys)
    assert first == {"a.png"}
    assert f"{study / 'linked' / 'b.png'} lies in the output folder." in skipped


def test_results_without_a_report_give_way_to_those_of_the_next_run(bundle, tmp_path, sequence):
    command = ["segment", str(sequence), "-m", str(bundle), "-o", str(tmp_path / "out")]
    assert main([*command, "--no-report", "--format", "nifti"]) == 0
    assert main([*command, "--no-report"]) == 0
    assert not (tmp_path / "out" / "segmentation.nii.gz").exists()
    listed = json.loads((tmp_path / "out" / MARKER).read_text())["files"]
    assert listed == ["contact_sheet.png", "overlay.gif", "segmentation.dcm"]


@pytest.mark.parametrize("more", MODES[:2])
def test_no_case_lies_in_the_results_of_another(bundle, tmp_path, capsys, more):
    """A series' folder with a picture below it, named as a result would be."""
    stored = np.zeros((4, 64, 64), np.uint16)
    stored[1:3, 20:40, 10:30] = 1500
    write_series(make_slices(stored, modality="MR", slope=None), tmp_path / "study" / "a")
    write_picture(make_fan(1)[0], tmp_path / "study" / "a" / "b.png")
    write_picture(make_fan(1)[0], tmp_path / "study" / "A.png")
    out = tmp_path / "out"
    found, _ = segment(tmp_path / "study", bundle, out, capsys, "--force", *more)
    assert found == {"a", "b.png", "A.png"}
    kept = {path.parent.relative_to(out).as_posix() for path in out.rglob("report.json")}
    assert kept == {"A.png", "a-2", "a/b"}


def test_names_differ_where_capitals_do_not_count():
    root = Path("d")
    paths = [root / name for name in ("A.png", "a.png", "b.nii", "con.png", "é.png", "e\u0301.png")]
    ids = [case.id for case in name_cases(paths, root)]
    assert ids == ["A.png", "a.png-2", "b", "con-2", "é.png", "e\u0301.png-2"]
