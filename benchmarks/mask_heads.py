"""Two heads on the frozen features of `camus-4ch`: contours by graph convolutions, and diffusion.

Both are trained on augmented views of the bundle's training patients, with the network as it
ships, and compared with it on validation patients. Test patients are kept for a head that wins
there. What is finished is kept in the folder of `--work` and in `results/mask_heads.json`, from
which the page is written.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bedside.bundle import Bundle, find_bundle, read_bundle
from bedside.datasets import Case
from bedside.evaluation.parts import list_part
from bedside.models.table import count_parameters
from bedside.runtime.machine import describe_processor
from bedside.spec import AugmentSpec, read_recipe
from bedside.system.atomic import write_text
from bedside.training.dataset import load_cases
from heads.cost import time_heads
from heads.features import FeatureNetwork, Views, draw_views, keep_views
from heads.page import format_page
from heads.selection import choose_draws, score_spread, score_views
from heads.spread import PREDICTORS
from heads.training import train_diffusion, train_graph

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "mask_heads.json"
BUNDLE = "camus-4ch"
STAGES = ("settings", "validation", "spread", "times")
GRAPH_STEPS, GRAPH_BATCH = 150, 12
DIFFUSION_STEPS, DIFFUSION_BATCH = 120, 8

Json = dict[str, Any]


class Study:
    """Everything that both heads share.

    Args:
        data: Folder of CAMUS.
        work: Folder of views and trained heads.
    """

    def __init__(self, data: Path, work: Path) -> None:
        self.data = data
        self.bundle: Bundle = read_bundle(find_bundle(BUNDLE))
        self.network = FeatureNetwork(self.bundle)
        mild, strong = (read_recipe(name).augment for name in ("camus", "camus-robust-2"))
        self.augmentations = {
            "train": [None, mild, mild, mild, strong, strong, strong, strong],
            "val": [None, strong, strong, strong],
        }
        views = {
            part: self._keep(part, kinds, folder=work / "views" / part)
            for part, kinds in self.augmentations.items()
        }
        self.val = views["val"]
        self.graph = train_graph(
            work / "graph.safetensors", views["train"], steps=GRAPH_STEPS, batch=GRAPH_BATCH
        )
        self.diffusion = train_diffusion(
            work / "diffusion.safetensors", views["train"], steps=DIFFUSION_STEPS,
            batch=DIFFUSION_BATCH,
        )  # fmt: skip

    def list_cases(self, part: str) -> list[Case]:
        """Cases of a part of the bundle's split."""
        return list_part(self.bundle, self.data, part)

    def _keep(self, part: str, kinds: Sequence[AugmentSpec | None], *, folder: Path) -> Views:
        cases = self.list_cases(part)
        return keep_views(folder, self.network, cases, self.bundle.spec, kinds)


def run_stage(study: Study, stage: str, results: Json) -> Any:
    """Work out one part of the results."""
    if stage == "settings":
        return choose_draws(study.val, study.diffusion)
    settings = results["settings"]
    if stage == "validation":
        return score_views(study.val, study.graph, study.diffusion, settings)
    examples = load_cases(study.list_cases("val"), study.bundle.spec)
    if stage == "spread":
        views = draw_views(examples, study.augmentations["val"][:2])
        images = (example.image for example in views)
        found = score_spread(study.bundle, study.val, images, study.diffusion, settings)
        return [dict(zip(PREDICTORS, each, strict=True)) for each in found]
    example = examples[0].image[None].astype("float32")
    samples = settings["chosen"]["samples"]
    times = time_heads(study.network, study.graph, study.diffusion, example, samples=samples)
    return {"ms": times, "machine": describe_processor()}


def main() -> None:
    """Work out the stages asked for, and write the page of all that are there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=[], help="worked out anew")
    parser.add_argument("--data", type=Path, help="folder of CAMUS")
    parser.add_argument("--work", type=Path, help="folder of views and heads")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results: Json = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if arguments.stages:
        study = Study(arguments.data, arguments.work)
        results["parameters"] = {
            "graph": count_parameters(study.graph), "diffusion": count_parameters(study.diffusion)
        }  # fmt: skip
        results["views"] = {
            "graph": GRAPH_STEPS * GRAPH_BATCH, "diffusion": DIFFUSION_STEPS * DIFFUSION_BATCH
        }  # fmt: skip
        results["structures"] = [label.name for label in study.bundle.spec.labels]
        for stage in arguments.stages:
            results[stage] = run_stage(study, stage, results)
            print(stage, json.dumps(results[stage]), flush=True)
            write_text(RESULTS, json.dumps(results, indent=1) + "\n")
    if "settings" in results:
        write_text(HERE / "mask_heads.md", format_page(results))


if __name__ == "__main__":
    main()
