"""A bundle as a finished run: to train its network further, or to let it teach."""

import dataclasses
import json
from pathlib import Path

from bedside.bundle import Bundle
from bedside.datasets import list_recipe_cases
from bedside.errors import OutputError, SpecError
from bedside.export.folder import written_folder
from bedside.export.rebuild import rebuild_network, restore_statistics
from bedside.spec import Recipe, to_mapping
from bedside.system.atomic import write_text
from bedside.training.calibration import draw_calibration
from bedside.training.checkpoint import save_tensors
from bedside.training.folder import RUN, WEIGHTS, select_cases
from bedside.version import __version__

_IMAGES = 96
"""Training images that the statistics of batch norms are taken from."""


def unpack_bundle(
    bundle: Bundle, recipe: Recipe, output: Path, *, data: Path | None = None
) -> Path:
    """Write the network of a bundle as a finished run.

    Args:
        bundle: Any bundle that `bedside build` made.
        recipe: What it was trained by; the deployment is the bundle's own.
        output: Run folder, which must not be there.
        data: Folder of the data set, if not the recipe's.

    Returns:
        The path of the weights.

    Raises:
        SpecError: If the bundle has random weights, or the recipe is of other labels or data.
        ExportError: If its graph is not of the network that its spec describes.
        DataError: If the data set is not there, or has none of its training patients.
        OutputError: If the folder is there already, or cannot be written.
    """
    card = bundle.card
    if card.untrained:
        raise SpecError(f"{bundle.path} holds random weights; there is nothing to train further.")
    if recipe.deployment.labels != bundle.spec.labels or recipe.data.name != card.data:
        raise SpecError(
            f"the recipe of {recipe.deployment.name} has other labels or data than {bundle.path}; "
            "give the one that it was trained by."
        )
    if output.exists():
        raise OutputError(f"{output} is there already. Choose another -o, or remove it.")
    training = dataclasses.replace(recipe.training, epochs=max(1, card.epochs), seed=card.seed)
    recipe = dataclasses.replace(recipe, deployment=bundle.spec, distill=None, training=training)
    cases = select_cases(list_recipe_cases(recipe, data), tuple(bundle.split["train"]))
    images = draw_calibration(cases, bundle.spec, count=_IMAGES)
    network = restore_statistics(rebuild_network(bundle), images)
    record = {
        "recipe": to_mapping(recipe),
        "split": to_mapping(bundle.split),
        "network": bundle.spec.model.architecture,
        "parameters": card.parameters,
        "teachers": [],
        "bundle": f"{bundle.spec.name} {bundle.spec.version}, sha256 {bundle.sha256}",
        "commit": card.commit,
        "bedside": __version__,
    }
    with written_folder(output, marker=RUN) as folder:
        write_text(folder / RUN, json.dumps(record, indent=1))
        save_tensors(folder / WEIGHTS, network.weights)
    return output / WEIGHTS
