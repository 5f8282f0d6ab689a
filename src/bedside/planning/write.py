"""A recipe as TOML with a comment for each choice, for a person to change."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from bedside.planning.choose import UNKNOWN, RecipePlan
from bedside.planning.survey import Survey
from bedside.spec import to_mapping
from bedside.spec.writing import to_value

_HEAD = """\
# A first recipe, from {images} of the {cases} cases in
# {path}
# Read it once from top to bottom. Change first: names and codes of the labels, modality,
# licence. It can be trained as it is: bedside train THIS.toml -o runs/{name}
"""

_TABLES: Mapping[str, str] = {
    "deployment": "The bundle: its name, and what it segments.",
    "deployment.input": (
        "What the network takes. modality is DICOM's word (US, MR, CT, ES, OT for other): a DICOM "
        "image\n# of another one is refused. view says what must be seen, in words."
    ),
    "deployment.labels": (
        "The codes go into DICOM segmentations. Those here are true of anything: look up your\n"
        "# structure in SNOMED CT, or in DICOM PS3.16, and put its code, scheme SCT, into type."
    ),
    "deployment.preprocess": "Preprocessing, in order.",
    "deployment.model": (
        "The network: {model}. Names, from small to large: nano, tiny, small, base, teacher; the "
        "first\n# four with -conv for convolutions alone, without it with attention."
    ),
    "deployment.postprocess": (
        "Postprocessing: removes what the masks never show. Drop a step that does not fit."
    ),
    "data": (
        "Where the images are. Each patient is in one part of the split only: training, "
        "validation, test."
    ),
    "augment": "Augmentation; ranges are [low, high].",
    "training": "About {steps} steps. Fewer epochs for a test, more if the loss still decreases.",
}

_COMMENTS: Mapping[str, str] = {
    "size_px": "{size}",
    "source": "citation, shown on the card",
    "license": "the terms of the data hold for the model",
    "relabel": "value in the masks = label",
    "split_seed": "another seed gives another split",
    "flip": "0.5 if left and right are interchangeable",
    "elastic_px": "smooth deformation",
    "depth_gain": "brighter or darker with depth",
    "fan_cut": "part of the sector lost",
    "compress": "JPEG",
    "batch_size": "images per step; smaller if memory runs out",
    "learning_rate": "halve it if the loss jumps",
    "epochs": "passes over the training images",
    "ema_decay": "weights are averaged over the last 1 / (1 - it) steps",
    "validate_every": "epochs between validations",
}


# What is written of these tables; the rest stays what it is by default.
_DATA = ("name", "layout", "path", "source", "license", "split", "split_seed", "relabel")
_TRAINING = (
    "epochs", "batch_size", "learning_rate", "weight_decay", "warmup", "ema_decay",
    "dice_weight", "ce_weight", "grad_clip", "seed", "validate_every",
)  # fmt: skip


def to_toml(plan: RecipePlan, survey: Survey) -> str:
    """Write a recipe as TOML, commented.

    Returns:
        What `read_recipe` reads as `plan.recipe`.
    """
    recipe = to_mapping(plan.recipe)
    training = plan.recipe.training
    images = round(plan.recipe.data.split[0] * survey.cases)
    images *= survey.frames if survey.spatial_dims == 2 else 1
    facts = {
        "images": survey.images,
        "cases": survey.cases,
        "path": json.dumps(str(survey.path)),
        "name": plan.recipe.deployment.name,
        "model": plan.model,
        "size": _size_comment(survey),
        "steps": max(1, images // training.batch_size) * training.epochs,
    }
    deployment = recipe["deployment"]
    parts = [
        [_HEAD.format(**facts).rstrip("\n"), f"schema_version = {recipe['schema_version']}"],
        _table("deployment", _plain(deployment), facts),
        _table("deployment.input", deployment["input"], facts),
        *_tables("deployment.labels", deployment["labels"], facts),
        *_tables("deployment.preprocess", deployment["preprocess"], facts),
        _table("deployment.model", _model(plan), facts),
        *_tables("deployment.postprocess", deployment["postprocess"], facts),
        _table("data", {key: recipe["data"][key] for key in _DATA}, facts),
        _table("augment", recipe["augment"], facts),
        _table("training", {key: recipe["training"][key] for key in _TRAINING}, facts),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _size_comment(survey: Survey) -> str:
    seen = " x ".join(map(str, survey.size_px))
    if survey.spatial_dims == 3:
        return f"sliding window; half of the scans are larger than {seen}"
    return f"(height, width); the images are {seen}, in the median"


def _plain(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what goes into a table itself, not into tables below it."""
    return {key: value for key, value in mapping.items() if isinstance(value, str)}


def _model(plan: RecipePlan) -> dict[str, Any]:
    """The table of the network: its name, and what differs from it."""
    model = plan.recipe.deployment.model
    named = {"name": plan.model, "spatial_dims": model.spatial_dims}
    channels = {"in_channels": model.in_channels, "num_classes": model.num_classes}
    strides = {"stem_stride": model.stem_stride, "logit_stride": model.logit_stride}
    return named | channels | strides


def _tables(
    name: str, mappings: Iterable[Mapping[str, Any]], facts: Mapping[str, Any]
) -> list[list[str]]:
    """Write a table each; the comment stands above the first."""
    written = [_table(name, mapping, facts, brackets="[[]]") for mapping in mappings]
    return [lines if place == 0 else lines[1:] for place, lines in enumerate(written)]


def _table(
    name: str, mapping: Mapping[str, Any], facts: Mapping[str, Any], *, brackets: str = "[]"
) -> list[str]:
    """Write a table with its comment and a line a setting."""
    middle = len(brackets) // 2
    lines = [f"# {_TABLES[name].format(**facts)}", f"{brackets[:middle]}{name}{brackets[middle:]}"]
    for key, value in mapping.items():
        if value in ({}, []):
            continue
        comment = _COMMENTS.get(key, "").format(**facts)
        if value == UNKNOWN:
            comment = "TO FILL IN"
        lines.append(f"{key} = {to_value(value)}" + (f"  # {comment}" if comment else ""))
    return lines
