"""Units that can best be replaced by the others, once their readers are refitted."""

from collections.abc import Mapping

import torch

from bedside.compression.groups import Group
from bedside.compression.input_statistics import Inputs, InputStatistics
from bedside.compression.slicing import multiply_out
from bedside.compression.spectra import scale_of_norm

# As in `InputStatistics.guess`, but more: what decides between units has to hold on other images.
_RIDGE = 1e-3


def score_reconstruction(
    weights: Mapping[str, torch.Tensor], group: Group, inputs: Inputs
) -> torch.Tensor:
    """Remove units one by one, each time the one whose loss can best be compensated.

    The loss is that of the readers' results behind their norms, squared and summed up, when
    every reader has been fitted to what is left; nothing is known of what comes later.

    Args:
        weights: State of the network.
        group: Whose units.
        inputs: From `measure_inputs`.

    Returns:
        (units,): the largest loss at which a unit was still there; 0 where no reader's
        inputs are known.

    Source:
        The optimal brain surgeon, Hassibi and Stork, NeurIPS 1992, over channels as in
        Frantar and Alistarh, Optimal Brain Compression, NeurIPS 2022.
    """
    readers = [
        _Reader(weights, path, inputs[path], group.width) for path in group.ins if path in inputs
    ]
    scores, left = torch.zeros(group.units), list(range(group.units))
    worst = 0.0
    while left and readers:
        losses = torch.stack([reader.losses() for reader in readers]).sum(dim=0)
        unit = left[int(losses[left].argmin())]
        worst = max(worst, float(losses[unit]))
        scores[unit] = worst
        left.remove(unit)
        for reader in readers:
            reader.drop(unit)
    return scores


class _Reader:
    """A convolution whose input channels are removed one by one.

    Args:
        weights: State of the network.
        path: Of the convolution.
        inputs: Moments of its channels.
        width: Channels of a unit.
    """

    def __init__(
        self, weights: Mapping[str, torch.Tensor], path: str, inputs: InputStatistics, width: int
    ) -> None:
        whole = multiply_out(weights, path).double().flatten(2)
        if f"{path}.1.weight" in weights:
            whole = whole * scale_of_norm(weights, path)[:, None, None]
        rows = whole.transpose(1, 2).flatten(0, 1)
        covariance = inputs.covariance
        ridge = float(covariance.diagonal().mean()) * _RIDGE + 1e-30
        self._gram = rows.T @ rows
        self._inverse = torch.linalg.inv(covariance + ridge * torch.eye(len(covariance)))
        self._width = width

    def losses(self) -> torch.Tensor:
        """Loss of the removal of each unit, the others refitted: (units,)."""
        grams, inverses = (self._blocks(matrix) for matrix in (self._gram, self._inverse))
        losses: torch.Tensor = torch.linalg.solve(inverses, grams)
        return losses.diagonal(dim1=1, dim2=2).sum(dim=1)

    def drop(self, unit: int) -> None:
        """Remove a unit, and fit the others to do without it."""
        own = torch.arange(unit * self._width, (unit + 1) * self._width)
        # Weights go over to the others by W - W[:, own] @ share.
        share = torch.linalg.solve(self._inverse[own][:, own], self._inverse[own])
        gram = self._gram - self._gram[:, own] @ share
        gram = gram - share.T @ gram[own]
        inverse = self._inverse - self._inverse[:, own] @ share
        # A removed unit costs nothing more, and is independent.
        for matrix, diagonal in ((gram, 0.0), (inverse, 1.0)):
            matrix[own], matrix[:, own] = 0.0, 0.0
            matrix[own, own] = diagonal
        self._gram, self._inverse = gram, inverse

    def _blocks(self, matrix: torch.Tensor) -> torch.Tensor:
        """Cut the squares of single units out of the diagonal: (units, width, width)."""
        count = len(matrix) // self._width
        apart = matrix.reshape(count, self._width, count, self._width)
        return apart.diagonal(dim1=0, dim2=2).permute(2, 0, 1)
