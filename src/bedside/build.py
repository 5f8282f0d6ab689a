"""THE MODEL WAY in one screen: a finished run in, one deployable bundle out.

weights -> f32 graph (checked against torch) -> int8 graph -> each backend and precision measured
on validation patients -> accuracy measured once on test patients -> bundle
"""

import datetime
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from bedside.bundle import read_bundle, write_bundle
from bedside.compression.accuracy_aware import MixedGraph, quantize_int8_accuracy_aware
from bedside.compression.quantize import quantize_int8
from bedside.datasets import Case, list_recipe_cases
from bedside.datasets.duplicates import leave_out_leaks
from bedside.errors import DataError
from bedside.evaluation.accuracy import state_accuracy, state_robustness
from bedside.evaluation.cases import evaluate_cases
from bedside.evaluation.certification import certify
from bedside.evaluation.gating import FEWEST_IMAGES, fit_gate
from bedside.evaluation.looks import describe_looks, find_ledger, record_look
from bedside.evaluation.robustness import evaluate_robustness
from bedside.export.metadata import with_metadata
from bedside.export.onnx import export_onnx
from bedside.models import count_parameters, create
from bedside.runtime import default_threads, open_graph
from bedside.segment import Segmenter
from bedside.spec import Card, PrecisionResult, Recipe, from_mapping
from bedside.spec.gate import Gate
from bedside.system.atomic import written_atomically
from bedside.training.calibration import draw_calibration
from bedside.training.checkpoint import load_tensors, read_json
from bedside.training.folder import check_draws
from bedside.training.run import RUN, WEIGHTS, select_cases


@dataclass(frozen=True)
class FinishedRun:
    """A finished training run.

    Attributes:
        recipe: The recipe it followed.
        split: Patients of each part.
        commit: Revision of the code that trained it.
        cases: The data set's cases.
        compression: Compression steps after training, in sentences.
        left_out: Cases that were left out, since another part has their image, in sentences.
    """

    recipe: Recipe
    split: dict[str, tuple[str, ...]]
    commit: str
    cases: list[Case]
    compression: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def part(self, name: str) -> list[Case]:
        """List the cases of one part.

        Raises:
            DataError: If the run has no such part, or the data set none of its patients.
        """
        if not self.split[name]:
            raise DataError(
                f'this run has no "{name}" patients: data.split of its recipe is '
                f"{list(self.recipe.data.split)}. A bundle needs all three parts."
            )
        chosen = select_cases(self.cases, self.split[name])
        if not chosen:
            raise DataError(f'the data set has none of the "{name}" patients of this run.')
        return chosen


