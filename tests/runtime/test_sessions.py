import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import tolerances
from bedside.errors import BackendError, ClosedError, InputError, UsageError
from bedside.runtime import (
    BACKENDS,
    Session,
    default_threads,
    execution_modes,
    installed_backends,
    open_graph,
    open_session,
    session,
    table,
)
from models_for_tests import (
    INPUT_SHAPE,
    LOGIT_SHAPE,
    make_bundle,
    make_graph,
    make_noise,
    make_plain_graph,
    run_torch,
)

BACKEND_NAMES = [backend.name for backend in BACKENDS]


@pytest.fixture(params=BACKEND_NAMES)
def opened(request: pytest.FixtureRequest) -> Session:
    return open_graph(make_graph(), backend=request.param, threads=2)


def test_every_backend_gives_what_torch_gives(opened: Session) -> None:
    for seed in range(3):
        tensor = make_noise(seed=seed)
        wanted = run_torch(tensor)
        allowed = tolerances.STORED_WEIGHTS_RTOL * max(1, np.abs(wanted).max())
        np.testing.assert_allclose(opened.predict(tensor), wanted, rtol=0, atol=allowed)


def test_backends_agree_with_each_other() -> None:
    tensor = make_noise()
    logits = [open_graph(make_graph(), backend=name).predict(tensor) for name in BACKEND_NAMES]
    for other in logits[1:]:
        np.testing.assert_allclose(other, logits[0], rtol=0, atol=tolerances.F32_LOGIT_ATOL)


def test_logits_are_the_callers_to_keep(opened: Session) -> None:
    first = opened.predict(make_noise(seed=1))
    kept = first.copy()
    assert first.flags.writeable
    assert first.dtype == np.float32
    assert first.shape == LOGIT_SHAPE
    second = opened.predict(make_noise(seed=2))
    assert np.array_equal(first, kept)
    assert not np.array_equal(first, second)


def test_a_batch_gives_what_its_images_give(opened: Session) -> None:
    batch = make_noise(3)
    together = opened.predict(batch)
    alone = [opened.predict(batch[index : index + 1]) for index in range(3)]
    assert np.array_equal(together, np.concatenate(alone))


def test_logits_are_written_into_a_given_array(opened: Session) -> None:
    batch = make_noise(3)
    out = np.full((3, *LOGIT_SHAPE[1:]), np.nan, np.float32)
    assert opened.predict(batch, out) is out
    assert np.array_equal(out, opened.predict(batch))
    # A part of a larger array will do, and nothing beside it changes.
    larger = np.full((3, *LOGIT_SHAPE[1:]), 7, np.float32)
    opened.predict(batch[1:2], out=larger[1:2])
    assert np.array_equal(larger[1], out[1])
    assert (larger[[0, 2]] == 7).all()


def test_arrays_that_cannot_hold_the_logits_are_refused(opened: Session) -> None:
    tensor, shape = make_noise(), LOGIT_SHAPE
    frozen = np.zeros(shape, np.float32)
    frozen.flags.writeable = False
    shared = np.zeros(2 * tensor.size, np.float32)
    shared[: tensor.size] = tensor.ravel()
    for out, said in (
        (np.zeros((2, *shape[1:]), np.float32), r"out is float32 \(2, .*float32 \(1, 3, 32, 32\)"),
        (np.zeros(shape), "out is float64"),
        (np.zeros(shape, ">f4"), "out is >f4"),
        (np.zeros(shape).tolist(), "out is list"),
        (np.asfortranarray(np.zeros(shape, np.float32)), "in C order"),
        (frozen, "writeable"),
        (np.zeros(4 * np.prod(shape) + 1, np.uint8)[1:].view(np.float32).reshape(shape), "aligned"),
        (shared[: np.prod(shape)].reshape(shape), "shares memory with the tensor"),
    ):
        with pytest.raises(InputError, match=said):
            opened.predict(shared[: tensor.size].reshape(tensor.shape), out)


def test_a_closed_session_refuses_calls(opened: Session) -> None:
    with opened as entered:
        kept = entered.predict(make_noise())
        before = kept.copy()
    opened.close()
    assert np.array_equal(kept, before)
    with pytest.raises(ClosedError, match=f"the {opened.backend} session was closed"):
        opened.predict(make_noise())


