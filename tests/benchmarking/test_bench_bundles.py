import json
import subprocess
import sys
import threading

import numpy as np
import pytest

from bedside.benchmarking import bundles as measured
from bedside.benchmarking.ceilings import Ceilings, measure_ceilings
from bedside.benchmarking.cold import ColdStart, measure_cold_start, time_first_line
from bedside.benchmarking.operations import count_operations, profile
from bedside.bundle import write_bundle
from bedside.cli.main import main
from bedside.errors import BackendError
from bedside.report.roofline_plot import Dot, draw_roofline
from models_for_tests import (
    INPUT_SHAPE,
    make_card,
    make_graph,
    make_plain_graph,
    make_spec,
    make_split,
    make_verdict,
)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "tiny.bedside"
    card = make_card(make_verdict("f32"), make_verdict("bf16", passed=False))
    write_bundle(
        path, spec=make_spec(), card=card, graphs={"f32": make_graph()}, split=make_split()
    )
    return path


def test_a_convolution_is_counted_by_hand():
    (conv,) = count_operations(make_plain_graph().SerializeToString())
    # 3 x 32 x 32 results of 1 x 2 x 2 products each.
    assert conv.flops == 2 * 3 * 32 * 32 * 4
    assert conv.elements == 64 * 64 + 3 * 32 * 32 + 12
    assert (conv.kind, conv.weights) == ("Convolution", 12)


def test_products_of_a_network_are_what_torch_counts():
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from models_for_tests import make_model

    model, counter = make_model(), FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(torch.zeros(INPUT_SHAPE))
    kinds = ("Convolution", "depthwise", "MatMul")
    counted = [each for each in count_operations(make_graph()) if each.kind in kinds]
    assert sum(each.flops for each in counted) == counter.get_total_flops()
    assert {each.kind for each in counted} == set(kinds)


def test_the_runtime_tells_where_time_goes():
    spent = profile(make_graph(), np.zeros(INPUT_SHAPE, np.float32))
    assert spent[0].milliseconds >= spent[-1].milliseconds > 0
    assert "Convolution" in {each.kind for each in spent}
    assert {each.name for each in spent} & {each.name for each in count_operations(make_graph())}


def test_ceilings_are_measured_and_bound_from_below():
    ceilings = measure_ceilings(("f32", "int8"), threads=1)
    assert ceilings.gflops["f32"] > 0.1
    assert ceilings.memory_gbs > 0.1
    higher = ceilings.raised_to(Ceilings(1, {"f32": 1e9, "int8": 0.0}, 0.0))
    assert (higher.gflops["f32"], higher.memory_gbs) == (1e9, ceilings.memory_gbs)
    assert Ceilings(1, {"int8": 10.0}, 1.0).shortest_ms(0, 10**6, "int8") == 1.0


def test_a_fresh_process_tells_its_start_and_memory(path):
    cold = measure_cold_start(path, backend="openvino", precision="f32", threads=1)
    assert cold.first_logits_ms > 50
    assert 30 < cold.peak_mb < 2000
    with pytest.raises(BackendError, match="does not start in int8"):
        measure_cold_start(path, backend="openvino", precision="int8", threads=1)


def test_lines_that_come_at_once_are_all_read():
    both = [sys.executable, "-c", r"print('logits\n{}', flush=True)"]
    seconds, rest = time_first_line(both)
    assert seconds > 0
    assert rest.strip() == "{}"


def test_a_program_that_says_nothing_is_told_with_its_last_words():
    with pytest.raises(BackendError, match="no such network"):
        time_first_line([sys.executable, "-c", "raise SystemExit('no such network')"])


@pytest.mark.parametrize("first", ["", "print('logits', flush=True); "])
def test_a_program_that_hangs_is_ended(first):
    with pytest.raises(BackendError, match=r"not done in 0\.5 s"):
        time_first_line(
            [sys.executable, "-c", f"{first}import time; time.sleep(600)"], deadline_s=0.5
        )


def test_an_interrupted_wait_leaves_no_timer_that_python_would_wait_for(monkeypatch):
    def interrupt(process):
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupt)
    before = threading.enumerate()
    with pytest.raises(KeyboardInterrupt):
        time_first_line([sys.executable, "-c", "print('logits')"])
    after = [thread for thread in threading.enumerate() if thread not in before]
    timers = [thread for thread in after if isinstance(thread, threading.Timer)]
    assert all(timer.finished.is_set() for timer in timers)


def test_every_way_to_run_a_bundle_is_measured(path, monkeypatch, capsys, tmp_path):
    quick = Ceilings(1, {"f32": 100.0, "bf16": 200.0, "int8": 400.0}, 20.0)
    monkeypatch.setattr(measured, "measure_ceilings", lambda precisions, *, threads: quick)
    monkeypatch.setattr(
        measured,
        "measure_cold_start",
        lambda bundle, **way: ColdStart(way["threads"], 1.0),
    )
    words = ["bench", str(path), "--threads", "1", "--seconds", "0", "-o", str(tmp_path / "out")]
    assert main(words) == 0
    told = capsys.readouterr()
    assert "openvino f32" in told.out
    assert "onnxruntime f32" in told.out
    report = json.loads((tmp_path / "out" / "bench.json").read_text())
    ways = {(cost["backend"], cost["precision"]) for cost in report["costs"]}
    assert {("openvino", "f32"), ("onnxruntime", "f32")} <= ways
    for cost in report["costs"]:
        way = (cost["backend"], cost["precision"])
        assert cost["certified"] is (way == ("openvino", "f32"))
        assert cost["p99_ms"] >= cost["p50_ms"] >= cost["best_ms"] > 0
        assert cost["of_ceiling"] == pytest.approx(cost["shortest_ms"] / cost["best_ms"], abs=0.06)
        assert 0 < cost["of_ceiling"] <= 1.01
    groups = report["where"]["tiny, f32"]
    assert groups[0]["milliseconds"] >= groups[-1]["milliseconds"]
    assert "<svg" in (tmp_path / "out" / "bench.svg").read_text()


def test_benching_a_bundle_needs_no_torch(path):
    import subprocess

    program = (
        "import sys; sys.modules['torch'] = sys.modules['onnx'] = None\n"
        "import bedside.benchmarking.bundles, bedside.cli.bench_bundles\n"
        "from pathlib import Path; from bedside.bundle import read_bundle\n"
        "from bedside.benchmarking.operations import count_operations\n"
        f"print(len(count_operations(read_bundle(Path({str(path)!r})).read_graph('f32'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 20


def test_a_roof_has_its_edge_where_memory_and_arithmetic_meet():
    dots = {"MatMul": ((1, 2, 3), [Dot("a", 2.0, 5.0, 0.25), Dot("b", 0.2, 0.9, 0.04)])}
    drawn = draw_roofline(dots, title="t", gflops=100.0, memory_gbs=10.0)
    # Decades 0.1 to 10 across 62 to 430, and 0.1 to 100 over 290 to 30: the edge is at (10, 100).
    assert "430.0,30.0" in drawn
    assert drawn.count("<circle") == 2
    assert "MatMul 29 %" in drawn


def test_no_bundle_and_no_thread_are_refused(capsys):
    assert main(["bench", "bricks"]) == 3
    assert 'no bundle "bricks"' in capsys.readouterr().err
    assert main(["bench", "camus-4ch", "--threads", "0"]) == 2
