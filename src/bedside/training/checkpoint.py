"""The state of a training on disk: tensors as safetensors, numbers as JSON, nothing pickled."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from bedside.errors import FormatError
from bedside.system.atomic import written_atomically
from bedside.system.regular_files import read_regular

OPTIMIZER = "optimizer."


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], *, note: str = "") -> None:
    """Write named tensors, whole or not at all, with a line of text beside them."""
    with written_atomically(path) as temporary:
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(plain, temporary, metadata={"note": note})


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], str]:
    """Read named tensors and the line of text beside them.

    Raises:
        FormatError: If the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, (file.metadata() or {}).get("note", "")
    except (OSError, SafetensorError) as error:
        raise FormatError(f"{path} cannot be read as safetensors: {error}.") from error


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Tensors of an optimizer's state, by parameter and kind."""
    state = optimizer.state_dict()["state"]
    return {
        f"{OPTIMIZER}{index}.{kind}": tensor
        for index, kinds in state.items()
        for kind, tensor in kinds.items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]
) -> None:
    """Restore the state of an optimizer of the same parameters."""
    state: dict[int, dict[str, Any]] = {}
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    for name, tensor in tensors.items():
        if name.startswith(OPTIMIZER):
            index, kind = name.removeprefix(OPTIMIZER).split(".")
            # In the memory layout of the parameter: a fused step reads both at once.
            parameter = parameters[int(index)]
            alike = tensor.shape == parameter.shape
            state.setdefault(int(index), {})[kind] = (
                torch.empty_like(parameter.detach()).copy_(tensor) if alike else tensor
            )
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def read_json(path: Path) -> Any:
    """Read a JSON file of a run.

    Raises:
        FormatError: If it is missing or damaged.
    """
    try:
        return json.loads(read_regular(path))
    except (OSError, ValueError) as error:
        raise FormatError(f"{path} cannot be read: {error}. Is this a finished run?") from error
