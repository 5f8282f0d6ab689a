"""What `make check` adds to the linters finds what it is for."""

import pytest

import check_file_sizes
import check_imports

WAYS = {
    "at the top": "import bedside.b",
    "in a function": "def run():\n    from bedside import b",
    "for types only": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .b import X",
    "in a table": "TABLE = {'b': 'bedside.b:function'}",
}


def write(folder, **modules):
    package = folder / "bedside"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for name, text in modules.items():
        (package / f"{name}.py").write_text(text)


@pytest.mark.parametrize("text", WAYS.values(), ids=WAYS)
def test_a_circle_of_imports_is_found(tmp_path, capsys, text):
    write(tmp_path, a=text, b="from bedside.c import X", c="import bedside.a")
    assert check_imports.main(tmp_path) == 1
    said = capsys.readouterr().err
    for step in ("bedside.a -> bedside.b", "bedside.b -> bedside.c", "bedside.c -> bedside.a"):
        first, _, last = step.partition(" -> ")
        assert step in said or (said.endswith(f"-> {first}\n") and f": {last} ->" in said)


def test_imports_downward_are_no_circle(tmp_path):
    write(tmp_path, a=WAYS["in a table"], b="from bedside import c", c="import numpy")
    assert check_imports.main(tmp_path) == 0


def test_long_files_and_functions_are_found(tmp_path, capsys):
    (tmp_path / "src").mkdir()
    (tmp_path / "tests").mkdir()
    body = "".join("    pass\n" for _ in range(60))
    (tmp_path / "src" / "function.py").write_text(f"def long():\n{body}")
    (tmp_path / "src" / "file.py").write_text("x = 1\n" * 401)
    (tmp_path / "tests" / "fine.py").write_text("x = 1\n" * 400)
    assert check_file_sizes.main(tmp_path) == 1
    assert capsys.readouterr().err == (
        "src/file.py: over 400 lines\nsrc/function.py: long has 61 lines, over 60\n"
    )
