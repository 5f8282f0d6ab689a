"""A table of exports: read strictly, made once, taken up again, and one page of all of them."""

import json
import shutil

import pytest
from export_fixtures import make_deployment

from bedside.bundle import write_bundle
from bedside.cli.main import main
from bedside.errors import ExportError, SpecError, UsageError
from bedside.export import fleet
from bedside.export.bundle import ValidationData
from bedside.export.fleet import FleetRow, export_fleet, read_fleet
from bedside.export.formats.format import Options
from models_for_tests import make_card, make_graph, make_split

FEW = ValidationData(most=2)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "tiny.bedside"
    graphs = {"f32": make_graph()}
    write_bundle(path, spec=make_deployment(), card=make_card(), graphs=graphs, split=make_split())
    return path


def write_table(path, *lines):
    path.write_text("\n".join(("bundle,to,chip,precision", *lines)) + "\n")
    return path


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ((), "has 0 lines; expected 1 to 1000 below the head bundle,to,chip,precision"),
        ((",onnx,,",), "line 2: expected a bundle, and a format or a chip"),
        (("a,,,f32",), "line 2: expected a bundle, and a format or a chip"),
        (("a,onnx,,", "a,onnx,,f32"), "line 3: a-onnx-f32 is asked for twice"),
        (("a,onnx,,f32,more",), 'unknown key ".*beyond the columns"'),
        (('a,"onnx',), "is no CSV"),
    ],
)
def test_a_faulty_table_is_refused_by_its_line(tmp_path, lines, reason):
    with pytest.raises(SpecError, match=reason):
        read_fleet(write_table(tmp_path / "fleet.csv", *lines))


def test_an_unknown_column_names_the_nearest(tmp_path):
    path = tmp_path / "fleet.csv"
    path.write_text("bundle,to,precison\na,onnx,f32\n")
    with pytest.raises(SpecError, match='Did you mean "precision"'):
        read_fleet(path)
    with pytest.raises(SpecError, match="cannot read"):
        read_fleet(tmp_path / "none.csv")


def test_a_table_names_its_folders(tmp_path):
    path = write_table(tmp_path / "fleet.csv", "x/tiny.bedside, onnx,,int8", "tiny,,rk3588,")
    assert [row.folder for row in read_fleet(path)] == ["tiny-onnx-int8", "tiny-rk3588-onnx-f32"]


def test_nothing_is_made_if_a_line_cannot_be(tmp_path, bundle):
    rows = [FleetRow(str(bundle), "onnx"), FleetRow(str(bundle), chip="ethos-u55", to="onnx")]
    with pytest.raises(UsageError, match="reads litert or vela in int8"):
        export_fleet(rows, tmp_path / "out", options=Options(), validation=FEW)
    assert not (tmp_path / "out").exists()


def test_a_fleet_is_made_once_and_taken_up_again(tmp_path, bundle, monkeypatch, capsys):
    table = write_table(
        tmp_path / "fleet.csv", f"{bundle},onnx,,", f"{bundle},,jetson-orin,", f"{bundle},,rk3588,"
    )
    made, right = [], fleet.export_bundle

    def export_or_fail(given, folder, **how):
        made.append(folder.name)
        if len(made) == 2:
            raise ExportError("it loses too much")
        return right(given, folder, **how)

    monkeypatch.setattr(fleet, "export_bundle", export_or_fail)
    out = tmp_path / "out"
    command = ["export", "--fleet", str(table), "-o", str(out), "--cases", "2"]
    assert main(command) == ExportError.exit_code
    said = capsys.readouterr()
    assert "3 exports made" not in said.out
    assert (
        "1 of 3 exports failed; the first, tiny-jetson-orin-onnx-f32: it loses too much" in said.err
    )
    page = (out / "fleet.html").read_text()
    assert "2 of 3 exports are made, 1 failed" in page
    assert "it loses too much" in page
    assert not (out / "tiny-jetson-orin-onnx-f32").exists()

    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("model.onnx")}
    assert main(command) == 0
    assert "1 exports made, 2 were there" in capsys.readouterr().out
    assert made[3:] == ["tiny-jetson-orin-onnx-f32"]
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    written = json.loads((out / "fleet.json").read_text())["exports"]
    assert [each["folder"] for each in written] == [
        "tiny-onnx-f32",
        "tiny-jetson-orin-onnx-f32",
        "tiny-rk3588-onnx-f32",
    ]
    for each in written:
        assert each["certificate"]["passed"]
        assert each["certificate"]["architecture"]
        assert each["certificate"]["comparison"]["labels_equal"] > 0.99
    assert [each["falls_back"] for each in written] == [None, 0, 0]
    assert not any(path.name.startswith(".") for path in out.iterdir())

    # A folder of another bundle is made again.
    certificate = out / "tiny-onnx-f32" / "certificate.json"
    certificate.write_text(certificate.read_text().replace('"sha256": "', '"sha256": "0', 1))
    shutil.rmtree(out / "tiny-jetson-orin-onnx-f32")
    made.clear()
    assert main(command) == ExportError.exit_code
    assert made == ["tiny-onnx-f32", "tiny-jetson-orin-onnx-f32"]


def test_a_fleet_is_named_by_its_table_alone(tmp_path, capsys):
    table = str(write_table(tmp_path / "fleet.csv", "camus-4ch,onnx,,"))
    for wrong in (["camus-4ch"], ["--to", "onnx"], ["--precision", "int8"]):
        assert main(["export", *wrong, "--fleet", table]) == UsageError.exit_code
    assert main(["export"]) == UsageError.exit_code
    assert "name a bundle, or a table with --fleet" in capsys.readouterr().err
