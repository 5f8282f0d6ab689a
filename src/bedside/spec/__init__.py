"""What a deployment is and how it is made, as data: frozen, typed, strictly read."""

from bedside.spec.card import DISCLAIMER, Card, Interval, PrecisionResult, StructureResult
from bedside.spec.deployment import (
    SCHEMA_VERSION,
    Code,
    DeploymentSpec,
    InputSpec,
    Label,
    Region,
    WindowSpec,
)
from bedside.spec.model import LevelSpec, ModelSpec
from bedside.spec.named import named_spec
from bedside.spec.reading import from_mapping, to_mapping
from bedside.spec.recipe import (
    AugmentSpec,
    BuildSpec,
    DataSpec,
    DistillSpec,
    Recipe,
    TrainingSpec,
    read_recipe,
)
from bedside.spec.steps import (
    CropCentre,
    CropFan,
    FillHoles,
    Fit,
    Grey,
    KeepLargest,
    Orient,
    PostprocessStep,
    PreprocessStep,
    Resample,
    Rgb,
    ScalePercentile,
    WindowLevel,
)

__all__ = [
    "DISCLAIMER",
    "SCHEMA_VERSION",
    "AugmentSpec",
    "BuildSpec",
    "Card",
    "Code",
    "CropCentre",
    "CropFan",
    "DataSpec",
    "DeploymentSpec",
    "DistillSpec",
    "FillHoles",
    "Fit",
    "Grey",
    "InputSpec",
    "Interval",
    "KeepLargest",
    "Label",
    "LevelSpec",
    "ModelSpec",
    "Orient",
    "PostprocessStep",
    "PrecisionResult",
    "PreprocessStep",
    "Recipe",
    "Region",
    "Resample",
    "Rgb",
    "ScalePercentile",
    "StructureResult",
    "TrainingSpec",
    "WindowLevel",
    "WindowSpec",
    "from_mapping",
    "named_spec",
    "read_recipe",
    "to_mapping",
]
