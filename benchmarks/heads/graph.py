"""A graph head: contours as rings of vertices, moved by graph convolutions.

Each vertex sees the features and chances along its normal, its neighbours on the ring, the vertex
of the same number on other rings, and the mean of its ring. It moves along its normal and, less,
along its ring. All passes share their weights.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from heads.rings import RINGS, VERTICES

PASSES = 3
_ALONG_PX = (-9.0, -6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0, 9.0)
_REACH_PX = 5.0
_SLIDE_PX = 1.0
_PLACE = 7
_TRUSTED_PX = 4.0


class RingConvolution(nn.Module):
    """One graph convolution over rings whose vertices of one number are linked.

    Args:
        width: Channels.
        reach: Neighbours to each side on the ring.
    """

    def __init__(self, width: int, reach: int = 4) -> None:
        super().__init__()
        self.reach = reach
        self.neighbours = nn.Conv1d(width, width, 2 * reach + 1, groups=width)
        self.mix = nn.Linear(4 * width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Messages of (B, rings, vertices, width), added to it."""
        batch, rings, vertices, width = x.shape
        ring = x.reshape(batch * rings, vertices, width).transpose(1, 2)
        ring = torch.cat([ring[..., -self.reach :], ring, ring[..., : self.reach]], dim=2)
        near = self.neighbours(ring).transpose(1, 2).reshape(x.shape)
        others = (x.sum(dim=1, keepdim=True) - x) / (rings - 1)
        whole = x.mean(dim=2, keepdim=True).expand_as(x)
        return x + functional.relu(self.mix(torch.cat([self.norm(x), near, others, whole], dim=3)))


class GraphHead(nn.Module):
    """Moves the vertices of contours to where the features say that they belong.

    Args:
        channels: Of the features.
        classes: Of the logits.
        width: Channels of a vertex.
        size_px: Side of the network's input.
    """

    def __init__(
        self, channels: int = 32, classes: int = 4, width: int = 48, size_px: int = 256
    ) -> None:
        super().__init__()
        self.size_px = size_px
        seen = len(_ALONG_PX) * (channels + classes)
        self.register_buffer("along_px", torch.tensor(_ALONG_PX), persistent=False)
        self.register_buffer("kinds", torch.eye(len(RINGS)), persistent=False)
        self.read = nn.Linear(seen + _PLACE, width)
        self.layers = nn.ModuleList(RingConvolution(width) for _ in range(3))
        self.move = nn.Linear(width, 2)
        nn.init.zeros_(self.move.weight)
        nn.init.zeros_(self.move.bias)

    def forward(
        self, rings_px: torch.Tensor, features: torch.Tensor, logits: torch.Tensor
    ) -> torch.Tensor:
        """Positions after each pass.

        Args:
            rings_px: (B, rings, vertices, 2) columns and rows, clockwise.
            features: (B, C, h, w).
            logits: (B, K, 2 h, 2 w).

        Returns:
            (passes, B, rings, vertices, 2). Between passes no gradient flows, so that each learns
            to come as near as it can.
        """
        chances = logits.softmax(dim=1)
        found = []
        for _ in range(PASSES):
            rings_px = self.step(rings_px.detach(), features, chances)
            found.append(rings_px)
        return torch.stack(found)

    def step(
        self, rings_px: torch.Tensor, features: torch.Tensor, chances: torch.Tensor
    ) -> torch.Tensor:
        """One pass: look, talk, move; arguments as in `forward`, with chances for logits."""
        tangent, normal = find_frame(rings_px)
        looked_px = rings_px[..., None, :] + self.along_px[:, None] * normal[..., None, :]
        at = (2 / self.size_px) * looked_px.flatten(1, 2) - 1
        seen = [
            functional.grid_sample(maps, at, align_corners=False, padding_mode="border")
            for maps in (features, chances)
        ]
        batch, rings, vertices, _ = rings_px.shape
        profile = torch.cat(seen, dim=1).permute(0, 2, 3, 1).reshape(batch, rings, vertices, -1)
        centre = rings_px.mean(dim=2, keepdim=True)
        place = (rings_px - centre) / (self.size_px / 8)
        kinds = self.kinds[:, None].expand(batch, rings, vertices, len(self.kinds))
        x = functional.relu(self.read(torch.cat([profile, place, normal, kinds], dim=3)))
        for layer in self.layers:
            x = layer(x)
        moved = torch.tanh(self.move(x))
        return rings_px + _REACH_PX * moved[..., :1] * normal + _SLIDE_PX * moved[..., 1:] * tangent


