import json

import pytest
import torch

from bedside.benchmarking import attention
from bedside.benchmarking.attention import Caps, Point, fit_exponents, foresee, measure_attention
from bedside.benchmarking.memory import peak_memory_mb
from bedside.cli.main import main


def make_points(name, power, *, sides=(8, 16, 32), axes=2):
    return [
        Point(name, axes, side, side**axes, 1, (side**axes) ** power, float(side**axes))
        for side in sides
    ]


def test_memory_counts_what_lives_at_once_and_not_what_is_gone():
    megabyte = torch.zeros(2**18)

    def chain(x):
        for _ in range(10):
            x = x + 1
        return x

    assert peak_memory_mb(chain, megabyte) == 2.0
    assert peak_memory_mb(lambda x: torch.stack([x + 1 for _ in range(4)]), megabyte) == 8.0
    assert peak_memory_mb(lambda x: x.reshape(2, -1).transpose(0, 1), megabyte) == 0.0


def test_exponents_are_those_of_the_largest_sizes():
    points = [*make_points("a", 1.0), *make_points("b", 2.0)]
    small = Point("a", 2, 2, 4, 1, 500.0, 4.0)  # start-up costs say nothing about growth
    found = fit_exponents([small, *points], "milliseconds")
    assert found == {"a": {"2d": 1.0}, "b": {"2d": 2.0}}


def test_a_mechanism_with_one_point_has_no_exponent():
    assert fit_exponents(make_points("a", 1.0, sides=(8,)), "milliseconds") == {"a": {"2d": None}}


def test_a_size_beyond_a_cap_is_foreseen():
    seen = make_points("a", 2.0)
    assert foresee(seen, 64**2, Caps(call_ms=1e8, memory_mb=1e4)) == ""
    assert "ms; the cap is 1,000,000" in foresee(seen, 64**2, Caps(call_ms=1e6, memory_mb=1e4))
    assert "MB; the cap is 3" in foresee(seen, 64**2, Caps(call_ms=1e8, memory_mb=3))


@pytest.fixture
def few_mechanisms(monkeypatch):
    names = ("window", "dense")
    kept = {name: row for name, row in attention.VARIANTS.items() if name in names}
    monkeypatch.setattr(attention, "VARIANTS", kept)
    monkeypatch.setattr(attention, "QUICK_SIDES", {2: (8, 16)})


def test_the_dense_reference_holds_more_as_it_is_defined_to(few_mechanisms):
    caps = Caps(memory_mb=20, turn_ms=1)
    costs = measure_attention({2: (16, 32)}, threads=(1,), caps=caps)
    assert [(row.mechanism, row.side) for row in costs.skipped] == [("dense", 32)]
    window = [point for point in costs.points if point.mechanism == "window"]
    assert window[1].memory_mb == pytest.approx(4 * window[0].memory_mb, rel=0.01)
    (dense,) = [point for point in costs.points if point.mechanism == "dense"]
    scores = 256 * 4 * 256 * 4 / 2**20
    assert 2 * scores <= dense.memory_mb <= 2 * scores + 1
    assert all(point.milliseconds > 0 for point in costs.points)


def test_the_command_prints_exponents_and_draws_them(few_mechanisms, tmp_path, capsys):
    words = ["bench", "attention", "--quick", "--json", "--threads", "1", "-o", str(tmp_path)]
    assert main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["exponents"]) == {"window", "dense"}
    assert set(report["exponents"]["dense"]) == {"2d"}
    assert report["memory_exponents"]["window"]["2d"] == pytest.approx(1.0, abs=0.05)
    assert json.loads((tmp_path / "attention.json").read_text()) == report
    drawing = (tmp_path / "attention.svg").read_text()
    assert drawing.count("<svg") == 3  # time, memory, and the frame
    assert drawing.count("<polyline") == 4


def test_what_cannot_be_measured_is_refused_in_one_line(capsys):
    assert main(["bench", "attention", "--threads", "0"]) == 2
    assert "threads is 0" in capsys.readouterr().err
    assert main(["bench", "bricks"]) == 2
    assert "attention" in capsys.readouterr().err