def build_bundle(
    run: Path,
    output: Path,
    *,
    data: Path | None = None,
    limits: Sequence[str] = (),
    int8: bool | None = None,
    accuracy_aware: bool | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Path:
    """Turn a finished run into a bundle.

    Args:
        run: Folder that `bedside train` made.
        output: The bundle to write.
        data: Folder of the data set, if not the recipe's.
        limits: Sentences for the card about known limitations.
        int8: Whether a graph in 8 bits is added; None for the recipe's setting.
        accuracy_aware: Whether some layers may stay in f32 where 8 bits throughout lose too
            much; None for the recipe's setting.
        on_stage: Called with a description of each stage.

    Returns:
        `output`.

    Raises:
        FormatError: If the run is not finished, or the ledger of looks is damaged.
        DataError: If the run has no test patients, or the data set none of them.
        ExportError: If a graph does not do what the model does.
    """
    finished = _open_with_test(run, data)
    recipe = finished.recipe
    model = create(recipe.deployment.model)
    model.load_state_dict(load_tensors(run / WEIGHTS)[0], strict=True)
    model.eval()
    shape = (1, recipe.deployment.input.channels, *recipe.deployment.input.size_px)
    on_stage("exporting and checking the f32 graph")
    graphs = {"f32": export_onnx(model, input_shape=shape)}
    if recipe.build.int8 if int8 is None else int8:
        on_stage("quantizing to 8 bits")
        graphs["int8"] = quantize_int8(graphs["f32"], read_calibration(finished))
    card = _blank_card(finished, model, shape)
    on_stage("measuring every backend and precision on the validation patients")
    precisions, passed = _certify(finished, card, graphs)
    if accuracy_aware is None:
        accuracy_aware = recipe.build.accuracy_aware
    if accuracy_aware and "int8" in graphs and "int8" not in passed:
        on_stage("8 bits lose too much: looking for the fewest layers to keep in f32")
        mixed = keep_layers_in_f32(finished, graphs["f32"])
        card = replace(card, compression=(*card.compression, describe_mixed(mixed)))
        graphs["int8"] = mixed.graph
        precisions, passed = _certify(finished, card, graphs)
    graphs = {name: graph for name, graph in graphs.items() if name in {"f32", *passed}}
    on_stage("measuring accuracy on the test patients")
    card = _state_test(finished, card, graphs["f32"])
    card = replace(card, precisions=precisions, limits=(*limits, *finished.left_out))
    on_stage("fitting the gate to the training images")
    on_stage(_write_recorded(output, finished, card, graphs))
    return output


def _open_with_test(run: Path, data: Path | None) -> FinishedRun:
    """Open a run whose test patients are there: they are scored last, after minutes."""
    finished = open_finished(run, data)
    finished.part("test")
    return finished


def _state_test(finished: FinishedRun, card: Card, graph: bytes) -> Card:
    """Card with the accuracy on the test patients, and what planted artefacts cost there."""
    cases = finished.part("test")
    session = open_graph(graph, backend="openvino", threads=default_threads())
    segmenter = Segmenter(finished.recipe.deployment, session)
    test = evaluate_cases(segmenter, cases)
    card = state_accuracy(card, test, split_unit=cases[0].split_unit)
    if not finished.recipe.build.robustness:
        return card
    return state_robustness(card, evaluate_robustness(segmenter, cases))


def _fit_gate(finished: FinishedRun, graph: bytes) -> Gate | None:
    """Gate of a network that takes frames; None for others, and for few training images."""
    train = finished.part("train")
    if finished.recipe.deployment.model.spatial_dims == 3 or len(train) < FEWEST_IMAGES:
        return None
    with open_graph(graph, backend="openvino", threads=default_threads()) as session:
        segmenter = Segmenter(finished.recipe.deployment, session)
        return fit_gate(segmenter, train, finished.part("val"))


def _write_recorded(
    output: Path, finished: FinishedRun, card: Card, graphs: dict[str, bytes]
) -> str:
    """Write the bundle and record that test patients were looked at; say how often they were.

    Raises:
        FormatError: If the ledger is damaged; no bundle is written then.
    """
    gate = _fit_gate(finished, graphs["f32"])
    # No figure of test patients is there before the ledger says that they were looked at.
    with written_atomically(output) as draft:
        _write(draft, finished, card, graphs, gate=gate)
        bundle, ledger = read_bundle(draft), find_ledger(output.parent)
        dice = {each.name: each.dice.mean for each in bundle.card.structures}
        looks = record_look(ledger, bundle, what="build", cases=bundle.card.test_cases, dice=dice)
    return describe_looks(looks, ledger)


def _certify(
    finished: FinishedRun, card: Card, graphs: dict[str, bytes]
) -> tuple[tuple[PrecisionResult, ...], set[str]]:
    """Certificates of a draft of the bundle, and the precisions that pass in some backend."""
    with tempfile.TemporaryDirectory() as scratch:
        draft = Path(scratch) / "draft.bedside"
        _write(draft, finished, card, graphs)
        max_drop = finished.recipe.build.max_dice_drop
        results = certify(read_bundle(draft), finished.part("val"), max_drop=max_drop)
    return results, {result.precision for result in results if result.passed}


def keep_layers_in_f32(finished: FinishedRun, graph: bytes) -> MixedGraph:
    """Quantize a run's f32 graph, but for the layers that its validation patients need in f32.

    Raises:
        ExportError: If a structure loses too much although every layer is in f32.
    """
    recipe, cases = finished.recipe, finished.part("val")

    def score(candidate: bytes) -> list[float]:
        session = open_graph(
            candidate, backend="openvino", precision="int8", threads=default_threads()
        )
        evaluation = evaluate_cases(Segmenter(recipe.deployment, session), cases)
        return [each.dice.mean or 0.0 for each in evaluation.structures]

    return quantize_int8_accuracy_aware(
        graph, read_calibration(finished), score, recipe.build.max_dice_drop
    )


def describe_mixed(mixed: MixedGraph) -> str:
    """Which layers stay in f32, for the card."""
    names = ", ".join(layer.name for layer in mixed.kept)
    return f"int8: {len(mixed.kept)} of {mixed.layers} layers stay in f32: {names}"


def build_untrained(recipe: Recipe, output: Path) -> Path:
    """Make a bundle of a recipe's network with random weights, to measure what it costs.

    Its card and every use of it state that.

    Args:
        recipe: Whose deployment is built; its data are not used.
        output: The bundle to write.

    Returns:
        `output`.

    Raises:
        ExportError: If the graph does not do what the model does.
    """
    torch.manual_seed(recipe.training.seed)
    model = create(recipe.deployment.model).eval()
    shape = (1, recipe.deployment.input.channels, *recipe.deployment.input.size_px)
    none: dict[str, tuple[str, ...]] = {"train": (), "val": (), "test": ()}
    unused = FinishedRun(recipe, none, commit="", cases=[])
    card = replace(
        _blank_card(unused, model, shape), untrained=True, epochs=0, data="none: random weights"
    )
    _write(output, unused, card, {"f32": export_onnx(model, input_shape=shape)})
    return output


def open_finished(run: Path, data: Path | None = None) -> FinishedRun:
    """Read the record of a finished run, and list the cases of its data set.

    Args:
        run: Folder that `bedside train` or `bedside compress` made.
        data: Folder of the data set, if not the recipe's.

    Raises:
        FormatError: If it is no such folder.
        SpecError: If it has learned from images without labels alone.
        DataError: If the data set is not there, or is laid out otherwise.
    """
    record = read_json(run / RUN)
    check_draws(run, record)
    recipe = from_mapping(Recipe, record["recipe"])
    split = {part: tuple(patients) for part, patients in record["split"].items()}
    cases, left_out = leave_out_leaks(list_recipe_cases(recipe, data), split)
    steps = (*_describe_start(record.get("start")), *record.get("compression", ()))
    return FinishedRun(recipe, split, record["commit"], cases, steps, left_out)


def _describe_start(start: Mapping[str, Any] | None) -> tuple[str, ...]:
    """What a network was trained further from, for the card."""
    if not start:
        return ()
    known = start.get("bundle") or f"weights with sha256 {start['weights_sha256'][:12]}"
    if start.get("unlabelled"):
        return (f"taught before by {start['unlabelled']} images without labels: {known}",)
    return (f"trained further from {start['name']}: {known}",)


def write_draft(
    path: Path, finished: FinishedRun, model: torch.nn.Module, graphs: dict[str, bytes]
) -> None:
    """Write a bundle whose card has no accuracy yet: for its size, or to measure with.

    Args:
        path: Where to write it.
        finished: The run, with the recipe of this network.
        model: The network.
        graphs: Its graphs by precision.
    """
    recipe = finished.recipe
    shape = (1, recipe.deployment.input.channels, *recipe.deployment.input.size_px)
    _write(path, finished, _blank_card(finished, model, shape), graphs)


def _write(
    path: Path,
    finished: FinishedRun,
    card: Card,
    graphs: dict[str, bytes],
    *,
    gate: Gate | None = None,
) -> None:
    spec, split = finished.recipe.deployment, finished.split
    described = {name: with_metadata(graph, spec) for name, graph in graphs.items()}
    write_bundle(path, spec=spec, card=card, graphs=described, split=split, gate=gate)


def read_calibration(finished: FinishedRun) -> list[np.ndarray]:
    """Draw training images, evenly over cases and their frames, as the network sees them."""
    recipe = finished.recipe
    return draw_calibration(
        finished.part("train"), recipe.deployment, count=recipe.build.calibration_images
    )


def _blank_card(finished: FinishedRun, model: Any, shape: tuple[int, ...]) -> Card:
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(torch.zeros(shape))
    recipe = finished.recipe
    patients = {case.patient_id for case in finished.cases}
    counts = [len(patients & set(finished.split[part])) for part in ("train", "val", "test")]
    return Card(
        data=recipe.data.name,
        source=recipe.data.source,
        license=recipe.data.license,
        relabel=recipe.data.relabel,
        patients=(counts[0], counts[1], counts[2]),
        test_cases=0,
        structures=(),
        precisions=(),
        parameters=count_parameters(model),
        gmac=round(counter.get_total_flops() / 2e9, 4),
        seed=recipe.training.seed,
        epochs=recipe.training.epochs,
        compression=finished.compression,
        commit=finished.commit,
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )
