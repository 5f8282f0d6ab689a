"""Exports on an emulated ARM processor: the labels of x86, where an emulator and its folder are."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from export_fixtures import noise

import arm
import arm_root
from bedside.runtime import open_graph
from models_for_tests import make_graph, make_noise

ROOT = os.environ.get("BEDSIDE_ARM_ROOT")


def test_the_labels_on_arm_are_those_of_x86(tmp_path):
    if shutil.which(arm_root.QEMU) is None:
        pytest.skip(f"NOT TESTED ON ARM: {arm_root.QEMU} is missing (apt-get install qemu-user)")
    if not ROOT:
        pytest.skip(
            "NOT TESTED ON ARM: BEDSIDE_ARM_ROOT names no folder; benchmarks/arm.py prepare ROOT"
        )
    model = tmp_path / "model.onnx"
    model.write_bytes(make_graph())
    tensors = np.concatenate([noise(), make_noise(seed=1)])
    logits, runtime = arm_root.run_emulated(Path(ROOT), model, tensors)
    assert runtime.startswith("onnxruntime ")
    session = open_graph(make_graph(), backend="onnxruntime", threads=1)
    here = np.concatenate([session.predict(tensor[None]) for tensor in tensors])
    assert (logits.argmax(1) == here.argmax(1)).mean() >= arm.FLOORS["f32"]
    # Sums are added in another order: they are near, and seldom equal to the last bit.
    np.testing.assert_allclose(logits, here, rtol=0, atol=1e-4 * np.abs(here).max())


def test_what_fails_on_arm_says_so(tmp_path):
    if shutil.which(arm_root.QEMU) is None or not ROOT:
        pytest.skip("NOT TESTED ON ARM: no emulator, or BEDSIDE_ARM_ROOT names no folder")
    model = tmp_path / "model.onnx"
    model.write_bytes(b"no graph")
    with pytest.raises(RuntimeError, match=r"model\.onnx on ARM"):
        arm_root.run_emulated(Path(ROOT), model, noise())


def test_rows_fail_below_their_floor_and_the_page_says_so(tmp_path):
    equal = {"f32": 0.99995, "int8": 0.9985}
    rows = [
        arm.Row("tiny", f"onnx {kind}", "onnxruntime 1", 20, part, part, 1e-6, part)
        for kind, part in equal.items()
    ]
    assert [row.holds for row in rows] == [True, False]
    page = tmp_path / "arm.md"
    arm.write_page(rows, page)
    lines = [line for line in page.read_text().splitlines() if line.startswith("| `tiny`")]
    assert "20 frames | 99.9950 %" in lines[0]
    assert "Not run yet: `tiny` in litert f32, " in page.read_text()
    assert lines[0].endswith("holds |")
    assert lines[1].endswith("**fails** |")
