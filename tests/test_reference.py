"""The API reference: what each public name's docstring must have."""

import ast
import importlib
import inspect
import re
import textwrap
import tomllib

import pytest

from doc_pages import ROOT

PAGES = tomllib.loads((ROOT / "docs" / "reference.toml").read_text(encoding="utf-8"))["page"]
MODULES = [module for page in PAGES for module in page["modules"]]


def list_public(module):
    """Public classes, functions and methods of a module: name, object."""
    pytest.importorskip("torch" if "layers" in module else "numpy")
    loaded = importlib.import_module(module)
    own = [
        name for name, value in vars(loaded).items() if getattr(value, "__module__", 0) == module
    ]
    for name in getattr(loaded, "__all__", own):
        value = getattr(loaded, name)
        if name.startswith("_") or not (inspect.isfunction(value) or inspect.isclass(value)):
            continue
        yield f"{module}.{name}", value
        for method, inner in vars(value).items() if inspect.isclass(value) else ():
            called = inner.__func__ if isinstance(inner, classmethod | staticmethod) else inner
            # What torch calls forward is described by the class.
            if inspect.isfunction(called) and method != "forward" and not method.startswith("_"):
                yield f"{module}.{name}.{method}", called


def find_gaps(value):
    """What a docstring lacks."""
    text = inspect.getdoc(value)
    if not text:
        return ["docstring"]
    if inspect.isclass(value):
        fields = [name for name in getattr(value, "__annotations__", {}) if re.match("[a-z]", name)]
        fields = [name for name in fields if name not in ("step", "prior")]  # named by the class
        return [f for f in fields if "Attributes:" in text and f"    {f}: " not in text]
    gaps = []
    signature = inspect.signature(value)
    names = [name for name in signature.parameters if name not in ("self", "cls")]
    gaps += [
        name for name in names if not re.search(rf"^    \*{{0,2}}{name}: ", text, re.MULTILINE)
    ]
    returns = signature.return_annotation not in (None, "None", inspect.Signature.empty)
    if returns and not re.search(r"\A(Return|Whether) |^(Returns|Yields):", text, re.MULTILINE):
        gaps.append("Returns")
    tree = ast.parse(textwrap.dedent(inspect.getsource(value)))
    raises = any(
        isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) for node in ast.walk(tree)
    )
    if raises and "Raises:" not in text:
        gaps.append("Raises")
    return gaps


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_says_what_it_takes_returns_and_raises(module):
    found = {name: gaps for name, value in list_public(module) if (gaps := find_gaps(value))}
    assert found == {}


def test_the_reference_has_a_page_for_what_most_users_import():
    assert {"bedside", "bedside.errors", "bedside.spec", "bedside.volume"} <= set(MODULES)
