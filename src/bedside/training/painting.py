"""The task of painting what is blank in an image, which needs no labels."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from bedside.training.tasks import Parts

SIDES = {2: 16, 3: 8}
"""Side of a blank square or cube, in pixels of the network's grid, by its spatial axes."""
BLANK = 0.5
"""Part of the squares that is blank."""


class PaintBlanks:
    """The squared error of what a network paints where squares of an image are blank.

    The first channel of its logits is the painting, at their stride; of several channels it paints
    the mean.

    Source:
        Masked autoencoders (He et al., arXiv:2111.06377), here for networks that keep their
        decoder, which see all positions and half of the image.
    """

    def parameters(self) -> Any:
        """Return no weights: it has none of its own."""
        return []

    def state_dict(self) -> Any:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: Any) -> Any:
        """Restore nothing."""

    def __call__(
        self,
        model: nn.Module,
        images: torch.Tensor,
        truths: torch.Tensor,
        clean: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, Parts]:
        """Loss of a network on a batch; the labels are not looked at.

        Args:
            model: The network, in training mode.
            images: (B, C, *S) float32.
            truths: Not used.
            clean: Not used.

        Returns:
            The mean over blank positions, and the same by its name.
        """
        blank = draw_blanks(images)
        axes = tuple(range(2, images.ndim))
        shown = torch.where(blank, images.mean(dim=axes, keepdim=True), images)
        logits: torch.Tensor = model(shown)
        painted, grid = logits[:, :1], logits.shape[2:]
        wanted = functional.interpolate(images.mean(dim=1, keepdim=True), grid, mode="area")
        counted = functional.interpolate(blank.float(), grid)
        loss = ((painted - wanted).square() * counted).sum() / counted.sum()
        return loss, {"painted": loss}


def draw_blanks(images: torch.Tensor) -> torch.Tensor:
    """Draw which pixels are blank: whole squares or cubes, as many in each image.

    Those at the end of an axis may be cut.

    Args:
        images: (B, C, *S) in two or three axes.

    Returns:
        (B, 1, *S) bool.
    """
    size = images.shape[2:]
    side = SIDES[len(size)]
    grid = [-(-length // side) for length in size]
    count = torch.Size(grid).numel()
    ranks = torch.rand(len(images), count, device=images.device).argsort(dim=1)
    blank = (ranks < BLANK * count).view(-1, 1, *grid)
    for axis in range(2, blank.ndim):
        blank = blank.repeat_interleave(side, axis)
    for axis, length in enumerate(size, 2):
        blank = blank.narrow(axis, 0, length)
    return blank