def find_frame(rings_px: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit tangent and outward normal of each vertex of clockwise rings, (..., vertices, 2)."""
    after = torch.cat([rings_px[..., 1:, :], rings_px[..., :1, :]], dim=-2)
    before = torch.cat([rings_px[..., -1:, :], rings_px[..., :-1, :]], dim=-2)
    tangent = after - before
    tangent = tangent / tangent.norm(dim=-1, keepdim=True).clamp_min(1e-3)
    return tangent, torch.stack([tangent[..., 1], -tangent[..., 0]], dim=-1)


def measure_distance(points: torch.Tensor, ring: torch.Tensor) -> torch.Tensor:
    """Distance from each point to a closed contour: to its edges, not only to its vertices.

    Args:
        points: (..., P, 2).
        ring: (..., V, 2).

    Returns:
        (..., P).
    """
    edge = torch.cat([ring[..., 1:, :], ring[..., :1, :]], dim=-2) - ring
    offset = points[..., :, None, :] - ring[..., None, :, :]
    edge = edge[..., None, :, :]
    part = (offset * edge).sum(dim=-1) / edge.square().sum(dim=-1).clamp_min(1e-6)
    gap = offset - part.clamp(0, 1)[..., None] * edge
    return (gap.square().sum(dim=-1).min(dim=-1).values + 1e-4).sqrt()


def find_loss(
    found_px: torch.Tensor, truth_px: torch.Tensor, begin_px: torch.Tensor, known: torch.Tensor
) -> torch.Tensor:
    """Mean distance of contours to the truth's and back, and unevenness of their edges.

    A ring that begins far from its truth, where the network saw something else, counts little: no
    head that looks a few pixels far can bring it back, and few of them would outweigh all others.

    Args:
        found_px: (passes, B, rings, vertices, 2).
        truth_px: (B, rings, vertices, 2).
        begin_px: Positions before the first pass, likewise.
        known: (B, rings) bool, whether the ring is in the truth and in the beginning.
    """
    truth_px = truth_px.expand_as(found_px)
    there, back = measure_distance(found_px, truth_px), measure_distance(truth_px, found_px)
    edges = (torch.roll(found_px, -1, dims=-2) - found_px).norm(dim=-1)
    uneven = edges.std(dim=-1) / edges.mean(dim=-1)
    each = there.mean(dim=-1) + back.mean(dim=-1) + 0.2 * uneven
    with torch.no_grad():
        far_px = measure_distance(begin_px, truth_px[0]).mean(dim=-1)
        weight = known / (1 + (far_px / _TRUSTED_PX) ** 4)
    return (each * weight).sum() / (weight.sum() * len(found_px)).clamp_min(1e-6)


@torch.inference_mode()
def move_rings(
    head: GraphHead,
    rings: Sequence[np.ndarray | None],
    features: torch.Tensor,
    logits: torch.Tensor,
) -> list[np.ndarray | None]:
    """Contours of one image after all passes; those that are not there stay so."""
    begin = [np.full((VERTICES, 2), 128, np.float32) if each is None else each for each in rings]
    moved = head(torch.from_numpy(np.stack(begin))[None], features, logits)[-1, 0].numpy()
    return [None if each is None else found for each, found in zip(rings, moved, strict=True)]
