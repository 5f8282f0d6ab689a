"""`bedside segment` with several sources, a scale from the user, and one table of measurements."""

import csv
import json

import pytest

from bedside.cli.main import main
from makers import make_fan, write_picture

MODES = ([], ["--jobs", "2"])


@pytest.fixture
def fans(tmp_path):
    paths = [tmp_path / "data" / name for name in ("a.png", "b.png")]
    paths[0].parent.mkdir()
    for seed, path in enumerate(paths):
        write_picture(make_fan(1, seed=seed)[0], path)
    return paths


def run(capsys, *command):
    code = main(["segment", *map(str, command), "--json"])
    return code, json.loads(capsys.readouterr().out)


def read_rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("more", MODES)
def test_each_of_several_sources_has_a_folder_of_its_own(fans, bundle, tmp_path, capsys, more):
    out = tmp_path / "out"
    code, _ = run(capsys, *fans, fans[0], "-m", bundle, "-o", out, *more)
    assert code == 0
    assert all((out / name / "segmentation.png").is_file() for name in "ab")
    other = tmp_path / "data" / "more"
    other.mkdir()
    write_picture(make_fan(1)[0], other / "a.png")
    code, _ = run(capsys, fans[0], other, "-m", bundle, "-o", tmp_path / "both", *more)
    assert code == 0
    assert (tmp_path / "both" / "a" / "segmentation.png").is_file()
    assert (tmp_path / "both" / "more" / "a" / "segmentation.png").is_file()


def test_a_source_that_is_refused_stops_no_other(fans, bundle, tmp_path, capsys):
    (tmp_path / "data" / "c.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    code, told = run(
        capsys, *fans, tmp_path / "data" / "c.png", "-m", bundle, "-o", tmp_path / "out"
    )
    assert code == 3
    assert (len(told["cases"]), len(told["refused"])) == (2, 1)


def test_options_stand_before_sources_or_after_them(fans, bundle, tmp_path):
    for number, command in enumerate(
        (
            ["-m", bundle, "-o", tmp_path / "0", *fans],
            [*fans, "-m", bundle, "-o", tmp_path / "1"],
        )
    ):
        assert main(["segment", *map(str, command)]) == 0
        assert (tmp_path / str(number) / "b" / "report.json").is_file()


@pytest.mark.parametrize("more", MODES)
def test_measurements_of_all_images_are_rows_of_one_table(fans, bundle, tmp_path, capsys, more):
    out = tmp_path / "out"
    command = [*fans, "-m", bundle, "-o", out, "--csv", tmp_path / "all.csv"]
    assert run(capsys, *command, "--pixel-spacing", "0.5,0.25", *more)[0] == 0
    rows = read_rows(tmp_path / "all.csv")
    assert [(row["case"], row["structure"]) for row in rows[:3]] == [
        ("a", "LV cavity"), ("a", "LV myocardium"), ("a", "Left atrium"),
    ]  # fmt: skip
    assert [row["case"] for row in rows[3:]] == ["b"] * 3
    pixels, area_cm2 = int(rows[0]["largest_area_px"]), float(rows[0]["largest_area_cm2"])
    assert pixels > 0
    assert area_cm2 == pytest.approx(pixels * 0.5 * 0.25 / 100, abs=1e-4)
    report = json.loads((out / "a" / "report.json").read_text())
    assert report["spacing_mm"] == [0.5, 0.25]
    assert any("0.5 x 0.25 mm were given" in text for text in report["warnings"])


@pytest.mark.parametrize("more", MODES)
def test_a_table_that_cannot_be_written_stops_the_run_before_it_begins(
    fans, bundle, tmp_path, capsys, more
):
    target = fans[0] / "all.csv"
    command = [*fans, "-m", bundle, "-o", tmp_path / "out", "--csv", target, *more]
    assert main(["segment", *map(str, command)]) == 2
    assert "a.png" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_refused_image_leaves_no_folder_for_its_table(tmp_path, bundle):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    command = [tmp_path / "a.png", "-m", bundle, "-o", tmp_path / "out"]
    assert main(["segment", *map(str, command), "--csv", str(tmp_path / "out" / "all.csv")]) == 3
    assert not (tmp_path / "out").exists()


