"""Shells complete commands, options and values; bash is really asked."""

import shutil
import subprocess
import sys

import pytest

from bedside.cli.main import COMMANDS, main


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "bedside.bash"
    done = subprocess.run(
        [sys.executable, "-m", "bedside", "completion", "bash"], capture_output=True, check=True
    )
    path.write_bytes(done.stdout)
    return path


def complete(script, *words):
    """What bash offers for the last of the words."""
    if shutil.which("bash") is None:
        pytest.skip("NOT TESTED: there is no bash")
    asked = " ".join(f"'{word}'" for word in ("bedside", *words))
    program = (
        f"source {script}; COMP_WORDS=({asked}); COMP_CWORD={len(words)}; _bedside; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-uc", program], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_commands_are_completed(script):
    assert complete(script, "") == [*COMMANDS, "--help", "--version", "--debug"]
    assert complete(script, "comp") == ["compress", "completion"]


def test_options_of_a_command_are_completed(script):
    assert complete(script, "segment", "a.dcm", "--out") == ["--output"]
    assert "--retune" in complete(script, "models", "--")
    assert "--retune" not in complete(script, "segment", "--")


def test_values_of_an_option_are_completed(script):
    assert complete(script, "segment", "a.dcm", "--gaps", "") == ["refuse", "interpolate"]
    assert complete(script, "recipe", "data", "--model", "t") == ["tiny", "tiny-conv"]
    assert complete(script, "completion", "z") == ["zsh"]


def test_names_of_shipped_bundles_and_recipes_are_completed(script):
    assert complete(script, "segment", "a.dcm", "-m", "camus-4ch-") == ["camus-4ch-robust"]
    assert complete(script, "models", "hc18") == ["hc18-head"]
    found = complete(script, "train", "hippocampus")
    assert sorted(found) == ["hippocampus", "hippocampus-base", "hippocampus-fast"]


def test_where_a_file_is_expected_the_shell_offers_files(script):
    assert complete(script, "segment", "a.dcm", "--output", "") == []
    assert complete(script, "segment", "a") == []
    assert "complete -o default -F _bedside bedside" in script.read_text()


def test_zsh_runs_the_script_of_bash_and_fish_has_a_line_for_each_option(script, capsys):
    assert main(["completion", "zsh"]) == 0
    zsh = capsys.readouterr().out
    assert zsh.startswith("autoload -Uz +X bashcompinit && bashcompinit\n")
    assert zsh.endswith(script.read_text())
    assert main(["completion", "fish"]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = "complete -c bedside -n '__fish_seen_subcommand_from segment'"
    assert any(line.startswith(f"{start} -l gaps -r -a 'refuse interpolate' -d") for line in lines)
    assert any(line.startswith(f"{start} -s o -l output -r -d") for line in lines)
