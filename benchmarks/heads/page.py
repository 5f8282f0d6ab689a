"""The page of both heads, from their results."""

from collections.abc import Mapping
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
  rings and from the mean of a ring. {graph_steps} steps of 16 views.
- **Diffusion head**, {diffusion} weights: a small U-Net at strides 8 and 16 that works out the mask
  from a noisy one, features and logits (cosine schedule, ancestral draws). {diffusion_steps} steps
  of 12 views. Chosen on validation patients: {samples} draws of {steps} steps from time {start}.

Both learned from eight views of each training image (one as it is, three and four with the
augmentation of the recipes `camus` and `camus-robust-2`), on one core in minutes. The network has
seen these patients in its own training, so its logits are better there than on others.
"""
ACCURACY = """## Accuracy

180 test images of 90 patients on their own grid, by the bundle's whole pipeline; each head beside
the network on the same images, with 95 % intervals by a bootstrap over patients.
"""
VALIDATION = """\
On 90 validation images, on the grid of the logits, without repairs; "traced and filled"
is what is lost by contours alone:
"""
TRIED = """\
Draws, on half of these and as many spoilt views: Dice of the mean of draws, and the AURC gap
of their agreement as a prediction of the Dice of the network's mask:
"""
SHAPE = """## Smoothness and bytes

Whole turns of the outline of a structure, followed in steps of 4 pixels of the image: 1 is convex,
each dent adds. Means over test images.
"""
BYTES = """\
Three contours of 64 vertices in sixteenths of a pixel take {contours:.0f} bytes, deflated;
the label map as PNG {masks:.0f} bytes (medians).
"""
SPREAD = """## Draws as a measure of confidence

What predicts the Dice of the network's own mask: the confidence that ships, the mean Dice of draws
with the mask, or with each other. Images, artefacts and figures are those of
[confidence.md](confidence.md): caught is the part of the worst tenth that is flagged at 10 % false
alarms, the AURC gap is 0 for the oracle's order and 1 for a random one. Error is that of the
predicted Dice; agreement of draws is taken as a Dice, without calibration.
"""
TIMES = """## Time

Processor time in ms, medians of 100 turns, OpenVINO on one thread, {machine}. Other processes ran
beside, so only the proportions count.
"""


def format_page(results: Json) -> str:
    """Lay out all tables, and the notes behind them."""
    chosen = results["settings"]["chosen"]
    head = HEAD.format(
        **{name: f"{count:,}" for name, count in results["parameters"].items()},
        **{f"{name}_steps": count for name, count in results["steps"].items()},
        **chosen,
    )
    parts = [
        head, *_accuracy(results), *_validation(results), *_shape(results), *_spread(results),
        *_times(results), NOTES.read_text(encoding="utf-8"),
    ]  # fmt: skip
    return "\n".join(parts)


def _structures(scores: Json) -> list[str]:
    return [name for name in scores if name != "bytes"]


def _change(values: tuple[float, float, float], *, digits: int) -> str:
    mean, low, high = (f"{value:+.{digits}f}" for value in values)
    return f"{mean} ({low} to {high})"


def _accuracy(results: Json) -> list[str]:
    test = results["test"]
    rows = [
        [
            name, structure,
            f"{own['dice']['mean']:.4f}", _change(own["dice"]["change"], digits=4),
            f"{own['hd95_mm']['mean']:.2f}", _change(own["hd95_mm"]["change"], digits=2),
        ]
        for name, scores in test.items()
        for structure, own in scores.items()
        if structure != "bytes"
    ]  # fmt: skip
    return [
        ACCURACY,
        *markdown_table(
            ["masks by", "structure", "Dice", "change", "HD95 mm", "change "],
            [[cell if row[0] != "network" or column not in (3, 5) else "" for column, cell in
              enumerate(row)] for row in rows],
        ), "",
    ]  # fmt: skip


def _validation(results: Json) -> list[str]:
    names = _structures(results["test"]["network"])
    rows = [[kind, *(f"{value:.4f}" for value in results["validation"][kind])] for kind in KINDS]
    tried = [
        [
            str(each["samples"]), str(each["steps"]), str(each["start"]),
            *(f"{value:.4f}" for value in each["dice"]),
            f"{each['gap against the mask']:.2f}", f"{each['gap against each other']:.2f}",
        ]
        for each in results["settings"]["tried"]
    ]  # fmt: skip
    return [
        VALIDATION,
        *markdown_table(["Dice of masks by", *names], rows), "",
        TRIED,
        *markdown_table(
            ["draws", "steps", "from", *names, "gap, with the mask", "gap, among draws"], tried
        ), "",
    ]  # fmt: skip


def _shape(results: Json) -> list[str]:
    test = results["test"]
    names = _structures(test["network"])
    rows = [
        [name, *(f"{scores[each]['turns']['labels']:.2f}" for each in names)]
        for name, scores in test.items()
    ]
    truth = [f"{test['network'][each]['turns']['truth']:.2f}" for each in names]
    sizes = test["graph head"]["bytes"]
    return [
        SHAPE,
        *markdown_table(["outlines by", *names], [*rows, ["experts", *truth]]), "",
        BYTES.format(**sizes),
    ]  # fmt: skip


def _spread(results: Json) -> list[str]:
    rows = [
        [
            structure, name,
            *(f"{figures[f'{word} {part}']:.2f}" for word in ("caught", "gap")
              for part in ("clean", "all")),
            *(f"{figures[f'error {part}']:.3f}" for part in ("clean", "all")),
        ]
        for structure, predictors in results["spread"].items()
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
    times = results["times"]
    chosen = results["settings"]["chosen"]
    parts = list(times["f32"])
    rows = [[part, *(f"{times[kind][part]:.2f}" for kind in ("f32", "bf16"))] for part in parts]

    def add_up(kind: str) -> tuple[str, str]:
        own = times[kind]
        base = own["network with features"] - own["network"]
        graph = base + own["contours traced"] + own["graph head"] + own["contours filled"]
        steps = chosen["steps"] * own["diffusion, a step of all draws"]
        drawn = base + own["diffusion, shared part"] + steps
        return f"{graph:.2f}", f"{drawn:.2f}"

    sums = [add_up(kind) for kind in ("f32", "bf16")]
    rows.append(["**graph head adds**", *(each[0] for each in sums)])
    rows.append(["**diffusion head adds**", *(each[1] for each in sums)])
    return [
        TIMES.format(machine=times["machine"]),
        *markdown_table(["part", "f32", "bf16"], rows), "",
    ]  # fmt: skip
