"""How many layers go back to f32 for how much of the accuracy, on shipped bundles.

Example: python benchmarks/accuracy_aware.py camus-4ch=data/camus -o benchmarks/accuracy_aware.md
"""

import argparse
from pathlib import Path

from bedside.bundle import find_bundle, read_bundle
from bedside.compression.accuracy_aware import MixedGraph, quantize_int8_accuracy_aware
from bedside.errors import ExportError
from bedside.evaluation.cases import evaluate_cases
from bedside.evaluation.parts import list_part, list_validation
from bedside.runtime import open_graph
from bedside.segment import Segmenter
from bedside.system.atomic import write_text
from bedside.training.calibration import draw_calibration

HEAD = """# Layers in f32 where 8 bits lose too much

`bedside build --accuracy-aware` on the f32 graphs of shipped bundles, scored on their validation
patients in OpenVINO, with 64 calibration images of their training patients. "Loss" is the largest
loss of mean Dice of any structure against f32. Written by `benchmarks/accuracy_aware.py`.

| bundle | allowed loss | loss of plain int8 | layers in f32 | loss then | which |
|---|---|---|---|---|---|
"""


def quantize(name: str, data: Path, max_drop: float, most: int) -> MixedGraph:
    """Quantize a bundle's graph as a build of its run would."""
    bundle = read_bundle(find_bundle(name))
    cases = list_validation(bundle, data)[:most]
    calibration = draw_calibration(list_part(bundle, data, "train"), bundle.spec, count=64)

    def score(graph: bytes) -> list[float]:
        session = open_graph(graph, backend="openvino", precision="int8", threads=1)
        evaluation = evaluate_cases(Segmenter(bundle.spec, session), cases)
        return [each.dice.mean or 0.0 for each in evaluation.structures]

    return quantize_int8_accuracy_aware(bundle.read_graph("f32"), calibration, score, max_drop)


def describe(name: str, max_drop: float, mixed: MixedGraph) -> str:
    """Row of the table."""
    plain, reached = (
        max(a - b for a, b in zip(mixed.reference, scores, strict=True))
        for scores in (mixed.plain, mixed.reached)
    )
    kept = ", ".join(f"`{layer.name}`" for layer in mixed.kept) or "none"
    count = f"{len(mixed.kept)} of {mixed.layers}"
    return f"| `{name}` | {max_drop:g} | {plain:.4f} | {count} | {reached:.4f} | {kept} |"


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", nargs="+", help="NAME=FOLDER of the data set")
    parser.add_argument("--max-drop", type=float, nargs="+", default=[0.001])
    parser.add_argument("--most", type=int, default=1000, help="validation cases, at most")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    rows = []
    for name, _, data in (each.partition("=") for each in arguments.bundles):
        for max_drop in arguments.max_drop:
            try:
                mixed = quantize(name, Path(data), max_drop, arguments.most)
            except ExportError as error:
                rows.append(f"| `{name}` | {max_drop:g} | | | | {error} |")
            else:
                rows.append(describe(name, max_drop, mixed))
            print(rows[-1], flush=True)
            write_text(arguments.output, HEAD + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
