"""What a frozen network gives of augmented views of images, kept in a folder for all heads."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bedside.bundle import Bundle
from bedside.datasets import Case
from bedside.export.rebuild import rebuild_network
from bedside.spec import AugmentSpec, DeploymentSpec
from bedside.training.augment import augment
from bedside.training.dataset import load_cases
from bedside.training.example import Example

KINDS = ("features", "logits", "truth")
_BATCH = 16


class FeatureNetwork(nn.Module):
    """The network of a bundle, frozen, with the finest features of its decoder.

    Args:
        bundle: A 2D bundle.
    """

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.network = rebuild_network(bundle).create().eval().requires_grad_(requires_grad=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Turn images, (B, C, H, W), into logits and the features that they are made of.

        Returns:
            (B, K, H / 2, W / 2) and (B, 32, H / 4, W / 4) of `camus-4ch`.
        """
        network = self.network
        fused = network._decode(network._encode(x))[0]
        return network._to_logits(network.head, fused, x), fused


@dataclass(frozen=True)
class Views:
    """Views of images as a frozen network sees them.

    Attributes:
        features: (N, C, h, w) float16.
        logits: (N, K, 2 h, 2 w) float16.
        truth: (N, H, W) uint8 labels.
    """

    features: np.ndarray
    logits: np.ndarray
    truth: np.ndarray

    def __len__(self) -> int:
        """How many views."""
        return len(self.truth)

    def take(self, chosen: np.ndarray | slice) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Features, logits and labels of some views, as float32 and int64."""
        features, logits, truth = (
            torch.from_numpy(np.asarray(each[chosen]))
            for each in (self.features, self.logits, self.truth)
        )
        return features.float(), logits.float(), truth.long()


def keep_views(
    folder: Path,
    network: FeatureNetwork,
    cases: Sequence[Case],
    spec: DeploymentSpec,
    augmentations: Sequence[AugmentSpec | None],
) -> Views:
    """Views of all images of some cases, from the folder or made now.

    Args:
        folder: Of one part of one bundle; files appear whole.
        network: Frozen.
        cases: What to read.
        spec: The preprocessing.
        augmentations: Of each view of each image; None for the image as it is. All images' first
            views come first.
    """
    paths = [folder / f"{kind}.npy" for kind in KINDS]
    if not all(path.exists() for path in paths):
        folder.mkdir(parents=True, exist_ok=True)
        made = zip(*make_views(network, load_cases(cases, spec), augmentations), strict=True)
        for path, parts in zip(paths, made, strict=True):
            unfinished = path.with_suffix(".part.npy")
            np.save(unfinished, np.concatenate(parts))
            unfinished.rename(path)
    return Views(*(np.load(path, mmap_mode="r") for path in paths))


def draw_views(
    examples: Sequence[Example], augmentations: Sequence[AugmentSpec | None]
) -> Iterator[Example]:
    """Views of all examples, the same each time; all examples' first views come first."""
    for view, spec in enumerate(augmentations):
        for index, example in enumerate(examples):
            if spec is None:
                yield example
            else:
                yield augment(example, spec, np.random.default_rng([view, index]))


@torch.inference_mode()
def make_views(
    network: FeatureNetwork,
    examples: Sequence[Example],
    augmentations: Sequence[AugmentSpec | None],
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Features, logits and truth of views, batch by batch."""
    views = draw_views(examples, augmentations)
    while batch := list(itertools.islice(views, _BATCH)):
        images = torch.from_numpy(np.stack([example.image for example in batch])).float()
        logits, features = network(images)
        yield (
            features.numpy().astype(np.float16),
            logits.numpy().astype(np.float16),
            np.stack([example.truth for example in batch]).astype(np.uint8),
        )
