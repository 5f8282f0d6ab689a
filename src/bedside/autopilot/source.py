"""What is compressed: a finished run or a bundle, with its data, its split and its weights."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from bedside.build import FinishedRun, open_finished
from bedside.bundle import SUFFIX, Bundle, read_bundle
from bedside.datasets import list_recipe_cases
from bedside.datasets.duplicates import leave_out_leaks
from bedside.datasets.table import detect_layout
from bedside.errors import FormatError, SpecError
from bedside.export.rebuild import rebuild_network
from bedside.models import TrainedNetwork
from bedside.spec import SCHEMA_VERSION, DataSpec, Recipe, TrainingSpec, read_recipe
from bedside.training.checkpoint import load_tensors, read_json
from bedside.training.folder import RUN, WEIGHTS, hash_file

# Training settings for a bundle without a recipe.
_TRAINING = TrainingSpec(batch_size=8, learning_rate=2e-3)


@dataclass(frozen=True)
class Source:
    """A trained network, with what is needed to finetune and to judge it.

    Attributes:
        path: Where it was read from.
        sha256: Hash of its weights, or of the bundle.
        finished: Its recipe, split and cases.
        network: The network.
        from_bundle: Whether it was taken out of a bundle; its norms then know no statistics.
    """

    path: Path
    sha256: str
    finished: FinishedRun
    network: TrainedNetwork
    from_bundle: bool

    @property
    def about(self) -> str:
        """The source in words.

        Example:
            >>> from unittest.mock import sentinel
            >>> Source(Path("runs/a"), "0123456789abcdef", sentinel, sentinel, True).about
            'the bundle a, sha256 0123456789ab'
        """
        kind = "bundle" if self.from_bundle else "run"
        return f"the {kind} {self.path.name}, sha256 {self.sha256[:12]}"

    def with_network(self, network: TrainedNetwork) -> FinishedRun:
        """Return the run as if it had trained another network."""
        return describe(self.finished, network)


def describe(finished: FinishedRun, network: TrainedNetwork) -> FinishedRun:
    """Run with another network's spec."""
    deployment = dataclasses.replace(finished.recipe.deployment, model=network.spec)
    recipe = dataclasses.replace(finished.recipe, deployment=deployment)
    return dataclasses.replace(finished, recipe=recipe)


def open_source(path: Path, data: Path | None = None, recipe: Path | None = None) -> Source:
    """Open what is to be compressed.

    Args:
        path: Folder of a finished run, or a bundle.
        data: Folder of the data set; a recipe names one itself.
        recipe: Recipe to finetune a bundle by; a run has its own.

    Raises:
        FormatError: If it is neither, or the run is not finished.
        BundleError: If the bundle is damaged.
        SpecError: If the run is of a network that cannot be rebuilt, a bundle comes without
            its data, or the recipe is faulty or not for a bundle's labels and input.
        DataError: If the data set is not there, or has none of the patients of a part.
    """
    if path.suffix == SUFFIX:
        source = _open_bundle(path, data, None if recipe is None else read_recipe(recipe))
    elif recipe is None:
        source = _open_run(path, data)
    else:
        raise SpecError(f"{path} is a run, which has its own recipe. Leave --recipe out.")
    for part in ("train", "val", "test"):
        source.finished.part(part)
    return source


def _open_run(path: Path, data: Path | None) -> Source:
    if not (path / RUN).exists():
        raise FormatError(
            f"{path} is no run: it has no {RUN}. Give a folder that `bedside train` made, or a "
            f"bundle, NAME{SUFFIX}."
        )
    if not (path / WEIGHTS).exists():
        raise FormatError(f"the run {path} is not finished. Train it to its end first.")
    record, finished = read_json(path / RUN), open_finished(path, data)
    spec = finished.recipe.deployment.model
    name = record.get("network", spec.architecture)
    if name != spec.architecture:
        raise SpecError(f"the run {path} is of a {name}, which no spec can rebuild.")
    network = TrainedNetwork(spec, load_tensors(path / WEIGHTS)[0])
    return Source(path, hash_file(path / WEIGHTS), finished, network, from_bundle=False)


def _open_bundle(path: Path, data: Path | None, recipe: Recipe | None) -> Source:
    bundle = read_bundle(path)
    card = bundle.card
    if card.untrained:
        raise SpecError(f"{path} holds random weights; there is nothing in it to be kept.")
    if recipe is None:
        recipe = _guess_recipe(bundle, data)
    else:
        _check_fits(recipe, bundle)
        # The bundle itself is the teacher; see `compress`.
        recipe = dataclasses.replace(recipe, deployment=bundle.spec, distill=None)
    cases, left_out = leave_out_leaks(list_recipe_cases(recipe, data), bundle.split)
    finished = FinishedRun(
        recipe,
        {part: tuple(patients) for part, patients in bundle.split.items()},
        card.commit,
        cases,
        compression=card.compression,
        left_out=left_out,
    )
    return Source(path, bundle.sha256, finished, rebuild_network(bundle), from_bundle=True)


def _guess_recipe(bundle: Bundle, data: Path | None) -> Recipe:
    """Recipe to finetune a network by, if only its bundle is there."""
    if data is None:
        raise SpecError(
            f"{bundle.path} is a bundle, which does not hold its data. Name them with --data, or "
            "the recipe that it was trained by with --recipe."
        )
    card = bundle.card
    return Recipe(
        schema_version=SCHEMA_VERSION,
        deployment=bundle.spec,
        data=DataSpec(
            name=card.data,
            layout=detect_layout(data),
            path=str(data),
            source=card.source,
            license=card.license,
            relabel=card.relabel,
        ),
        training=dataclasses.replace(_TRAINING, epochs=max(1, card.epochs), seed=card.seed),
    )


def _check_fits(recipe: Recipe, bundle: Bundle) -> None:
    """Refuse a recipe of another task.

    Raises:
        SpecError: If labels or channels differ.
    """
    theirs, ours = recipe.deployment, bundle.spec
    if theirs.labels != ours.labels or theirs.input.channels != ours.input.channels:
        raise SpecError(
            f"the recipe of {theirs.name} has other labels or channels than {bundle.path}; give "
            "the one that it was trained by."
        )
