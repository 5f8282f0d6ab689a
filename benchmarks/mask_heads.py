"""Two heads on the frozen features of `camus-4ch`: contours by graph convolutions, and diffusion.

Both are trained on augmented views of the bundle's training patients, with the network as it
ships. Validation patients choose; test patients are looked at once a head, which the ledger
records. What is finished is kept in the folder of `--work`, and not worked out again; the page
is written from `results/mask_heads.json`.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bedside.bundle import Bundle, find_bundle, read_bundle
from bedside.datasets.case import read_case
from bedside.evaluation.certification import list_part
from bedside.evaluation.intervals import mean_interval
from bedside.evaluation.looks import find_ledger, record_look
from bedside.models.table import count_parameters
from bedside.runtime.machine import describe_processor
from bedside.spec import read_recipe
from bedside.system.atomic import write_text
from heads.cost import time_heads
from heads.features import FeatureNetwork, Views, keep_views
from heads.page import format_page
from heads.pipeline import (
    Change,
    Scored,
    change_by_diffusion,
    change_by_graph,
    open_with_head,
    score_cases,
)
from heads.rings import trace_labels
from heads.selection import choose_draws, score_views
from heads.shape import count_contour_bytes, count_mask_bytes, find_turns
from heads.spread import PREDICTORS, measure_predictors, predict_spoilt
from heads.training import train_diffusion, train_graph

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "mask_heads.json"
BUNDLE = "camus-4ch"
GRAPH_STEPS, DIFFUSION_STEPS = 400, 400

Json = dict[str, Any]


class Study:
    """Everything that both heads share.

    Args:
        data: Folder of CAMUS.
        work: Folder of views and trained heads.
    """

    def __init__(self, data: Path, work: Path) -> None:
        self.data, self.work = data, work
        self.bundle: Bundle = read_bundle(find_bundle(BUNDLE))
        self.network = FeatureNetwork(self.bundle)
        self.train, self.val = (self._keep(part) for part in ("train", "val"))
        self.graph = train_graph(work / "graph.safetensors", self.train, steps=GRAPH_STEPS,
                                 batch=16)  # fmt: skip
        self.diffusion = train_diffusion(
            work / "diffusion.safetensors", self.train, steps=DIFFUSION_STEPS, batch=12
        )

    def _keep(self, part: str) -> Views:
        mild, strong = (read_recipe(name).augment for name in ("camus", "camus-robust-2"))
        kinds = [None, mild, mild, mild] if part == "train" else [None]
        cases = list_part(self.bundle, self.data, part)
        spoilt = [strong] * (4 if part == "train" else 3)
        return keep_views(
            self.work / "views" / part, self.network, cases, self.bundle.spec, [*kinds, *spoilt]
        )


def describe_scores(scored: list[Scored], beside: list[Scored]) -> Json:
    """Means over cases with paired differences and their intervals over patients.

    Args:
        scored: Of a head.
        beside: Of the network alone, the same cases.
    """
    patients = [each.result.patient_id for each in scored]
    found: Json = {}
    for name in scored[0].result.structures:
        own = {}
        for metric in ("dice", "hd95_mm"):
            values, others = (
                [getattr(each.result.structures[name], metric) for each in side]
                for side in (scored, beside)
            )
            pairs = [
                None if a is None or b is None or not np.isfinite([a, b]).all() else a - b
                for a, b in zip(values, others, strict=True)
            ]
            change = mean_interval(pairs, patients)
            own[metric] = {
                "mean": mean_interval(values, patients).mean,
                "change": [change.mean, change.low, change.high],
            }
        own["turns"] = _mean_turns(scored, name)
        found[name] = own
    return found


def _mean_turns(scored: list[Scored], name: str) -> Json:
    """Mean turns of the outlines of a structure, drawn and true."""
    value = list(scored[0].result.structures).index(name) + 1
    return {
        side: float(np.mean([
            turns for each in scored
            if (turns := find_turns(getattr(each, side) == value)) is not None
        ]))
        for side in ("labels", "truth")
    }  # fmt: skip


def count_bytes(scored: list[Scored]) -> Json:
    """Median bytes of contours and of label maps of the same images."""
    contours = []
    for each in scored:
        rings = [ring for ring in trace_labels(each.labels) if ring is not None]
        contours.append(count_contour_bytes(rings))
    masks = [count_mask_bytes(each.labels) for each in scored]
    return {"contours": float(np.median(contours)), "masks": float(np.median(masks))}


def score_test(study: Study, changes: Mapping[str, Change | None]) -> Json:
    """Score the network and each head on test images on their own grid; one look each."""
    cases = list_part(study.bundle, study.data, "test")
    found: Json = {}
    network: list[Scored] = []
    for name, change in changes.items():
        segmenter = open_with_head(study.bundle, change)
        scored = score_cases(segmenter, cases)
        segmenter.session.close()
        network = network or scored
        found[name] = describe_scores(scored, network) | {"bytes": count_bytes(scored)}
        dice = {
            label: own["dice"]["mean"] for label, own in found[name].items() if label != "bytes"
        }
        record_look(find_ledger(HERE), study.bundle, what=f"mask_heads, {name}",
                    cases=len(cases), dice=dice)  # fmt: skip
    return found


def score_spread(study: Study, settings: Json) -> Json:
    """Each predictor of the Dice of the network's masks on test images; one look."""
    segmenter = open_with_head(study.bundle, None)
    cases = list_part(study.bundle, study.data, "test")
    found = predict_spoilt(study.bundle, segmenter, study.network, study.diffusion, cases, settings)
    dice = found["dice"]
    names = [label.name for label in study.bundle.spec.labels]
    means = np.nanmean(dice[found["clean"]], axis=0).tolist()
    record_look(find_ledger(HERE), study.bundle, what="mask_heads, spread of draws",
                cases=len(cases), dice=dict(zip(names, means, strict=True)))  # fmt: skip
    return {
        name: dict(zip(PREDICTORS, measure_predictors(
            dice[:, place], found["clean"], found["predicted"][:, :, place]
        ), strict=True))
        for place, name in enumerate(names)
    }  # fmt: skip


