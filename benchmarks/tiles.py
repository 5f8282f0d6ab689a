"""How well networks fill matrix units of 128 x 128, such as a TPU's, and one shaped to fill them.

    PYTHONPATH=benchmarks .venv-peers/bin/python -m peers.train ours:tiny-mxu --epochs 25
    python benchmarks/tiles.py

The second writes `tiles.md`. Nothing is timed: fill follows from the shapes of products.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from bedside.bundle import find_bundle, read_bundle
from bedside.export.jax_graph import make_function
from bedside.export.onnx import export_onnx
from bedside.export.tiles import TileReport, report_tiles
from bedside.models import count_parameters, create
from bedside.spec import ModelSpec, named_spec
from bedside.system.atomic import write_text
from bedside.training.checkpoint import read_json
from frontier_pairs import subtract
from pareto import Merged, merge_seeds
from peers.names import OURS
from peers.shaped import SHAPED, shape_for_tiles

PAGE = Path(__file__).with_suffix(".md")
SIZE = (256, 256)
BUNDLES, NAMES = ("camus-4ch", "hippocampus"), ("tiny",)
RESULTS = Path(__file__).parent / "results"
# Those of the split without copies of patients, with the Dice of every test image.
TRAINED = (
    RESULTS / "camus-frontier-small" / "ours-tiny.json",
    RESULTS / "camus-frontier" / "ours-tiny-mxu.json",
)


@dataclass(frozen=True)
class Row:
    """One network.

    Attributes:
        name: Bundle, named network, or that of `shape_for_tiles`.
        size_px: Its input.
        parameters: Weights; None of a bundle.
        report: Its products.
    """

    name: str
    size_px: tuple[int, ...]
    parameters: int | None
    report: TileReport

    def fill_of(self, operation: str) -> tuple[float, float]:
        """Part of the time that one kind of product takes, and its fill."""
        products = [each for each in self.report.products if each.operation == operation]
        time = sum(each.mac / each.fill for each in products)
        whole = sum(each.mac / each.fill for each in self.report.products)
        return time / whole, sum(each.mac for each in products) / time if time else 0.0


def measure(name: str, spec: ModelSpec) -> Row:
    """Fill of a network with fresh weights."""
    torch.manual_seed(0)
    model = create(spec).eval()
    shape = (1, spec.in_channels, *SIZE)
    graph = export_onnx(model, input_shape=shape, quickly=True)
    report = report_tiles(make_function(graph, precision="f32"), shape)
    return Row(name, SIZE, count_parameters(model), report)


def write_page(rows: list[Row]) -> None:
    """Write the table."""
    lines = [
        "# Products and tiles of 128 x 128",
        "",
        "`benchmarks/tiles.py` takes the products of each network from its graph in JAX, as",
        "`bedside export --to stablehlo` does (`tiles.json`). Fill is the part of the held tiles",
        "that is no padding, weighted by the time of full tiles; **nothing was timed on a TPU**.",
        "`tiny-mxu` is shaped for tiles: levels of 32, 64 and 128 channels, one head of 128. It is",
        "no named network.",
        "",
        "| network | input | weights | multiply-adds | fill | convolutions: time, fill "
        "| depthwise: time, fill | products of tokens: time, fill |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        kinds = [row.fill_of(kind) for kind in ("conv", "depthwise conv", "matmul")]
        cells = [
            f"`{row.name}`",
            " x ".join(map(str, row.size_px)),
            f"{row.parameters:,}" if row.parameters else "",
            f"{row.report.mac / 1e6:,.0f} M",
            f"{100 * row.report.fill:.0f} %",
            *(f"{100 * time:.0f} %, {100 * fill:.0f} %" for time, fill in kinds),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "A depthwise convolution has sums of 9 terms (27 in 3D) in each of its groups, and fills",
        "7 % of a tile (21 %) at most; compilers may run it on the vector unit instead, where",
        "tiles do not matter. Channels alone gain little: depthwise convolutions and the fine",
        "levels remain.",
        "",
        *compare(merge_seeds(read_json(path) for path in TRAINED)),
    ]
    write_text(PAGE, "\n".join(lines) + "\n")


def compare(trained: dict[str, Merged]) -> list[str]:
    """What the shape does to accuracy: `tiny` and `tiny-mxu`, trained alike on CAMUS."""
    tiny, shaped = trained[f"{OURS}tiny"], trained[f"{OURS}{SHAPED}"]
    ours, theirs = shaped.case_dice["f32"], tiny.case_dice["f32"]
    cases = [case for case in ours if case in theirs]
    difference = subtract(ours, theirs, cases)
    structures = list(shaped.structures)
    decided = difference.low > 0 or difference.high < 0
    return [
        "## Trained",
        "",
        f"Both by `peers.train` on CAMUS: {shaped.epochs} epochs, one seed, the same patients, "
        "each scored once; Dice in f32.",
        "",
        f"| network | {' | '.join(structures)} | mean Dice | trained in |",
        "|---|" + "---|" * (len(structures) + 2),
        *(
            f"| `{name}` | {' | '.join(f'{each.structures[key]:.4f}' for key in structures)} | "
            f"{each.mean_dice[0]:.4f} ({each.mean_dice[1]:.4f} to {each.mean_dice[2]:.4f}) | "
            f"{', '.join(each.trained_in)} |"
            for name, each in (("tiny", tiny), (SHAPED, shaped))
        ),
        "",
        f"On the same {len(cases)} images of {len({patient for patient, _ in cases})} patients "
        f"`{SHAPED}` has {difference.mean:+.4f} ({difference.low:+.4f} to {difference.high:+.4f}) "
        f"of Dice{'' if decided else ', which decides nothing'}, with "
        f"{shaped.parameters / tiny.parameters:.2f} times the weights. The interval is a bootstrap "
        "over patients, and leaves out what another seed would change.",
    ]


def main() -> None:
    """Measure shipped bundles, named networks, and the one for tiles."""
    rows = []
    for name in BUNDLES:
        bundle = read_bundle(find_bundle(name))
        shape = (1, bundle.spec.input.channels, *bundle.spec.input.size_px)
        function = make_function(bundle.read_graph("f32"), precision="f32")
        rows.append(Row(name, shape[2:], None, report_tiles(function, shape)))
    rows += [measure(name, named_spec(name)) for name in NAMES]
    rows.append(measure(SHAPED, shape_for_tiles()))
    write_page(rows)


if __name__ == "__main__":
    main()
