import errno
import importlib
import json
import os
import subprocess
import sys

import pytest

import bedside
from bedside.cli import demo, models
from bedside.cli.main import COMMANDS, main
from bedside.errors import BackendError, FormatError


def fail_with(error):
    def run(settings):
        raise error

    return run


def run_fresh(*words):
    return subprocess.run(
        [sys.executable, "-m", "bedside", *words], capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def test_help_names_every_command_and_the_disclaimer(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)
    assert "Not a medical device" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_that_begins_with_its_line(name, capsys):
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"usage: bedside {name}" in text
    module = importlib.import_module(f"bedside.cli.{name}")
    assert module.Settings.__doc__.splitlines()[0] == COMMANDS[name]


def test_help_loads_no_command():
    code = (
        "import sys; from bedside.cli.main import COMMANDS, main; main(['--help']); "
        "print([name for name in COMMANDS if f'bedside.cli.{name}' in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"


def test_version_is_the_package_s(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"bedside {bedside.__version__}\n"


def test_help_is_quick_and_loads_no_heavy_module():
    code = (
        "import sys; from bedside.cli.main import main; main(['--help']); "
        "heavy = {'numpy', 'cv2', 'PIL', 'rich', 'torch', 'pydicom', 'openvino'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    before = os.times()
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = os.times()
    assert found.stdout.splitlines()[-1] == "[]"
    # Processor time of the child, which other work on the machine hardly lengthens.
    user, system = (after[place] - before[place] for place in (2, 3))
    assert user + system < 0.5


@pytest.mark.parametrize("words", [[], ["segmnt"], ["segment"], ["models", "--jsn"]])
def test_wrong_use_is_one_line_and_exit_code_2(words, capsys):
    assert main(words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("bedside: error: ")
    assert told.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (FormatError("a.dcm is\n  truncated."), 3),
        (BackendError("no openvino."), 4),
        (KeyError("surprise"), 1),
    ],
)
def test_errors_become_one_line_and_a_code(error, exit_code, monkeypatch, capsys):
    monkeypatch.setattr(models, "run", fail_with(error))
    assert main(["models", "--json"]) == exit_code
    told = capsys.readouterr()
    assert told.err.count("\n") == 1
    found = json.loads(told.out)["error"]
    assert found["type"] == type(error).__name__
    assert found["exit_code"] == exit_code
    assert told.err == f"bedside: error: {found['message']}\n"


@pytest.mark.parametrize(
    ("number", "exit_code", "said"),
    [
        (errno.ENOSPC, 2, "cannot write /x/y"),
        (errno.EROFS, 2, "cannot write /x/y"),
        (errno.EACCES, 3, "cannot open /x/y"),
        (errno.EIO, 3, "cannot open /x/y"),
        (errno.ECHILD, 1, "fault in bedside"),
    ],
)
def test_what_the_system_refuses_is_no_fault_of_ours(number, exit_code, said, monkeypatch, capsys):
    error = OSError(number, os.strerror(number), "/x/y")
    monkeypatch.setattr(models, "run", fail_with(error))
    assert main(["models"]) == exit_code
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert said in told
    assert os.strerror(number) in told


@pytest.mark.parametrize("words", [["--debug", "models"], ["models", "--debug"]])
def test_the_traceback_comes_with_debug_only(words, monkeypatch, capsys):
    monkeypatch.setattr(models, "run", fail_with(FormatError("a.dcm is truncated.")))
    assert main(words) == 3
    assert "Traceback" in capsys.readouterr().err
    assert main(["models"]) == 3
    assert "Traceback" not in capsys.readouterr().err


def test_an_interrupt_is_130(monkeypatch, capsys):
    monkeypatch.setattr(models, "run", fail_with(KeyboardInterrupt()))
    assert main(["models"]) == 130
    assert capsys.readouterr().err == "bedside: interrupted.\n"


def test_a_reader_that_leaves_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "bedside", "--help"], stdout=gone,
            stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.stderr == ""


def test_the_command_runs_as_a_process():
    done = run_fresh("segment", "nowhere.dcm", "-o", "out")
    assert done.returncode == 3
    assert "nowhere.dcm" in done.stderr
    assert done.stdout == ""


def test_the_demo_finds_its_cine_without_loading_or_downloading():
    path = demo.find_cine()
    assert path.name == "examples_ybr_color.dcm"
    assert path.read_bytes()[128:132] == b"DICM"