def test_a_resumed_batch_has_the_rows_of_the_earlier_run(fans, bundle, tmp_path, capsys):
    command = [fans[0].parent, "-m", bundle, "-o", tmp_path / "out"]
    assert run(capsys, *command, "--jobs", "2")[0] == 0
    assert run(capsys, *command, "--resume", "--csv", tmp_path / "all.csv")[0] == 0
    assert [row["case"] for row in read_rows(tmp_path / "all.csv")] == ["a"] * 3 + ["b"] * 3


def test_a_line_of_a_manifest_has_a_scale_of_its_own(fans, bundle, tmp_path, capsys):
    lines = [
        {"id": "a", "source": str(fans[0]), "pixel_spacing_mm": [0.1, 0.1]},
        {"id": "b", "source": str(fans[1])},
    ]
    (tmp_path / "cases.jsonl").write_text("\n".join(map(json.dumps, lines)))
    command = ["--manifest", tmp_path / "cases.jsonl", "-m", bundle, "-o", tmp_path / "out"]
    assert run(capsys, *command, "--csv", tmp_path / "all.csv")[0] == 0
    areas = {row["case"]: row["largest_area_cm2"] for row in read_rows(tmp_path / "all.csv")}
    assert float(areas["a"]) >= 0
    assert areas["b"] == ""


def test_a_scale_that_the_file_contradicts_is_refused(sequence, bundle, tmp_path, capsys):
    command = ["segment", str(sequence), "-m", str(bundle), "-o", str(tmp_path / "out")]
    assert main([*command, "--pixel-spacing", "0.4,0.5"]) == 3
    said = capsys.readouterr().err
    assert "0.5 x 0.5 mm apart" in said
    assert "0.4 x 0.5 mm" in said
    assert main([*command, "--pixel-spacing", "0.5,0.5"]) == 0


@pytest.mark.parametrize("text", ["0.5", "0,1", "a,b", "1,nan", "1,2,3"])
def test_a_scale_that_is_none_is_refused(fans, bundle, tmp_path, capsys, text):
    command = ["segment", str(fans[0]), "-m", str(bundle), "-o", str(tmp_path / "out")]
    assert main([*command, "--pixel-spacing", text]) == 2
    assert "pixel" in capsys.readouterr().err


@pytest.mark.parametrize("more", MODES)
def test_a_file_name_is_no_formula_in_the_table(bundle, tmp_path, capsys, more):
    names = ["=1+1", "+1", "-1", "@a", "a=1"]
    for name in names:
        write_picture(make_fan(1)[0], tmp_path / f"{name}.png")
    command = [*(tmp_path / f"{name}.png" for name in names), "-m", bundle, "-o", tmp_path / "out"]
    assert run(capsys, *command, "--csv", tmp_path / "all.csv", *more)[0] == 0
    rows = read_rows(tmp_path / "all.csv")
    for column, end in (("case", ""), ("source", ".png")):
        found = {row[column] for row in rows}
        assert found == {f"'=1+1{end}", f"'+1{end}", f"'-1{end}", f"'@a{end}", f"a=1{end}"}
    assert (tmp_path / "out" / "=1+1" / "segmentation.png").is_file()


@pytest.mark.parametrize("more", MODES)
def test_a_table_takes_the_place_of_an_earlier_table_only(fans, bundle, tmp_path, capsys, more):
    before = fans[0].read_bytes()
    command = [*fans, "-m", bundle, "-o", tmp_path / "out", *more]
    for target in (fans[0], tmp_path):
        assert main(["segment", *map(str, command), "--csv", str(target)]) == 2
        assert "is no table of measurements" in capsys.readouterr().err
    assert fans[0].read_bytes() == before
    assert not (tmp_path / "out").exists()
    (tmp_path / "all.csv").touch()
    for again in ([], ["--resume"] if more else []):
        assert run(capsys, *command, "--csv", tmp_path / "all.csv", *again)[0] == 0


def test_what_was_renamed_or_swallowed_is_named(fans, bundle, tmp_path, capsys):
    options = ["-m", str(bundle), "-o", str(tmp_path / "out")]
    for command, text in (
        ([str(fans[0]), "--deadline", "3"], "--timeout now"),
        ([str(fans[0]), "--deadline=3"], "--timeout now"),
        ([str(fans[0]), "--precision", "rule"], 'is "default" now'),
        (["--select", "time=1", str(fans[0])], "before --select"),
        ([str(fans[0]), "--select", "time=1", str(fans[1])], "after the names of images"),
    ):
        assert main(["segment", *options, *command]) == 2
        assert text in capsys.readouterr().err
