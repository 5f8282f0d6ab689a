"""A signal at any moment: one line, the right exit code, nothing left and no orphan.

Moments are chosen, and not met by chance: a hook in the run sends the signal to its own process
when it comes there. `benchmarks/interrupts.py` sends hundreds at random moments.
"""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

LINES = {
    signal.SIGINT: "bedside: interrupted.\n",
    signal.SIGTERM: "bedside: interrupted by SIGTERM.\n",
    signal.SIGHUP: "bedside: interrupted by SIGHUP.\n",
}
# Each defines `wait_for`, which calls `send` at its moment.
MOMENTS = {
    # In the midst of an import in the main thread, as the module's own lock is held.
    "an import": """
        import builtins
        plain = builtins.__import__
        def wait_for(name, *rest, **more):
            if name == "numpy" and threading.current_thread() is threading.main_thread():
                send()
            return plain(name, *rest, **more)
        builtins.__import__ = wait_for
    """,
    # In a thread that works beside the main one: where one Ctrl-C could hang for ever.
    "work beside an import": """
        import importlib._bootstrap as bootstrap, builtins
        plain = builtins.__import__
        def wait_for(name, *rest, **more):
            if name.startswith("openvino") and threading.current_thread() is not main:
                send()
            return plain(name, *rest, **more)
        main = threading.main_thread()
        builtins.__import__ = wait_for
    """,
    # As the mask is being written, by the main thread or another.
    "writing": """
        import bedside.system.unfinished as unfinished
        plain = unfinished._make_file
        def wait_for(path):
            plain(path)
            if "segmentation" in path.name:
                send()
        unfinished._make_file = wait_for
    """,
    # As finished files are moved to their place, one after the other.
    "moving": """
        from pathlib import Path
        plain = Path.replace
        def wait_for(path, target):
            if path.name == target.name == "report.html" and ".part-" in str(path.parent):
                send()
            return plain(path, target)
        Path.replace = wait_for
    """,
}
RUN = """
import os, signal, sys, threading, time
# A job in the background has SIGINT ignored, and those it starts inherit that. Here, and not by
# `preexec_fn`: that forks the tests' process, whose threads, such as JAX's, may hold a lock then.
for number in {numbers}:
    signal.signal(number, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_SETMASK, [])
signal.signal(signal.SIGINT, signal.default_int_handler)
def send():
    if not sent:
        sent.append(True)
        os.kill(os.getpid(), {number})
        time.sleep(0.01)
sent = []
{moment}
from bedside.cli.program import run_program
run_program()
"""


def start(arguments, *, moment="", number=signal.SIGINT, tmp, **more):
    """Start `bedside` with a hook, as a shell starts a job in the foreground."""
    code = RUN.format(
        numbers=[int(each) for each in LINES], number=int(number), moment=textwrap.dedent(moment)
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp)}, **more,
    )  # fmt: skip


@pytest.fixture
def tmp(tmp_path):
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


def check_told(told, number):
    """One line says how it ended, the last one; what was said before is no traceback."""
    assert told.endswith(LINES[number])
    assert told.count("interrupted") == 1
    assert "Traceback" not in told
    assert "rror" not in told


def left_of(*folders):
    return [path for folder in folders if folder.exists() for path in folder.rglob("*")]


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        *((signal.SIGINT, moment) for moment in MOMENTS),
        (signal.SIGTERM, "work beside an import"),
        (signal.SIGTERM, "writing"),
        (signal.SIGTERM, "moving"),
        (signal.SIGHUP, "writing"),
    ],
)
def test_a_signal_ends_a_run_at_any_moment(number, moment, sequence, bundle, tmp_path, tmp):
    out = tmp_path / "out"
    run = start(
        ["segment", sequence, "-m", bundle, "-o", out],
        moment=MOMENTS[moment], number=number, tmp=tmp,
    )  # fmt: skip
    _, told = run.communicate(timeout=120)
    check_told(told, number)
    assert run.returncode == 128 + number
    assert left_of(tmp) == []
    if moment == "moving":
        # It had begun, so it was ended: a folder never holds a part of a case.
        assert "report.json" in {path.name for path in out.iterdir()}
        assert not list(out.rglob(".part-*"))
    else:
        assert not out.exists()


def test_a_second_interrupt_does_not_stop_the_cleaning(sequence, bundle, tmp_path, tmp):
    slow = """
        import bedside.system.unfinished as unfinished
        quick = unfinished.remove
        def remove(path):
            for _ in range(5 if sent else 0):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.02)
            quick(path)
        unfinished.remove = remove
    """
    run = start(
        ["segment", sequence, "-m", bundle, "-o", tmp_path / "out"],
        moment=textwrap.dedent(slow) + textwrap.dedent(MOMENTS["writing"]), tmp=tmp,
    )  # fmt: skip
    _, told = run.communicate(timeout=120)
    check_told(told, signal.SIGINT)
    assert run.returncode == 130
    assert left_of(tmp, tmp_path / "out") == []


