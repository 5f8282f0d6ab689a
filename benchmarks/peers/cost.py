"""What training costs: milliseconds of one image's training step, of every network, in turns."""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from bedside.models import count_parameters
from bedside.spec import named_spec
from bedside.system.atomic import write_text
from bedside.training.precision import mixed_precision
from peers.names import OURS
from peers.networks import PEERS, find_network


def make_step(
    model: nn.Module, *, batch_size: int, size_px: tuple[int, ...], num_classes: int
) -> Callable[[], None]:
    """Return a function that takes one step of training on noise, precise as `Trainer` is here."""
    device = torch.device("cpu")
    layout = torch.channels_last if len(size_px) == 2 else torch.channels_last_3d
    model = model.to(memory_format=layout).train()
    images = torch.rand(batch_size, 1, *size_px).contiguous(memory_format=layout)
    truths = torch.randint(0, num_classes, (batch_size, *size_px))
    targets = functional.one_hot(truths, num_classes).movedim(-1, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    mode, over = ("bilinear", "trilinear")[len(size_px) - 2], (0, *range(2, targets.ndim))

    def step() -> None:
        with mixed_precision(device):
            logits = model(images)
        logits = functional.interpolate(logits.float(), size_px, mode=mode)
        overlap = (logits.softmax(1) * targets).sum(over) / targets.sum(over)
        loss = functional.cross_entropy(logits, truths) - overlap.mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def main() -> None:
    """Print a line a network as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ours = [f"{OURS}{name}" for name in ("nano", "tiny", "small", "base")]
    parser.add_argument("names", nargs="*", default=[*ours, *PEERS])
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--size", type=int, nargs="+", default=[256, 256], help="2 or 3 numbers")
    parser.add_argument("--steps", type=int, default=3, help="the fastest of these counts")
    parser.add_argument("--images", type=int, default=628, help="images of an epoch")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("-o", "--output", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    size_px = tuple(arguments.size)
    base = named_spec("tiny", spatial_dims=len(size_px), num_classes=4)
    epochs = f"min for {arguments.epochs} epochs of {arguments.images}"
    print(f"{'network':24} {'M params':>8} {'ms/image':>9} {epochs:>30}")
    rows = []
    for name in arguments.names:
        torch.manual_seed(0)
        network = find_network(name, base, size_px)
        model = network.create()
        step = make_step(model, batch_size=arguments.batch_size, size_px=size_px, num_classes=4)
        step()
        seen = []
        for _ in range(arguments.steps):
            # Of one thread, the processor's time: what else runs does not count.
            begin = time.process_time()
            step()
            seen.append((time.process_time() - begin) * 1e3 / arguments.batch_size)
        minutes = min(seen) * arguments.images * arguments.epochs / 6e4
        print(
            f"{name:24} {count_parameters(model) / 1e6:8.3f} {min(seen):9.1f} {minutes:30.1f}",
            flush=True,
        )
        rows.append({"name": name, "title": network.title, "minutes": round(minutes, 1)})
    if arguments.output:
        found = {"images": arguments.images, "epochs": arguments.epochs, "networks": rows}
        write_text(arguments.output, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
