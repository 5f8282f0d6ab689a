import json
import os
import time
from pathlib import Path

import pytest

from bedside.bundle import Bundle, read_bundle, write_bundle
from bedside.errors import BackendError
from bedside.runtime import choice, open_session
from bedside.runtime.variants import certified_variants, list_variants
from models_for_tests import make_card, make_graph, make_noise, make_spec, make_split, make_verdict

# As it is before tests replace it.
CLOCK = choice.time_variants
PLAIN, OTHER = ("openvino", "f32"), ("onnxruntime", "f32")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path)


def make_bundle(folder: Path, *verdicts, int8: bool = False) -> Bundle:
    path = folder / "tiny.bedside"
    graphs = {"f32": make_graph()} | ({"int8": make_graph()} if int8 else {})
    write_bundle(
        path, spec=make_spec(), card=make_card(*verdicts), graphs=graphs, split=make_split()
    )
    return read_bundle(path)


class Clock:
    """A timer that says what it is told, and counts how often it is asked."""

    def __init__(self, **times_ms: float) -> None:
        self.times_ms = {name.replace("_", " "): value for name, value in times_ms.items()}
        self.asked = 0

    def __call__(self, calls, total_s):
        self.asked += 1
        for call in calls.values():
            assert call().shape == (1, 3, 32, 32)
        return {name: self.times_ms[name] for name in calls}


def choose(bundle, clock, *, said=None, threads=1, variants=(PLAIN, OTHER)):
    said = [] if said is None else said
    session = choice.open_fastest(
        bundle, variants, expected=PLAIN, threads=threads, on_choice=said.append, timer=clock
    )
    assert session.predict(make_noise()).shape == (1, 3, 32, 32)
    return session.backend


def test_the_fastest_is_taken_remembered_and_said_once(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    clock, said = Clock(openvino_f32=3.0, onnxruntime_f32=2.0), []
    assert [choose(bundle, clock, said=said) for _ in range(3)] == ["onnxruntime"] * 3
    assert clock.asked == 1
    assert len(said) == 1
    assert "tiny runs in onnxruntime f32 here (onnxruntime f32 2.00 ms, openvino f32" in said[0]
    (file,) = (tmp_path / "cache" / "bedside" / "choices").iterdir()
    assert json.loads(file.read_text())["times_ms"]["openvino f32"] == 3.0


def test_what_is_hardly_faster_is_not_taken(bundle):
    assert choose(bundle, Clock(openvino_f32=3.0, onnxruntime_f32=2.9)) == "openvino"


def test_another_number_of_threads_is_another_choice(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    clock = Clock(openvino_f32=3.0, onnxruntime_f32=2.0)
    for threads in (1, 2, 1):
        choose(bundle, clock, threads=threads)
    assert clock.asked == 2


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema_version": 1, "backend": "tpu", "precision": "f32"}',
             '{"schema_version": 9, "backend": "openvino", "precision": "f32"}'],
)  # fmt: skip
def test_a_damaged_memory_is_timed_again(bundle, tmp_path, monkeypatch, text):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    clock = Clock(openvino_f32=3.0, onnxruntime_f32=2.0)
    choose(bundle, clock)
    (file,) = (tmp_path / "cache" / "bedside" / "choices").iterdir()
    file.write_text(text)
    assert choose(bundle, clock) == "onnxruntime"
    assert clock.asked == 2
    assert json.loads(file.read_text())["backend"] == "onnxruntime"


def test_a_cache_that_cannot_be_written_to_is_no_fault(bundle, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    said = []
    clock = Clock(openvino_f32=3.0, onnxruntime_f32=2.0)
    assert choose(bundle, clock, said=said) == "onnxruntime"
    assert "not remembered" in said[0]


def test_a_way_that_does_not_open_is_left_out(bundle, monkeypatch):
    opened = choice.open_graph

    def refuse(graph, *, backend, precision, threads):
        if backend == "onnxruntime":
            raise BackendError("not here")
        return opened(graph, backend=backend, precision=precision, threads=threads)

    monkeypatch.setattr(choice, "open_graph", refuse)
    assert choose(bundle, Clock(openvino_f32=3.0)) == "openvino"


def test_a_choice_that_was_cut_short_is_made_again_but_not_for_ever(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    verdict = make_verdict("bf16", passed=True)
    wide = make_bundle(tmp_path, verdict)
    ways = (PLAIN, ("openvino", "bf16"), OTHER)
    opened = choice.open_graph

    def slow(graph, *, backend, precision, threads):
        session = opened(graph, backend=backend, precision=precision, threads=threads)
        if precision == "bf16":
            time.sleep(choice.BUDGET_S / 2)
        return session

    monkeypatch.setattr(choice, "open_graph", slow)
    monkeypatch.setattr(choice, "BUDGET_S", 0.02)
    clock = Clock(openvino_f32=3.0, openvino_bf16=2.0)
    for _ in range(5):
        choose(wide, clock, variants=ways)
    assert clock.asked == 3


def test_only_what_the_card_vouches_for_may_be_chosen(tmp_path):
    verdicts = (make_verdict("bf16", passed=False), make_verdict("int8", passed=False))
    bundle = make_bundle(tmp_path, *verdicts, int8=True)
    assert certified_variants(bundle) == (PLAIN, OTHER)
    assert certified_variants(bundle, backend="openvino") == (PLAIN,)
    assert ("openvino", "int8") in list_variants(bundle)


def test_auto_times_and_rule_does_not(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    clock = Clock(openvino_f32=3.0, onnxruntime_f32=2.0)
    monkeypatch.setattr(choice, "time_variants", clock)
    assert open_session(bundle, precision="rule").backend == "openvino"
    assert open_session(bundle, precision="f32").backend == "openvino"
    assert clock.asked == 0
    assert not os.path.exists(tmp_path / "cache")
    assert open_session(bundle).backend == "onnxruntime"
    assert open_session(bundle, backend="openvino").backend == "openvino"
    assert clock.asked == 1


def test_the_clock_gives_a_time_for_each_way():
    times = CLOCK({"slow": lambda: time.sleep(0.003), "fast": lambda: None}, 0.0)
    assert times["slow"] >= 3 > times["fast"] >= 0
