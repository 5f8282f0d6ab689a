import json
import time

import pytest
import torch

from bedside.benchmarking import attention
from bedside.benchmarking.attention import (
    CHANNELS,
    CONTROL,
    Caps,
    Point,
    create_layer,
    fit_exponents,
    measure_attention,
)
from bedside.benchmarking.growth import shortest_interleaved
from bedside.benchmarking.memory import peak_memory_mb
from bedside.cli.main import main


def make_points(name, power, *, sides=(8, 16, 32), spatial_dims=2):
    return [
        Point(
            name,
            spatial_dims,
            side,
            side**spatial_dims,
            1,
            (side**spatial_dims) ** power,
            float(side**spatial_dims),
        )
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


def test_tensors_without_values_are_counted_like_real_ones():
    for name in ("overlap", "routed", "dense"):
        layer, example = create_layer(name, 2), torch.rand(1, 16, 16, CHANNELS)
        real = peak_memory_mb(layer, example)
        assert peak_memory_mb(layer.to("meta"), example.to("meta")) == real > 0


def test_exponents_are_slopes_over_all_sizes():
    points = [*make_points("a", 1.0), *make_points("b", 2.0)]
    found = fit_exponents(points, "milliseconds")
    assert found == {"a": {"2d": 1.0}, "b": {"2d": 2.0}}


def test_a_mechanism_with_one_point_has_no_exponent():
    assert fit_exponents(make_points("a", 1.0, sides=(8,)), "milliseconds") == {"a": {"2d": None}}


def test_every_call_has_its_turn_in_every_round():
    order = []
    calls = [lambda: order.append("small"), lambda: order.append("large")]
    times = shortest_interleaved(calls, turn_ms=0, total_ms=0, rounds=3)
    assert order == ["small", "large"] * 4  # one round to warm up
    assert len(times) == 2


def test_the_time_of_another_program_is_not_in_the_processors_time():
    waiting = [lambda: time.sleep(0.02)]
    assert shortest_interleaved(waiting, total_ms=0, rounds=2)[0] >= 20
    assert shortest_interleaved(waiting, total_ms=0, rounds=2, clock=time.process_time)[0] < 10


def test_the_projections_alone_attend_to_nothing():
    layer = create_layer(CONTROL, 2)
    tokens = torch.rand(1, 8, 8, CHANNELS)
    changed = tokens.clone()
    changed[:, 3, 3] += 1.0
    with torch.no_grad():
        moved = (layer(changed) - layer(tokens)).abs().amax(dim=(0, 3)) > 0
    assert moved.nonzero().tolist() == [[3, 3]]


@pytest.fixture
def few_mechanisms(monkeypatch):
    names = ("window", "dense")
    kept = {name: row for name, row in attention.VARIANTS.items() if name in names}
    monkeypatch.setattr(attention, "VARIANTS", kept)
    monkeypatch.setattr(attention, "QUICK_SIDES", {2: (8, 16)})


def test_the_dense_reference_holds_more_as_it_is_defined_to(few_mechanisms):
    caps = Caps(memory_mb=100, turn_ms=1, total_ms=1)
    costs = measure_attention({2: (16, 32, 64)}, threads=(1,), caps=caps)
    assert [(row.mechanism, row.side) for row in costs.skipped] == [("dense", 64)]
    assert "MB; the cap is 100" in costs.skipped[0].reason
    window = [point for point in costs.points if point.mechanism == "window"]
    assert window[1].memory_mb == pytest.approx(4 * window[0].memory_mb, rel=0.01)
    dense = next(point for point in costs.points if point.mechanism == "dense")
    scores = 256 * 4 * 256 * 4 / 2**20
    assert 2 * scores <= dense.memory_mb <= 2 * scores + 1
    assert all(point.milliseconds > 0 for point in costs.points)


def test_a_call_that_would_take_too_long_is_foreseen(few_mechanisms):
    caps = Caps(call_ms=1e-6, turn_ms=1, total_ms=1)
    costs = measure_attention({2: (8, 16)}, threads=(1,), caps=caps)
    assert {(row.mechanism, row.side) for row in costs.points} == {("window", 8), ("dense", 8)}
    assert all("ms; the cap is 0" in row.reason for row in costs.skipped)
    assert len(costs.skipped) == 3  # the control's too


def test_the_command_prints_exponents_and_draws_them(few_mechanisms, tmp_path, capsys):
    words = ["bench", "attention", "--quick", "--json", "--threads", "1", "-o", str(tmp_path)]
    assert main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["exponents"]) == {"window", "dense"}
    assert set(report["exponents"]["dense"]) == {"2d"}
    assert report["exponents"] == report["exponents_by_threads"]["1"]
    assert report["control"]["exponents_by_threads"]["1"]["2d"] > 0
    assert report["memory_exponents"]["window"]["2d"] == pytest.approx(1.0, abs=0.05)
    assert json.loads((tmp_path / "attention.json").read_text()) == report
    drawing = (tmp_path / "attention.svg").read_text()
    assert drawing.count("<svg") == 3  # time, memory, and the frame
    assert drawing.count("<polyline") == 6


def test_what_cannot_be_measured_is_refused_in_one_line(capsys):
    assert main(["bench", "attention", "--threads", "0"]) == 2
    assert "threads is 0" in capsys.readouterr().err
