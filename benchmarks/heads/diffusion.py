"""A diffusion head: masks drawn in a few steps from noise, given what the frozen network sees.

The state is a mask of +-`SCALE` for each class at stride 2, plus noise. From it, the features and
the network's logits the head works out logits of the mask without noise, as a change of the
network's own. Several draws of noise give several plausible masks.
"""

import itertools
import math

import torch
from torch import nn
from torch.nn import functional

SCALE = 0.25
"""Size of the state without noise. Neighbouring pixels tell the same, so noise must be large."""

_CELL = 4
_FREQUENCIES = 8


def find_signal(time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Parts of mask and noise in the state at a time, the squares of which sum to 1.

    Args:
        time: In [0, 1]: 0 is the mask alone, 1 noise alone.

    Source:
        The cosine schedule, Nichol and Dhariwal 2021, arXiv:2102.09672, without its offset.
    """
    return torch.cos(0.5 * math.pi * time), torch.sin(0.5 * math.pi * time)


def add_noise(state: torch.Tensor, noise: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    """State at a time, (B, K, h, w), of a mask's state, noise of its shape and (B,) times."""
    mask_part, noise_part = (each[:, None, None, None] for each in find_signal(time))
    return mask_part * state + noise_part * noise


def to_state(chances: torch.Tensor) -> torch.Tensor:
    """State without noise of the chances of each class."""
    return SCALE * (2 * chances - 1)


def step_back(
    state: torch.Tensor,
    clean: torch.Tensor,
    noise: torch.Tensor,
    *,
    time: torch.Tensor,
    before: torch.Tensor,
) -> torch.Tensor:
    """Draw the state at an earlier time, given an estimate of the one without noise.

    Args:
        state: (B, K, h, w) at `time`.
        clean: The estimate.
        noise: Fresh, of its shape.
        time: (B,) or scalar.
        before: The earlier time.

    Source:
        The posterior of DDPM, Ho et al. 2020, arXiv:2006.11239: DDIM with eta of 1, Song et al.
        2021, arXiv:2010.02502, eq. 12 and 16.
    """
    mask_part, noise_part = find_signal(time)
    mask_before, noise_before = find_signal(before)
    fresh = noise_before / noise_part * (1 - (mask_part / mask_before) ** 2).clamp_min(0).sqrt()
    guessed = (state - mask_part * clean) / noise_part
    kept = (noise_before**2 - fresh**2).clamp_min(0).sqrt()
    return mask_before * clean + kept * guessed + fresh * noise


class _Block(nn.Module):
    """Inverted residual block that knows the time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.norm = nn.GroupNorm(1, width)
        self.widen = nn.Conv2d(width, 2 * width, 1)
        self.time = nn.Linear(2 * _FREQUENCIES, 2 * width)
        self.narrow = nn.Conv2d(2 * width, width, 1)
        nn.init.zeros_(self.narrow.weight)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        wide = self.widen(self.norm(self.near(x))) + self.time(time)[..., None, None]
        return x + self.narrow(functional.relu(wide))


class DiffusionHead(nn.Module):
    """Logits of the mask without noise, from a noisy one.

    Args:
        channels: Of the features, at stride 4.
        classes: Of the logits, at stride 2.
        width: Channels at stride 8; half as many again at stride 16.
    """

    def __init__(self, channels: int = 32, classes: int = 4, width: int = 48) -> None:
        super().__init__()
        cells, coarse = _CELL**2 * classes, width * 3 // 2
        self.condition = nn.Conv2d(4 * channels + cells, width, 1)
        self.enter = nn.Conv2d(cells, width, 1)
        self.fine = nn.ModuleList(_Block(width) for _ in range(2))
        self.down = nn.Conv2d(width, coarse, 1)
        self.coarse = nn.ModuleList(_Block(coarse) for _ in range(2))
        self.up = nn.Conv2d(coarse, width, 1)
        self.last = nn.ModuleList(_Block(width) for _ in range(2))
        self.leave = nn.Conv2d(width, cells, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def prepare(self, features: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """What all steps and draws of an image share, (B, width, h / 4, w / 4)."""
        cells = functional.pixel_unshuffle(logits.clamp(-8, 8) / 4, _CELL)
        return self.condition(torch.cat([functional.pixel_unshuffle(features, 2), cells], dim=1))

    def forward(
        self, state: torch.Tensor, prepared: torch.Tensor, logits: torch.Tensor, time: torch.Tensor
    ) -> torch.Tensor:
        """Logits of the mask, of the shape of the network's.

        Args:
            state: (B, K, h, w) at `time`.
            prepared: Of `prepare`.
            logits: The network's.
            time: (B,).
        """
        known = embed_time(time)
        fine = prepared + self.enter(functional.pixel_unshuffle(state, _CELL))
        for block in self.fine:
            fine = block(fine, known)
        coarse = self.down(functional.avg_pool2d(fine, 2))
        for block in self.coarse:
            coarse = block(coarse, known)
        fine = fine + functional.interpolate(self.up(coarse), scale_factor=2.0, mode="nearest")
        for block in self.last:
            fine = block(fine, known)
        return logits + functional.pixel_shuffle(self.leave(fine), _CELL)


def embed_time(time: torch.Tensor) -> torch.Tensor:
    """Sines and cosines of times, (B, 2 * frequencies)."""
    angles = time[:, None] * (math.pi * torch.arange(1, _FREQUENCIES + 1))
    return torch.cat([angles.sin(), angles.cos()], dim=1)


@torch.inference_mode()
def draw_masks(
    head: DiffusionHead,
    features: torch.Tensor,
    logits: torch.Tensor,
    *,
    samples: int,
    steps: int,
    start: float,
    seed: int = 0,
) -> torch.Tensor:
    """Draw plausible masks of one image.

    Args:
        head: In evaluation mode.
        features: (1, C, h, w).
        logits: (1, K, 2 h, 2 w) of the network.
        samples: How many masks.
        steps: Of the head for each.
        start: Time to begin at, in (0, 1]: below 1 the state begins as the network's own chances
            with noise.
        seed: Of the noise.

    Returns:
        (samples, K, 2 h, 2 w) chances of the last step.
    """
    random = torch.Generator().manual_seed(seed)
    shape = (samples, *logits.shape[1:])
    times = torch.linspace(start, 0, steps + 1)
    prepared = head.prepare(features, logits).expand(samples, -1, -1, -1)
    clean = to_state(logits.softmax(dim=1)).expand(shape)
    state = add_noise(clean, torch.randn(shape, generator=random), times[:1].expand(samples))
    for time, before in itertools.pairwise(times):
        chances = head(state, prepared, logits, time.expand(samples)).softmax(dim=1)
        if before > 0:
            noise = torch.randn(shape, generator=random)
            state = step_back(state, to_state(chances), noise, time=time, before=before)
    return chances


def find_loss(
    head: DiffusionHead, features: torch.Tensor, logits: torch.Tensor, truth: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy and soft Dice of masks at times drawn evenly.

    Args:
        head: To train.
        features: (B, C, h, w).
        logits: (B, K, 2 h, 2 w) of the network.
        truth: (B, 4 h, 4 w) labels.
    """
    chances = functional.one_hot(truth, logits.shape[1]).movedim(3, 1).float()
    chances = functional.avg_pool2d(chances, 2)
    time = torch.rand(len(truth)) * 0.98 + 0.02
    state = add_noise(to_state(chances), torch.randn_like(chances), time)
    found = head(state, head.prepare(features, logits), logits, time)
    entropy = -(chances * found.log_softmax(dim=1)).sum(dim=1).mean()
    own = found.softmax(dim=1)
    both = (own * chances).sum(dim=(2, 3))
    overlap = (2 * both + 1) / ((own + chances).sum(dim=(2, 3)) + 1)
    return entropy + 0.2 * (1 - overlap).mean()