def time_all(study: Study, settings: Json) -> Json:
    """Times of all parts in both precisions."""
    case = list_part(study.bundle, study.data, "val")[0]
    segmenter = open_with_head(study.bundle, None)
    values = tuple(label.value for label in study.bundle.spec.labels)
    segmenter.segment_sequence(read_case(case, values)[0].sequence)
    example = segmenter.pipeline.seen[0]
    return {
        precision: time_heads(
            study.network, study.graph, study.diffusion, example,
            samples=settings["samples"], precision=precision,
        )
        for precision in ("f32", "bf16")
    } | {"machine": describe_processor()}  # fmt: skip


def run_stage(study: Study, stage: str, results: Json) -> Any:
    """Work out one part of the results."""
    settings = results.get("settings")
    if stage == "validation":
        return score_views(study.val, study.graph, study.diffusion, results["settings"])
    if stage == "settings":
        return choose_draws(study.val, study.diffusion)
    if stage == "test":
        changes: dict[str, Change | None] = {
            "network": None,
            "graph head": change_by_graph(study.network, study.graph),
            "diffusion head": change_by_diffusion(
                study.network, study.diffusion, settings["chosen"]
            ),
        }
        return score_test(study, changes)
    if stage == "spread":
        return score_spread(study, settings["chosen"])
    return time_all(study, settings["chosen"])


STAGES = ("settings", "validation", "test", "spread", "times")


def main() -> None:
    """Work out the stages asked for, and write the page once all are there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stages", nargs="*", choices=STAGES, help="worked out anew")
    parser.add_argument("--data", type=Path, required=True, help="folder of CAMUS")
    parser.add_argument("--work", type=Path, required=True, help="folder of views and heads")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results: Json = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if arguments.stages:
        study = Study(arguments.data, arguments.work)
        results["parameters"] = {
            "graph": count_parameters(study.graph), "diffusion": count_parameters(study.diffusion)
        }  # fmt: skip
        results["steps"] = {"graph": GRAPH_STEPS, "diffusion": DIFFUSION_STEPS}
        for stage in arguments.stages:
            results[stage] = run_stage(study, stage, results)
            print(stage, json.dumps(results[stage], indent=1), flush=True)
            write_text(RESULTS, json.dumps(results, indent=1) + "\n")
    if all(stage in results for stage in STAGES):
        write_text(HERE / "mask_heads.md", format_page(results))


if __name__ == "__main__":
    main()
