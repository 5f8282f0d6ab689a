"""What is chosen at first use stays, on every machine that can remember it; clocks are made."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bedside.bundle import Bundle
from bedside.errors import BackendError, OutputError
from bedside.runtime import autotune, autotune_cache, execution_modes, open_session
from bedside.runtime.autotune_cache import PAUSE_S, ChoiceFile
from bedside.runtime.fastest import Fastest, Timing
from models_for_tests import make_bundle, make_noise, make_verdict

PLAIN, OTHER = ("openvino", "f32"), ("onnxruntime", "f32")
BOTH = (make_verdict("f32"), make_verdict("f32", backend="onnxruntime"))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path, *BOTH)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "bedside" / "choices"


class Clock:
    """Stands for `find_fastest`: gives what it is told, in turn, and counts its questions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: str | None) -> None:
        self.answers, self.asked = list(answers), 0
        monkeypatch.setattr(autotune, "find_fastest", self)

    def __call__(self, calls, *, total_s):
        for call in calls.values():
            assert call().shape == (1, 3, 32, 32)
        self.names = list(calls)
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return Fastest(answer, {name: Timing(2.0, 1.9, 2.1, 9) for name in calls})


def choose(bundle, said=None, **options):
    said = [] if said is None else said
    session = open_session(bundle, on_choice=said.append, **{"threads": 1, **options})
    assert session.predict(make_noise()).shape == (1, 3, 32, 32)
    return session.backend


def kept(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"))


def test_the_fastest_is_taken_remembered_and_said_once(bundle, folder, monkeypatch):
    # The clock changes its mind, and is not asked again.
    clock, said = Clock(monkeypatch, "onnxruntime f32", "openvino f32"), []
    assert [choose(bundle, said) for _ in range(3)] == ["onnxruntime"] * 3
    assert clock.asked == 1
    assert clock.names == ["openvino f32", "onnxruntime f32"]
    assert len(said) == 1
    assert "tiny runs in onnxruntime f32 here (openvino f32 2.00 ms, onnxruntime f32" in said[0]
    (file,) = kept(folder)
    record = json.loads(file.read_text())
    assert record["times_ms"] == {"openvino f32": 2.0, "onnxruntime f32": 2.0}
    assert record["bundle"] == "tiny"


def test_without_an_answer_the_default_runs_and_it_is_tried_again_after_an_hour(
    bundle, folder, monkeypatch
):
    clock, said = Clock(monkeypatch, None, "onnxruntime f32"), []
    assert [choose(bundle, said) for _ in range(3)] == ["openvino"] * 3
    assert clock.asked == 1
    assert "too busy to tell which way is the fastest" in said[0]
    assert kept(folder) == []
    (tried,) = folder.glob("*.tried")
    passed = time.time() - PAUSE_S - 1
    os.utime(tried, (passed, passed))
    assert [choose(bundle, said) for _ in range(2)] == ["onnxruntime"] * 2
    assert clock.asked == 2


def test_a_clock_that_was_set_back_does_not_keep_it_from_being_tried(bundle, folder, monkeypatch):
    clock = Clock(monkeypatch, None)
    choose(bundle)
    (tried,) = folder.glob("*.tried")
    ahead = time.time() + 1e6
    os.utime(tried, (ahead, ahead))
    choose(bundle)
    assert clock.asked == 2


def test_threads_versions_and_what_may_be_chosen_are_other_questions(
    bundle, folder, tmp_path, monkeypatch
):
    clock = Clock(monkeypatch, "onnxruntime f32")
    for threads in (1, 2, 1):
        choose(bundle, threads=threads)
    assert clock.asked == 2
    (tmp_path / "other").mkdir()
    choose(make_bundle(tmp_path / "other", *BOTH, make_verdict("bf16")))
    assert clock.asked == 3
    monkeypatch.setattr(autotune_cache, "fingerprint", lambda: "another processor or runtime")
    choose(bundle)
    assert clock.asked == 4
    assert len(kept(folder)) == 4


def test_a_quota_of_a_container_is_another_machine(tmp_path):
    from bedside.runtime import machine

    assert machine._read_quota(tmp_path) == ""
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine._read_quota(tmp_path) == ""
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert machine._read_quota(tmp_path) == "50000 100000"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema_version": 2, "backend": "tpu", "precision": "f32"}',
             '{"schema_version": 9, "backend": "openvino", "precision": "f32"}'],
)  # fmt: skip
def test_a_damaged_memory_is_timed_again(bundle, folder, monkeypatch, text):
    clock = Clock(monkeypatch, "onnxruntime f32")
    choose(bundle)
    (file,) = kept(folder)
    file.write_text(text)
    assert [choose(bundle) for _ in range(2)] == ["onnxruntime"] * 2
    assert clock.asked == 2
    assert json.loads(file.read_text())["backend"] == "onnxruntime"


