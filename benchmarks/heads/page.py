"""The page of both heads, from their results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bedside.evaluation.report import markdown_table
from heads.selection import KINDS
from heads.spread import PREDICTORS

NOTES = Path(__file__).parents[1] / "results" / "mask_heads_notes.md"

Json = Mapping[str, Any]

HEAD = """# Contours by graph convolutions, and masks by diffusion

Two heads on the frozen features (32 channels at stride 4) and logits of `camus-4ch` 1.1, which
stays as it ships. Written by `benchmarks/mask_heads.py`.

- **Graph head**, {graph} weights: contours of endocardium, epicardium and left atrium, 64 vertices
  each, traced from the network's mask and moved in three passes. A vertex sees features and chances
  at nine points along its normal; three graph convolutions pass messages along the ring, between
  rings and from the mean of a ring. Trained on {graph_views} views.
- **Diffusion head**, {diffusion} weights: a small U-Net at strides 8 and 16 that works out the mask
  from a noisy one, features and logits (cosine schedule, ancestral draws). Trained on
  {diffusion_views} views. Chosen on validation patients: {samples} draws of {steps} steps from time
  {start}.

Views are drawn from eight of each training image (one as it is, three and four with the
augmentation of the recipes `camus` and `camus-robust-2`). The network has seen these patients in
its own training, so its logits are better there than on others.

All figures are of validation patients, on the network's own grid (256 x 256, logits at stride 2),
without repairs. Test patients were not looked at: they are kept for a head that wins here.
"""
ACCURACY = """## Accuracy and smoothness

90 images of 45 patients; the change is against the network on the same images, with its 95 %
interval by a bootstrap over patients. "traced and filled" is what is lost by contours alone. HD95
is in pixels of the network's input. Turns are those of the outline, followed in steps of 8 pixels:
1 is convex, each dent adds.
"""
BYTES = """\
Three contours of 64 vertices in sixteenths of a pixel take {contours:.0f} bytes, deflated; the
label map of 128 x 128 as PNG {masks:.0f} bytes (medians).
"""
SPREAD = """## Draws as a measure of confidence

What predicts the Dice of the network's own mask: the confidence that ships (which was calibrated on
these very patients, and so has an advantage here), the Dice of the mask with the network's own
chances, or the mean Dice of draws with the mask or with each other. Clean images, and all: these
and as many spoilt by the augmentation of `camus-robust-2`. Figures are those of
[confidence.md](confidence.md): caught is the part of the worst tenth that is flagged at 10 % false
alarms, the AURC gap is 0 for the oracle's order and 1 for a random one. Error is that of the
predicted Dice; only the shipped confidence is calibrated.
"""
TRIED = """## Draws

What was tried, on 30 of these images, 15 of them as they are and 15 spoilt by the augmentation of
`camus-robust-2`: Dice of the mean of draws, and the AURC gap (0 for the oracle's order, 1 for a
random one) of the Dice of the network's mask by the mean Dice of draws with it, or of draws with
each other. The first decides; within 0.01 the fewest steps are taken.
"""
TIMES = """## Time

Processor time in ms, medians of 60 turns, OpenVINO in f32 on one thread;
{machine}. Other processes ran beside, so only the proportions count. Tracing and
filling are OpenCV's.
"""


def format_page(results: Json) -> str:
    """Lay out all tables, and the notes behind them."""
    head = HEAD.format(
        **{name: f"{count:,}" for name, count in results["parameters"].items()},
        **{f"{name}_views": f"{count:,}" for name, count in results["views"].items()},
        **results["settings"]["chosen"],
    )
    sections = {
        "validation": _accuracy, "settings": _tried, "spread": _spread, "times": _times
    }  # fmt: skip
    parts = [head]
    for stage, lay_out in sections.items():
        parts += lay_out(results) if stage in results else []
    return "\n".join([*parts, NOTES.read_text(encoding="utf-8")])


def _change(values: Sequence[float], *, digits: int) -> str:
    mean, low, high = (f"{value:+.{digits}f}" for value in values)
    return f"{mean} ({low} to {high})"


def _accuracy(results: Json) -> list[str]:
    found, rows = results["validation"], []
    for place, structure in enumerate(results["structures"]):
        for kind in (*KINDS, "experts"):
            own = found[kind]
            row = [structure, kind]
            for name, digits in (("dice", 4), ("hd95_px", 2), ("turns", 2)):
                row.append(f"{own[name][place]:.{digits}f}")
                if name != "turns":
                    row.append(_change(own[f"{name} change"][place], digits=digits))
            rows.append([structure, kind, "", "", "", "", row[-1]] if kind == "experts" else row)
    return [
        ACCURACY,
        *markdown_table(
            ["structure", "masks by", "Dice", "change", "HD95", "change ", "turns"], rows
        ), "",
        BYTES.format(**found["bytes"]),
    ]  # fmt: skip


def _tried(results: Json) -> list[str]:
    tried = [
        [
            *(str(each[name]) for name in ("samples", "steps", "start")),
            *(f"{value:.4f}" for value in each["dice"]),
            f"{each['gap against the mask']:.2f}", f"{each['gap against each other']:.2f}",
        ]
        for each in results["settings"]["tried"]
    ]  # fmt: skip
    return [
        TRIED,
        *markdown_table(
            ["draws", "steps", "from", *results["structures"], "gap, with the mask",
             "gap, among draws"], tried
        ), "",
    ]  # fmt: skip


def _spread(results: Json) -> list[str]:
    rows = [
        [
            structure, name,
            *(f"{figures[f'{word} {part}']:.2f}" for word in ("caught", "gap")
              for part in ("clean", "all")),
            *(f"{figures[f'error {part}']:.3f}" for part in ("clean", "all")),
        ]
        for structure, predictors in zip(results["structures"], results["spread"], strict=True)
        for name, figures in ((name, predictors[name]) for name in PREDICTORS)
    ]  # fmt: skip
    return [
        SPREAD,
        *markdown_table(
            ["structure", "predictor", "caught, clean", "caught, all", "AURC gap, clean",
             "AURC gap, all", "error, clean", "error, all"], rows
        ), "",
    ]  # fmt: skip


def _times(results: Json) -> list[str]:
    times = results["times"]["ms"]
    added = {
        "**graph head adds**": add_graph(times),
        "**diffusion head adds**": add_draws(times, results["settings"]["chosen"]["steps"]),
    }
    rows = [
        [part, f"{taken:.2f}", f"{taken / times['network']:.2f}"]
        for part, taken in {**times, **added}.items()
    ]
    return [
        TIMES.format(machine=results["times"]["machine"]),
        *markdown_table(["part", "ms", "of the network's"], rows), "",
    ]  # fmt: skip


def add_graph(times: Mapping[str, float]) -> float:
    """What a graph head takes in all beside the network, in ms."""
    parts = ("network with features", "contours traced", "graph head", "contours filled")
    return sum(times[part] for part in parts) - times["network"]


def add_draws(times: Mapping[str, float], steps: int) -> float:
    """What all draws of a diffusion head take beside the network, in ms."""
    drawn = times["diffusion, shared part"] + steps * times["diffusion, a step of all draws"]
    return times["network with features"] - times["network"] + drawn