def test_odd_but_sound_tensors_give_the_same(opened: Session) -> None:
    tensor = make_noise()
    wanted = opened.predict(tensor)
    frozen = tensor.copy()
    frozen.flags.writeable = False
    strided = np.zeros((1, 1, 64, 128), np.float32)[..., ::2]
    strided[:] = tensor
    for odd in (frozen, strided, tensor.astype(np.float64), np.asfortranarray(tensor)):
        before = odd.copy()
        assert np.array_equal(opened.predict(odd), wanted)
        assert np.array_equal(odd, before)


@pytest.mark.parametrize(
    "shape", [(1, 1, 64, 63), (1, 3, 64, 64), (64, 64), (0, 1, 64, 64), (1, 1, 1, 64, 64)]
)
def test_another_shape_is_refused_with_both_shapes(opened: Session, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError) as caught:
        opened.predict(np.zeros(shape, np.float32))
    assert str(shape) in str(caught.value)
    assert "('B', 1, 64, 64)" in str(caught.value)


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        (np.zeros(INPUT_SHAPE, np.complex64), "complex64"),
        (np.zeros(INPUT_SHAPE, object), "object"),
        (np.zeros(INPUT_SHAPE, "U3"), "<U3"),
        (np.zeros(INPUT_SHAPE, "datetime64[s]"), "datetime64"),
        (np.zeros(INPUT_SHAPE).tolist(), "list"),
        (None, "NoneType"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_holds_no_real_numbers_is_refused(opened: Session, tensor: Any, kind: str) -> None:
    with pytest.raises(InputError, match=f"the tensor is of {kind}.*an array of real numbers"):
        opened.predict(tensor)


def test_numbers_of_any_kind_and_order_of_bytes_give_the_same(opened: Session) -> None:
    whole = np.random.default_rng(0).integers(0, 2, INPUT_SHAPE)
    wanted = opened.predict(whole.astype(np.float32))
    for kind in ("bool", "u1", "i2", ">i2", ">f4", "f2", "<f8", ">f8", "i8"):
        assert np.array_equal(opened.predict(whole.astype(kind)), wanted)
    with pytest.raises(InputError, match="the tensor has 4096 of 4096 values that are NaN or inf"):
        opened.predict(np.full(INPUT_SHAPE, 1e300))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_tensor_that_is_not_finite_is_refused(opened: Session, value: float) -> None:
    tensor = make_noise()
    tensor[0, 0, 3, 5:7] = value
    with pytest.raises(InputError, match="the tensor has 2 of 4096 values"):
        opened.predict(tensor)


def test_large_but_finite_values_pass(opened: Session) -> None:
    opened.predict(np.full(INPUT_SHAPE, 1e4, np.float32))
    session_module = sys.modules["bedside.runtime.checks"]
    huge = np.full(INPUT_SHAPE, 3e38, np.float32)
    assert session_module.check_tensor(huge, INPUT_SHAPE[1:]) is huge


@pytest.mark.parametrize("name", BACKEND_NAMES)
def test_logits_that_are_not_finite_are_refused(name: str) -> None:
    weight = np.full((3, 1, 2, 2), 3e38, np.float32)
    graph = make_plain_graph(weight=weight).SerializeToString()
    with pytest.raises(InputError, match="the network's output has"):
        open_graph(graph, backend=name).predict(np.full(INPUT_SHAPE, 100, np.float32))


@pytest.mark.parametrize("name", BACKEND_NAMES)
def test_a_graph_that_cannot_run_is_a_backend_error(name: str) -> None:
    model = make_plain_graph(weight=np.ones((3, 7, 2, 2), np.float32))
    for graph in (model.SerializeToString(), b"no graph"):
        with pytest.raises(BackendError, match=f"{name} cannot run this graph") as caught:
            open_graph(graph, backend=name).predict(make_noise())
        assert "\n" not in str(caught.value)


def test_openvino_refuses_a_graph_that_enlarges_without_end() -> None:
    model = make_plain_graph()
    model.graph.initializer.append(numpy_helper.from_array(np.float32([1, 1, 1e5, 1e5]), "scales"))
    model.graph.node.append(helper.make_node("Resize", ["logits", "", "scales"], ["huge"]))
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("huge", TensorProto.FLOAT, ["a", "b", "c", "d"])
    )
    with pytest.raises(BackendError, match=r"has shape .* at most"):
        open_graph(model.SerializeToString(), backend="openvino")


