"""A certificate vouches for one backend in one precision: what may be chosen, and what is said."""

import json
from pathlib import Path

import pytest

from bedside.bundle import Bundle, read_bundle, shipped_bundles
from bedside.errors import BackendError, SpecError
from bedside.runtime import execution_modes, open_session, table
from bedside.runtime.execution_modes import (
    certificate_warnings,
    certified_modes,
    default_mode,
    find_certified_backend,
)
from bedside.segment import open_segmenter
from bedside.spec import Card, from_mapping, to_mapping
from bedside.volume import ImageSequence
from models_for_tests import make_bundle, make_card, make_noise, make_verdict
from processors_for_tests import NEEDS_BF16

OPENVINO = tuple(make_verdict(name) for name in ("f32", "bf16", "int8"))
ONNX = tuple(make_verdict(name, backend="onnxruntime") for name in ("f32", "int8"))


@pytest.fixture(autouse=True)
def _a_processor_with_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution_modes, "has_int8_products", lambda: True)
    from bedside.runtime import openvino

    monkeypatch.setattr(openvino, "native_precisions", lambda: ("f32", "bf16", "int8"))


def install(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Pretend that only these packages are installed."""
    found = table.find_spec
    known = [backend.package for backend in table.BACKENDS]
    monkeypatch.setattr(
        table, "find_spec", lambda name: None if name in set(known) - set(names) else found(name)
    )


def strip_backends(card: Card) -> Card:
    """Read a card as bundles wrote it before certificates named a backend."""
    mapping = json.loads(json.dumps(to_mapping(card)))
    for result in mapping["precisions"]:
        del result["backend"], result["reference"]
    return from_mapping(Card, mapping)


def test_a_card_without_backends_reads_as_openvinos() -> None:
    card = strip_backends(make_card(*OPENVINO))
    assert card == make_card(*OPENVINO)
    assert card.certifies("openvino", "int8")
    assert not card.certifies("onnxruntime", "int8")
    assert not card.certifies("onnxruntime", "f32")


def test_two_certificates_for_one_thing_are_refused() -> None:
    with pytest.raises(SpecError, match="2 results for onnxruntime in f32"):
        make_card(*ONNX, ONNX[0])


def test_what_was_measured_in_openvino_is_not_chosen_in_another_runtime(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, *OPENVINO, int8=True)
    assert certified_modes(bundle) == tuple(("openvino", r.precision) for r in OPENVINO)
    assert certified_modes(bundle, backend="onnxruntime") == ()
    both = make_bundle(tmp_path, *OPENVINO, *ONNX, int8=True)
    assert certified_modes(both, backend="onnxruntime") == (
        ("onnxruntime", "f32"), ("onnxruntime", "int8"),
    )  # fmt: skip


def test_what_failed_its_certificate_is_not_chosen(tmp_path: Path) -> None:
    failed = make_verdict("int8", passed=False, backend="onnxruntime")
    bundle = make_bundle(tmp_path, *OPENVINO, ONNX[0], failed, int8=True)
    assert ("onnxruntime", "int8") not in certified_modes(bundle)
    assert ("openvino", "int8") in certified_modes(bundle)


def test_int8_is_not_chosen_where_products_of_bytes_saturate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution_modes, "has_int8_products", lambda: False)
    bundle = make_bundle(tmp_path, *OPENVINO, *ONNX, int8=True, untrained=False)
    assert {precision for _, precision in certified_modes(bundle)} == {"f32", "bf16"}
    (said,) = certificate_warnings(bundle, "openvino", "int8")
    assert "not certified for int8 on this processor" in said


@pytest.mark.parametrize(
    ("verdicts", "int8", "backend", "chosen"),
    [
        ((), False, "auto", ("openvino", "f32")),
        ((), True, "onnxruntime", ("onnxruntime", "f32")),
        pytest.param(OPENVINO, True, "auto", ("openvino", "bf16"), marks=NEEDS_BF16),
        (OPENVINO, True, "onnxruntime", ("onnxruntime", "f32")),
        ((OPENVINO[0], OPENVINO[2]), True, "auto", ("openvino", "int8")),
        ((OPENVINO[0], OPENVINO[2]), False, "auto", ("openvino", "f32")),
        ((OPENVINO[0], make_verdict("bf16", passed=False)), False, "auto", ("openvino", "f32")),
        # ONNX Runtime is not faster in int8 as a rule, however certified.
        (ONNX, True, "onnxruntime", ("onnxruntime", "f32")),
        # A bundle that was built where only ONNX Runtime is.
        (ONNX, True, "auto", ("onnxruntime", "f32")),
        (ONNX[1:], True, "auto", ("onnxruntime", "int8")),
    ],
)
def test_the_rule_takes_the_first_certified_backend_in_its_fastest_precision(
    tmp_path: Path, *, verdicts, int8, backend, chosen
) -> None:
    bundle = make_bundle(tmp_path, *verdicts, int8=int8)
    assert default_mode(bundle, backend=backend) == chosen
    opened = open_session(bundle, backend=backend, precision="default", threads=1)
    assert (opened.backend, opened.precision) == chosen


def test_a_named_precision_runs_where_it_is_certified(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, OPENVINO[0], ONNX[1], int8=True)
    assert find_certified_backend(bundle, "int8") == "onnxruntime"
    assert find_certified_backend(bundle, "f32") == "openvino"
    assert find_certified_backend(bundle, "bf16") == "openvino"
    assert find_certified_backend(bundle, "int8", backend="openvino") == "openvino"


def said_of(bundle: Bundle, **options) -> tuple[str, ...]:
    """What a result of a segmentation warns of."""
    segmenter = open_segmenter(bundle, threads=1, **options)
    frame = (255 * make_noise()[0]).astype("uint8")
    found = segmenter.segment_sequence(
        ImageSequence(shape=(1, *frame.shape), decode=lambda index: frame)
    )
    return tuple(text for text in found.warnings if "certified" in text)


def test_what_is_asked_for_without_a_certificate_runs_with_a_warning(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, *OPENVINO, int8=True, untrained=False)
    (said,) = said_of(bundle, backend="onnxruntime", precision="int8")
    assert said.startswith("tiny is not certified for onnxruntime in int8")
    assert "Certified: openvino f32, openvino bf16, openvino int8." in said
    assert said_of(bundle, backend="openvino", precision="int8") == ()
    assert said_of(bundle) == ()


def test_what_failed_its_certificate_runs_with_a_warning_that_says_by_how_much(
    tmp_path: Path,
) -> None:
    failed = make_verdict("f32", passed=False, backend="onnxruntime")
    bundle = make_bundle(tmp_path, *OPENVINO, failed, untrained=False)
    (said,) = said_of(bundle, backend="onnxruntime", precision="f32")
    assert "a structure loses 0.1000 of its validation Dice" in said


@pytest.mark.parametrize("precision", ["auto", "default", "f32"])
def test_where_only_an_uncertified_runtime_is_installed_f32_runs_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    install(monkeypatch, "onnxruntime")
    bundle = make_bundle(tmp_path, *OPENVINO, int8=True, untrained=False)
    opened = open_session(bundle, precision=precision, threads=1)
    assert (opened.backend, opened.precision) == ("onnxruntime", "f32")
    (said,) = said_of(bundle, precision=precision)
    assert "not certified for onnxruntime in f32" in said


def test_with_no_runtime_at_all_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch)
    with pytest.raises(BackendError, match="Installed here: none"):
        open_session(make_bundle(tmp_path, *OPENVINO))


def test_an_untrained_bundle_has_a_warning_of_its_own(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, untrained=True)
    assert certificate_warnings(bundle, "onnxruntime", "f32") == ()


@pytest.mark.parametrize("path", shipped_bundles(), ids=lambda path: path.stem)
def test_every_shipped_bundle_is_certified_for_every_backend(path: Path) -> None:
    bundle = read_bundle(path)
    for backend in table.BACKENDS:
        assert bundle.card.certifies(backend.name, "f32")
        assert certificate_warnings(bundle, backend.name, "f32") == ()
    measured = {(result.backend, result.precision) for result in bundle.card.precisions}
    assert measured == set(execution_modes.list_runnable(bundle))
    for result in bundle.card.precisions:
        assert result.reference == "openvino f32"
        assert result.cases > 0