def test_where_nothing_can_be_remembered_the_default_runs_every_time(bundle, tmp_path, monkeypatch):
    """Or two runs in a row could time it differently, and give two masks."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    clock, said = Clock(monkeypatch, "onnxruntime f32"), []
    assert choose(bundle, said) == "openvino"
    assert (clock.asked, said) == (0, [])
    with pytest.raises(OutputError, match="cannot remember a choice in"):
        autotune.retune(bundle, threads=1)


def test_a_cache_that_fills_up_while_it_is_timed_leaves_the_default(bundle, folder, monkeypatch):
    Clock(monkeypatch, "onnxruntime f32")

    def full(path, text):
        raise OutputError("no space left on device")

    monkeypatch.setattr(autotune_cache, "write_text_once", full)
    said = []
    assert choose(bundle, said) == "openvino"
    assert "no folder to remember that in" in said[0]


def test_a_cache_that_can_only_be_read_is_read(bundle, folder, monkeypatch):
    Clock(monkeypatch, "onnxruntime f32", "openvino f32")
    choose(bundle)
    monkeypatch.setattr(ChoiceFile, "held", lambda self: pytest.fail("nothing is written"))
    assert choose(bundle) == "onnxruntime"


def test_the_first_of_several_answers_counts_for_all(bundle, folder):
    """As where locks do not work across machines that share a home."""
    first, second = (ChoiceFile(folder, bundle, (PLAIN, OTHER), threads=1) for _ in range(2))
    assert first.keep(OTHER, {}) == OTHER
    assert second.keep(PLAIN, {}) == OTHER
    assert second.keep(PLAIN, {}, replace=True) == PLAIN
    assert first.read() == PLAIN
    assert [path.name for path in folder.iterdir()] == [first.path.name]


def test_who_comes_second_waits_for_the_first_and_takes_its_answer(bundle, folder, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()
    asked = []

    def slow(calls, *, total_s):
        asked.append(1)
        begun.set()
        assert go_on.wait(60)
        return Fastest("onnxruntime f32", {})

    monkeypatch.setattr(autotune, "find_fastest", slow)
    found: list[str] = []
    users = [threading.Thread(target=lambda: found.append(choose(bundle))) for _ in range(4)]
    users[0].start()
    assert begun.wait(60)
    for user in users[1:]:
        user.start()
    go_on.set()
    for user in users:
        user.join(60)
    assert found == ["onnxruntime"] * 4
    assert len(asked) == 1


def test_who_waits_too_long_takes_the_default(bundle, folder, monkeypatch):
    clock = Clock(monkeypatch, "onnxruntime f32")
    monkeypatch.setattr(autotune_cache, "_PATIENCE_S", 0.0)
    held = ChoiceFile(folder, bundle, execution_modes.certified_modes(bundle), threads=1).held()
    with held as first:
        assert first
        assert choose(bundle) == "openvino"
    assert clock.asked == 0
    assert choose(bundle) == "onnxruntime"


def test_a_way_that_does_not_open_is_left_out(bundle, folder, monkeypatch):
    opened = execution_modes.open_graph

    def refuse(graph, *, backend, precision, threads):
        if backend == "onnxruntime":
            raise BackendError("not here")
        return opened(graph, backend=backend, precision=precision, threads=threads)

    clock = Clock(monkeypatch, "openvino f32")
    monkeypatch.setattr(execution_modes, "open_graph", refuse)
    assert choose(bundle) == "openvino"
    assert clock.names == ["openvino f32"]


def test_a_remembered_way_that_no_longer_opens_gives_way_to_the_default(
    bundle, folder, monkeypatch
):
    Clock(monkeypatch, "onnxruntime f32")
    choose(bundle)
    opened = execution_modes.open_graph

    def refuse(graph, *, backend, precision, threads):
        if backend == "onnxruntime":
            raise BackendError("not here")
        return opened(graph, backend=backend, precision=precision, threads=threads)

    monkeypatch.setattr(execution_modes, "open_graph", refuse)
    assert choose(bundle) == "openvino"


def test_retuning_replaces_what_was_remembered_if_there_is_an_answer(bundle, folder, monkeypatch):
    Clock(monkeypatch, "onnxruntime f32", None, "openvino f32")
    assert choose(bundle) == "onnxruntime"
    undecided = autotune.retune(bundle, threads=1)
    assert (undecided.mode, undecided.decided) == (OTHER, False)
    assert choose(bundle) == "onnxruntime"
    decided = autotune.retune(bundle, threads=1)
    assert (decided.mode, decided.decided) == (PLAIN, True)
    assert choose(bundle) == "openvino"


def test_auto_times_and_nothing_else_does(bundle, folder, monkeypatch):
    clock = Clock(monkeypatch, "onnxruntime f32")
    assert choose(bundle, precision="default") == "openvino"
    assert choose(bundle, precision="f32") == "openvino"
    assert choose(bundle, backend="openvino") == "openvino"
    assert clock.asked == 0
    assert not folder.exists()
    assert choose(bundle) == "onnxruntime"


def test_processes_that_start_together_agree_with_the_clock_of_this_machine(bundle, folder):
    """No made clock: whatever they find, all later ones find the same."""
    program = (
        "from pathlib import Path; from bedside.bundle import read_bundle; "
        "from bedside.runtime import autotune, open_session; autotune.BUDGET_S = 0.2; "
        f"print(open_session(read_bundle(Path({str(bundle.path)!r})), threads=1).backend)"
    )
    command = [sys.executable, "-c", program]
    users = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    together = {user.communicate(timeout=120)[0] for user in users}
    later = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert together == {later.stdout}
    assert len(kept(folder)) <= 1