@pytest.mark.parametrize("name", ["auto", *BACKEND_NAMES])
def test_a_bundle_opens_in_every_backend(tmp_path: Path, name: str) -> None:
    opened = open_session(make_bundle(tmp_path), backend=name, precision="f32", threads=1)
    assert opened.backend == (installed_backends()[0] if name == "auto" else name)
    assert (opened.precision, opened.threads) == ("f32", 1)
    assert opened.predict(make_noise()).shape == LOGIT_SHAPE


def test_what_cannot_mean_anything_is_a_usage_error(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    with pytest.raises(UsageError, match='no backend "tpu"; choose one of auto, openvino'):
        open_session(bundle, backend="tpu")
    with pytest.raises(UsageError, match='no precision "f64"; choose one of auto, default, f32'):
        open_session(bundle, precision="f64")
    with pytest.raises(UsageError, match="threads is 0"):
        open_session(bundle, threads=0)
    with pytest.raises(UsageError, match='no graph in "int8"; it has f32'):
        open_session(bundle, precision="int8")


def test_a_missing_backend_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = table.find_spec
    monkeypatch.setattr(
        table, "find_spec", lambda name: None if name == "onnxruntime" else found(name)
    )
    with pytest.raises(BackendError) as caught:
        open_session(make_bundle(tmp_path), backend="onnxruntime")
    assert str(caught.value) == (
        'backend "onnxruntime" is not installed. Install it with: pip install "onnxruntime>=1.32". '
        f"Installed here: {', '.join(name for name in BACKEND_NAMES if name != 'onnxruntime')}."
    )
    assert caught.value.exit_code == 4
    monkeypatch.setattr(table, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match="Installed here: none"):
        open_graph(make_graph())


def test_bf16_is_close_native_or_emulated_and_refused_by_a_backend_without_it(
    tmp_path: Path,
) -> None:
    bundle = make_bundle(tmp_path)
    opened = open_session(bundle, backend="openvino", precision="bf16")
    wanted = run_torch(make_noise())
    found = opened.predict(make_noise())
    allowed = tolerances.BF16_RTOL * np.abs(wanted).max()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=allowed)
    exact = open_session(bundle, precision="f32").predict(make_noise())
    # What a processor computes in f32 is not called bf16.
    assert (opened.precision == "bf16") is bool((found != exact).any())
    with pytest.raises(BackendError, match='onnxruntime cannot compute in "bf16"'):
        open_session(bundle, backend="onnxruntime", precision="bf16")


def test_threads_come_from_the_affinity_up_to_a_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, threads in ((1, 1), (2, 2), (64, session.MAX_DEFAULT_THREADS)):
        monkeypatch.setattr(
            os, "sched_getaffinity", lambda _, n=cores: set(range(n)), raising=False
        )
        assert default_threads() == threads


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512_vnni\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f\n", False),
        ("processor : 0\nFeatures : fp asimd asimddp\n", True),
        ("", False),
    ],
)
def test_byte_products_are_read_from_the_processors_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, text: str, known: bool
) -> None:
    monkeypatch.setattr(execution_modes.platform, "system", lambda: "Linux")
    (tmp_path / "cpuinfo").write_text(text)
    assert execution_modes.has_int8_products(tmp_path / "cpuinfo") is known
    assert not execution_modes.has_int8_products(tmp_path / "none")


def test_openvinos_converter_is_loaded_only_when_it_is_used() -> None:
    program = (
        "import sys, bedside.runtime.openvino, openvino; "
        "print('openvino.tools.ovc' in sys.modules, hasattr(openvino, 'nothing')); "
        "print(openvino.convert_model.__name__, 'openvino.tools.ovc' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False", "convert_model", "True"]


def test_opening_a_session_leaves_torch_and_onnx_out(tmp_path: Path) -> None:
    path = make_bundle(tmp_path).path
    program = (
        "import sys; from pathlib import Path; from bedside.bundle import read_bundle; "
        "from bedside.runtime import open_session; "
        f"open_session(read_bundle(Path({str(path)!r})), precision='default'); "
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'nncf'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
