"""A network with its weights: input and output of every compression."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from bedside.errors import SpecError, last_line
from bedside.models.table import create
from bedside.spec import ModelSpec


@dataclass(frozen=True)
class TrainedNetwork:
    """A spec and the weights that fit it: all that is needed to build a network again.

    Widths, ranks and bits are in the spec, so that
    what was compressed is rebuilt as anything else is, and nothing is pickled.

    Attributes:
        spec: The network.
        weights: Its state, by name; not to be written to.

    Example:
        >>> from bedside.spec import named_spec
        >>> network = TrainedNetwork.of(create(named_spec("nano")), named_spec("nano"))
        >>> network.create()(torch.zeros(1, 1, 32, 32)).shape
        torch.Size([1, 2, 16, 16])
    """

    spec: ModelSpec
    weights: Mapping[str, torch.Tensor]

    @classmethod
    def of(cls, model: nn.Module, spec: ModelSpec) -> "TrainedNetwork":
        """Network with a copy of a model's weights."""
        return cls(spec, {name: t.detach().cpu().clone() for name, t in model.state_dict().items()})

    def create(self) -> nn.Module:
        """Build the network with its weights, in evaluation mode.

        Raises:
            SpecError: If the weights are not those of the spec.
        """
        model = create(self.spec)
        try:
            model.load_state_dict(dict(self.weights), strict=True)
        except RuntimeError as error:
            said = last_line(error)
            raise SpecError(f"the weights do not fit the network's spec: {said}") from error
        return model.eval()