def test_an_ignored_interrupt_stays_ignored(sequence, bundle, tmp_path, tmp):
    ignoring = "signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + textwrap.dedent(MOMENTS["moving"])
    run = start(
        ["segment", sequence, "-m", bundle, "-o", tmp_path / "out"], moment=ignoring, tmp=tmp
    )
    _, told = run.communicate(timeout=120)
    assert run.returncode == 0, told


def make_folder(sequence, tmp_path, count=6):
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(count):
        shutil.copy(sequence, folder / f"{number}.dcm")
    return folder


def find_children(pid):
    """Processes below one, by /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            child = int(stat.parent.name)
            found += [child, *find_children(child)]
    return found


def wait_until(true, seconds=60):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.01)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")
@pytest.mark.parametrize(
    ("number", "late"),
    # What SIGTERM and SIGHUP do differs from SIGINT in the line and the code only.
    [
        (signal.SIGINT, False), (signal.SIGKILL, False), (signal.SIGINT, True),
        (signal.SIGTERM, True), (signal.SIGHUP, True), (signal.SIGKILL, True),
    ],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else f"late={value}",
)  # fmt: skip
def test_workers_end_with_the_process_that_leads_them(
    number, late, sequence, bundle, tmp_path, tmp
):
    out = tmp_path / "out"
    data = make_folder(sequence, tmp_path)
    run = start(["segment", data, "-m", bundle, "-o", out, "--jobs", "2"], tmp=tmp)
    wait_until(lambda: len(find_children(run.pid)) >= 2 and (not late or list(out.glob("*/*"))))
    children = find_children(run.pid)
    run.send_signal(number)
    _, told = run.communicate(timeout=120)
    wait_until(lambda: not any(map(is_running, children)))
    if number == signal.SIGKILL:
        return
    check_told(told, number)
    assert run.returncode == 128 + number
    assert left_of(tmp, out / ".batch" / "parts") == []
    assert not list(out.rglob(".part-*"))


def test_what_a_killed_run_has_left_goes_with_the_next(sequence, bundle, tmp_path, tmp):
    out = tmp_path / "out"
    moment = textwrap.dedent(MOMENTS["writing"])
    run = start(
        ["segment", sequence, "-m", bundle, "-o", out],
        moment=moment,
        number=signal.SIGKILL,
        tmp=tmp,
    )
    run.communicate(timeout=120)
    assert run.returncode == -signal.SIGKILL
    assert list(out.glob(".part-*"))
    assert left_of(tmp)
    again = start(["segment", sequence, "-m", bundle, "-o", out], tmp=tmp)
    _, told = again.communicate(timeout=120)
    assert again.returncode == 0, told
    assert not list(out.rglob(".part-*"))
    assert left_of(tmp) == []


@pytest.mark.parametrize("verb", ["train", "evaluate", "demo", "bench"])
def test_other_commands_end_in_order_too(verb, bundle, tmp_path, tmp):
    out = tmp_path / "out"
    recipe = tmp_path / "recipe.toml"
    if verb in ("train", "evaluate"):
        pytest.importorskip("torch")
        from runs_for_tests import make_camus, make_recipe, to_toml

        (tmp_path / "data").mkdir()
        recipe.write_text(to_toml(make_recipe(make_camus(tmp_path / "data"), epochs=50)))
    arguments = {
        "train": ["train", recipe, "-o", out, "--threads", "1"],
        # Made-up images are none of the bundle's, which its gate would notice.
        "evaluate": ["evaluate", "camus-4ch", tmp_path / "data", "-o", out, "--gate", "off"],
        "demo": ["demo", "-o", out],
        "bench": ["bench", bundle, "--seconds", "60"],
    }
    moment = f"""
        def wait():
            while not {{"cv2", "torch", "openvino"}} & set(sys.modules):
                time.sleep(0.01)
            time.sleep(0.3)
            os.kill(os.getpid(), {int(signal.SIGINT)})
        threading.Thread(target=wait, daemon=True).start()
    """
    run = start(arguments[verb], moment=moment, tmp=tmp)
    _, told = run.communicate(timeout=120)
    check_told(told, signal.SIGINT)
    assert run.returncode == 130
    assert left_of(tmp) == []
    assert not list(tmp_path.rglob(".part-*"))


def test_a_batch_that_is_ended_as_it_writes_its_list_leaves_no_part_of_it(
    sequence, bundle, tmp_path, tmp
):
    out = tmp_path / "out"
    moment = """
        import bedside.batch.record as record
        plain = record.write_text
        def wait_for(path, content):
            plain(path, content)
            if path.name == "text" and list(path.parents[3].glob("*/report.json")):
                send()
        record.write_text = wait_for
    """
    data = make_folder(sequence, tmp_path, count=2)
    run = start(["segment", data, "-m", bundle, "-o", out, "--jobs", "2"], moment=moment, tmp=tmp)
    _, told = run.communicate(timeout=120)
    check_told(told, signal.SIGINT)
    assert left_of(tmp, out / ".batch" / "parts") == []
    assert len((out / "results.jsonl").read_text().splitlines()) >= 1
