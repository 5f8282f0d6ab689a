"""Batches of augmented examples, the same ones whenever and wherever an epoch is drawn."""

import functools
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch

from bedside.errors import SpecError
from bedside.layers.conv import MEMORY_FORMATS
from bedside.spec import AugmentSpec
from bedside.training.augment import augment
from bedside.training.example import Example
from bedside.training.intensity_range import UNIT, Values
from bedside.training.patches import PatchSampler

_AHEAD = 2
"""Batches that workers prepare while one is trained on."""


@dataclass(frozen=True)
class Batches:
    """Examples, and how an epoch of batches is drawn from them.

    All random numbers are drawn from (seed, epoch, example).

    Attributes:
        examples: Training examples.
        augment: Augmentation of each.
        size: Examples a batch.
        seed: Seed of order and variation.
        patch: Size of what is cut out of larger examples; None to take all as they are.
        foreground: Part of the patches that have a structure in their middle.
        repeats: Patches of each example in an epoch.
        workers: Threads that prepare batches ahead; 0 prepares each when it is asked for.
        values: What values the examples have.
        rank: Which share of every batch is given, where several processes train together.
        ranks: Number of shares.
        with_clean: Whether each batch holds the images before artefacts and noise too.
        empty_share: Part of the examples without any structure that an epoch draws.

    Raises:
        SpecError: If a batch cannot be shared out evenly.
    """

    examples: Sequence[Example] = field(repr=False)
    augment: AugmentSpec
    size: int
    seed: int = 0
    patch: tuple[int, ...] | None = None
    foreground: float = 0.5
    repeats: int = 1
    workers: int = 0
    values: Values = UNIT
    rank: int = 0
    ranks: int = 1
    with_clean: bool = False
    empty_share: float = 1.0

    def __post_init__(self) -> None:
        """Refuse shares of different sizes, whose gradients could not be averaged."""
        size = min(self.size, self._drawn)
        if size % self.ranks:
            raise SpecError(
                f"{self.ranks} processes cannot share a batch of {size} evenly. Choose a "
                "training.batch_size that is a multiple of their number."
            )

    def __len__(self) -> int:
        """Number of batches; a last incomplete one is left out."""
        return max(1, self._drawn // self.size)

    def epoch(self, epoch: int) -> Iterator[tuple[torch.Tensor, ...]]:
        """Return the batches of an epoch, as `to_batch` does, on the CPU."""
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(len(self.examples) * self.repeats)
        order = self._leave_out_empty(order).tolist()
        shares = [
            order[begin : begin + self.size][self.rank :: self.ranks]
            for begin in range(0, len(self) * self.size, self.size)
        ]
        if not self.workers:
            for share in shares:
                yield self._join([self._augment(epoch, index) for index in share])
            return
        yield from self._prepared(epoch, shares)

    @property
    def _drawn(self) -> int:
        """Number of examples in an epoch, repeats counted."""
        kept = len(self.examples) - self._empty.sum() + self._empty_kept
        return int(kept) * self.repeats

    @functools.cached_property
    def _empty(self) -> np.ndarray:
        """Whether each example shows no structure, if some of those are left out."""
        if self.empty_share == 1:
            return np.zeros(len(self.examples), bool)
        return np.array([not example.truth.any() for example in self.examples])

    @property
    def _empty_kept(self) -> int:
        return round(self.empty_share * int(self._empty.sum()))

    def _leave_out_empty(self, order: np.ndarray) -> np.ndarray:
        """Keep the first empty examples in an order of draws, and all others."""
        empty = self._empty[order % len(self.examples)]
        kept: np.ndarray = order[~empty | (np.cumsum(empty) <= self._empty_kept * self.repeats)]
        return kept

    def _prepared(self, epoch: int, shares: list[list[int]]) -> Iterator[tuple[torch.Tensor, ...]]:
        """Batches that workers augment ahead."""
        waiting: list[list[Future[Example]]] = []
        with ThreadPoolExecutor(self.workers) as pool:
            for number in range(len(shares) + _AHEAD):
                if number < len(shares):
                    share = shares[number]
                    waiting.append([pool.submit(self._augment, epoch, index) for index in share])
                if number >= _AHEAD:
                    yield self._join([future.result() for future in waiting.pop(0)])

    def _join(self, examples: Sequence[Example]) -> tuple[torch.Tensor, ...]:
        images, truths = to_batch(examples)
        if not self.with_clean:
            return images, truths
        clean = [
            Example(example.image if example.clean is None else example.clean, example.truth)
            for example in examples
        ]
        return images, truths, to_batch(clean)[0]

    def _augment(self, epoch: int, draw: int) -> Example:
        rng = np.random.default_rng((self.seed, epoch, draw))
        index = draw % len(self.examples)
        if self._patches is None:
            return augment(self.examples[index], self.augment, rng, values=self.values)
        patch = self._patches.draw(index, rng)
        return augment(patch, self.augment, rng, size=self.patch, values=self.values)

    @functools.cached_property
    def _patches(self) -> PatchSampler | None:
        """Draws patches, and remembers where structures lie."""
        if self.patch is None:
            return None
        return PatchSampler(self.examples, self.patch, self.foreground)


def to_batch(examples: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack examples: images (B, C, *S) float32 channels-last, truths (B, *S) uint8."""
    images = torch.from_numpy(np.stack([example.image for example in examples], dtype=np.float32))
    truths = torch.from_numpy(np.stack([example.truth for example in examples]))
    return images.contiguous(memory_format=MEMORY_FORMATS[truths.ndim - 1]), truths
