"""Training of both heads on kept views, with one thread; a finished head is not trained again."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bedside.system.atomic import written_atomically
from bedside.training.checkpoint import load_tensors, save_tensors
from heads import diffusion, graph
from heads.diffusion import DiffusionHead
from heads.features import Views
from heads.graph import GraphHead
from heads.rings import RINGS, VERTICES, trace_labels, trace_logits

Loss = Callable[[np.ndarray], torch.Tensor]

_DECAY = 0.01
_AVERAGED = 0.95
_WARM = 0.1


def keep_rings(path: Path, views: Views) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Contours of all views, from the file or traced now.

    Returns:
        Those of the network and of the truth, (N, rings, vertices, 2) float32, and which are in
        both, (N, rings) bool.
    """
    if not path.exists():
        size = len(views)
        ours, true = np.zeros((2, size, len(RINGS), VERTICES, 2), np.float32)
        known = np.ones((size, len(RINGS)), bool)
        for index in range(size):
            drawn = trace_logits(views.logits[index].astype(np.float32))
            for place, pair in enumerate(zip(drawn, trace_labels(views.truth[index]), strict=True)):
                if pair[0] is None or pair[1] is None:
                    known[index, place] = False
                else:
                    ours[index, place], true[index, place] = pair
        with written_atomically(path) as unfinished, unfinished.open("wb") as file:
            np.savez(file, ours=ours, true=true, known=known)
    with np.load(path, allow_pickle=False) as kept:
        return kept["ours"], kept["true"], kept["known"]


def train_graph(path: Path, views: Views, *, steps: int, batch: int, seed: int = 0) -> GraphHead:
    """The graph head, trained or as it is kept at a path."""
    torch.manual_seed(seed)
    head = GraphHead(views.features.shape[1], views.logits.shape[1])
    ours, true, known = keep_rings(path.parent / "train_rings.npz", views)

    def find_loss(chosen: np.ndarray) -> torch.Tensor:
        features, logits, _ = views.take(chosen)
        begin, truth, there = (torch.from_numpy(each[chosen]) for each in (ours, true, known))
        # Nothing may be learned from contours that are nearer than unseen images' are.
        begin = begin + disturb(begin)
        return graph.find_loss(head(begin, features, logits), truth, begin, there)

    _train(head, path, find_loss, views=len(views), steps=steps, batch=batch, rate=6e-3)
    return head


def disturb(rings_px: torch.Tensor) -> torch.Tensor:
    """Smooth random moves of contours, some pixels large, (B, rings, vertices, 2)."""
    batch, rings, vertices, _ = rings_px.shape
    angle = torch.arange(vertices) * (2 * math.pi / vertices)
    waves = torch.stack([torch.cos(k * angle + k) for k in range(5)])
    waves = torch.cat([waves, torch.stack([torch.sin(k * angle + k) for k in range(1, 5)])])
    size = 1.5 * torch.rand(batch, rings, 1, 1)
    weights = size * torch.randn(batch, rings, 2, len(waves)) / 3
    return (weights @ waves).transpose(2, 3)


def train_diffusion(
    path: Path, views: Views, *, steps: int, batch: int, seed: int = 0
) -> DiffusionHead:
    """The diffusion head, trained or as it is kept at a path."""
    torch.manual_seed(seed)
    head = DiffusionHead(views.features.shape[1], views.logits.shape[1])

    def find_loss(chosen: np.ndarray) -> torch.Tensor:
        return diffusion.find_loss(head, *views.take(chosen))

    _train(head, path, find_loss, views=len(views), steps=steps, batch=batch, rate=2e-3)
    return head


def _train(
    head: nn.Module, path: Path, find_loss: Loss, *, views: int, steps: int, batch: int, rate: float
) -> None:
    """Train a head in place by AdamW with a cosine schedule; the mean of its weights is kept."""
    if not path.exists():
        optimizer = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=_DECAY)
        averaged = {name: value.clone() for name, value in head.state_dict().items()}
        draws, seen = np.random.default_rng(0), 0.0
        for step in range(steps):
            done = step / steps
            scale = min(1.0, done / _WARM) * 0.5 * (1 + math.cos(math.pi * done))
            optimizer.param_groups[0]["lr"] = rate * max(scale, 1e-3)
            loss = find_loss(np.sort(draws.choice(views, batch, replace=False)))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimizer.step()
            keep = min(_AVERAGED, step / (step + 10))
            for name, value in head.state_dict().items():
                averaged[name].lerp_(value, 1 - keep)
            seen += (loss.item() - seen) / min(step + 1, 25)
            if (step + 1) % 25 == 0:
                print(f"{path.stem}: step {step + 1} of {steps}, loss {seen:.4f}", flush=True)
        save_tensors(path, averaged, note=f"{steps} steps of {batch}")
    head.load_state_dict(load_tensors(path)[0])
    head.eval()
