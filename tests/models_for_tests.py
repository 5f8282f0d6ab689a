"""Small networks, graphs, specs and cards that tests of bundles, runtimes and exports share."""

import functools
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from bedside.bundle import Bundle, read_bundle, write_bundle
from bedside.export.onnx import export_onnx
from bedside.models import create
from bedside.spec import (
    Card,
    Code,
    DeploymentSpec,
    InputSpec,
    Interval,
    Label,
    LevelSpec,
    ModelSpec,
    PrecisionResult,
    StructureResult,
)

SIZE_PX = (64, 64)
INPUT_SHAPE = (1, 1, *SIZE_PX)
LOGIT_SHAPE = (1, 3, 32, 32)


def make_spec() -> DeploymentSpec:
    """A deployment of two labels with a network of a few thousand weights."""
    tissue = Code("85756007", "SCT", "Tissue")
    return DeploymentSpec(
        name="tiny",
        version="1.0",
        task="Two structures, for tests",
        input=InputSpec(modality="US", channels=1, size_px=SIZE_PX),
        labels=(
            Label(1, "inner", (255, 0, 0), tissue, tissue),
            Label(2, "outer", (0, 255, 0), tissue, tissue),
        ),
        preprocess=(),
        model=ModelSpec(
            architecture="hybrid",
            in_channels=1,
            num_classes=3,
            levels=(
                LevelSpec("conv", channels=16, depth=1),
                LevelSpec("window", channels=32, depth=1, num_heads=2, head_dim=8, window=4),
            ),
            decoder_channels=16,
        ),
    )


def make_card(*precisions: PrecisionResult, untrained: bool = True) -> Card:
    """A card that says little, with the given results of precisions."""
    known, unknown = Interval(0.9, 0.8, 1.0), Interval(None, None, None)
    return Card(
        data="made up",
        source="tests",
        license="none",
        patients=(2, 1, 1),
        test_cases=1,
        structures=(StructureResult("inner", known, known, unknown, unknown, unknown),),
        precisions=precisions,
        parameters=1000,
        gmac=0.001,
        seed=0,
        epochs=0,
        commit="0000000",
        created="2026-01-01",
        untrained=untrained,
    )


def make_split() -> dict[str, tuple[str, ...]]:
    return {"train": ("p1", "p2"), "val": ("p3",), "test": ("p4",)}


def make_verdict(
    precision: str, *, passed: bool = True, backend: str = "openvino"
) -> PrecisionResult:
    loss = 0.0 if passed else 0.1
    return PrecisionResult(precision, (0.9, 0.9), loss, passed, backend=backend)


def make_bundle(
    folder: Path, *verdicts: PrecisionResult, int8: bool = False, untrained: bool = True
) -> Bundle:
    """A bundle on disk; its int8 graph is the f32 one, which is enough to see which is chosen."""
    path = folder / "tiny.bedside"
    write_bundle(
        path,
        spec=make_spec(),
        card=make_card(*verdicts, untrained=untrained),
        graphs={"f32": make_graph()} | ({"int8": make_graph()} if int8 else {}),
        split=make_split(),
    )
    return read_bundle(path)


@functools.cache
def make_model() -> nn.Module:
    """The network of `make_spec`, with batch norms that have seen data."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = create(make_spec().model).train()
    with torch.no_grad():
        for _ in range(10):
            model(torch.rand((8, *INPUT_SHAPE[1:]), generator=generator))
    return model.eval()


@functools.cache
def make_graph() -> bytes:
    """`make_model` as ONNX."""
    return export_onnx(make_model(), input_shape=INPUT_SHAPE)


def run_torch(tensor: np.ndarray) -> np.ndarray:
    """What torch says `make_model` gives."""
    with torch.inference_mode():
        return np.asarray(make_model()(torch.from_numpy(tensor)).numpy())


def make_noise(count: int = 1, *, seed: int = 0) -> np.ndarray:
    """Images of noise in [0, 1], (count, 1, H, W) float32."""
    generator = np.random.default_rng(seed)
    return generator.random((count, *INPUT_SHAPE[1:]), dtype=np.float32)


def make_plain_graph(*, weight: np.ndarray | None = None) -> onnx.ModelProto:
    """One convolution from INPUT_SHAPE to LOGIT_SHAPE, for tests that break it."""
    weight = np.ones((3, 1, 2, 2), np.float32) if weight is None else weight
    return helper.make_model(
        helper.make_graph(
            [helper.make_node("Conv", ["image", "weight"], ["logits"], strides=[2, 2])],
            "plain",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, INPUT_SHAPE)],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, LOGIT_SHAPE)],
            [numpy_helper.from_array(weight, "weight")],
        ),
        ir_version=10,
        opset_imports=[helper.make_opsetid("", 20)],
    )
