"""How well networks fill matrix units of 128 x 128, such as a TPU's, and one shaped to fill them.

    python benchmarks/tiles.py

writes `tiles.md`. Nothing is trained or timed: fill follows from the shapes of products.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from bedside.bundle import find_bundle, read_bundle
from bedside.export.jax_graph import make_function
from bedside.export.onnx import export_onnx
from bedside.export.tiles import TILE, TileReport, report_tiles
from bedside.models import count_parameters, create
from bedside.spec import LevelSpec, ModelSpec, named_spec
from bedside.system.atomic import write_text

PAGE = Path(__file__).with_suffix(".md")
SIZE = (256, 256)
BUNDLES, NAMES = ("camus-4ch", "hippocampus"), ("tiny",)
SHAPED = "tiny-mxu"


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


def shape_for_tiles() -> ModelSpec:
    """A network of 1.2 times the multiply-adds of `tiny` whose channels come near to full tiles.

    Levels have 32, 64 and 128 channels, and one head as wide as a tile, so that products of
    tokens have 128 terms.
    """
    levels = (
        LevelSpec("conv", 32, 1),
        LevelSpec("conv", 64, 1),
        LevelSpec("window", 128, 1, num_heads=1, head_dim=TILE),
        LevelSpec("window", 128, 2, num_heads=1, head_dim=TILE),
    )
    return replace(named_spec("tiny"), levels=levels, stem_channels=16, decoder_channels=32)


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
        "`tiny-mxu` is shaped for tiles: levels of 32, 64 and 128 channels, one head of 128. **It",
        "was not trained**, so its accuracy is unknown, and it is no named network.",
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
    ]
    write_text(PAGE, "\n".join(lines) + "\n")


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
