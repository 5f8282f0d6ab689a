"""`bedside recipe`: a first recipe for a data set."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bedside.cli.arguments import option, positional
from bedside.cli.console import print_err, print_out, table
from bedside.errors import UsageError

if TYPE_CHECKING:
    from bedside.planning import RecipePlan, Survey

_FEW = 10
_MOST_APART = 3


@dataclass(frozen=True)
class Settings:
    """Survey a data set and write a recipe for `bedside train`.

    With --list, print the recipes that come with the package; a name stands for the file.
    """

    data: Path | None = positional(help="folder of the data set", default=None)
    output: Path | None = option(help="recipe to write, NAME.toml", short="-o", default=None)
    list: bool = option(help="print the shipped recipes, and nothing else", default=False)
    layout: str | None = option(
        help="layout of the folder, such as folder or msd (default: detected)", default=None
    )
    name: str | None = option(help="name of the bundle (default: that of the folder)", default=None)
    model: str = option(
        help="size of the network, and whether it is of convolutions alone",
        default="tiny-conv",
        choices=(
            "nano",
            "tiny",
            "small",
            "base",
            "nano-conv",
            "tiny-conv",
            "small-conv",
            "base-conv",
        ),
    )
    spatial_dims: int | None = option(
        help="2 for scans slice by slice, 3 for whole scans (default: by their spacing)",
        default=None,
        choices=(2, 3),
    )
    modality: str | None = option(
        help="modality in DICOM terms, such as US, MR or CT (default: guessed)", default=None
    )


def run(settings: Settings) -> int:
    """Survey the data, choose a recipe, write it, and print what was found and chosen.

    Raises:
        UsageError: If the output is no `.toml` file, is there already, or cannot be written.
        DataError: If the data set is faulty, or too small for its split.
    """
    if settings.list:
        return _list_shipped()
    data, output = settings.data, settings.output
    if data is None or output is None:
        raise UsageError("name the data set's folder, and the recipe with -o; or pass --list.")
    if output.suffix != ".toml":
        raise UsageError(f"{output} must end in .toml; name it so with -o.")
    if output.exists():
        raise UsageError(
            f"{output} is there already, perhaps with changes of yours. "
            "Choose another -o, or remove it."
        )
    from bedside.planning import Wishes, choose_recipe, survey_data, to_toml
    from bedside.spec import read_recipe
    from bedside.system.atomic import output_folder, write_text

    with output_folder(output.parent):
        print_err(f"looking at {data} ...")
        survey = survey_data(data, layout=settings.layout, spatial_dims=settings.spatial_dims)
        modality = settings.modality and settings.modality.upper()
        plan = choose_recipe(survey, Wishes(settings.name, settings.model, modality))
        write_text(output, to_toml(plan, survey))
        read_recipe(output)
        for line in (*_seen(survey), *_chosen(plan), *_notes(survey, plan)):
            print_out(line)
        print_out(f"Written: {output}")
        print_out(f"Next: bedside train {output} -o runs/{plan.recipe.deployment.name}")
        return 0


def _list_shipped() -> int:
    """Print the shipped recipes: name, axes, data set."""
    from bedside.spec import read_recipe, shipped_recipes

    rows = [("recipe", "data set", "network", "licence of the data")]
    for path in shipped_recipes():
        recipe = read_recipe(path)
        network = f"{recipe.deployment.model.spatial_dims}D, {recipe.deployment.input.modality}"
        rows.append((path.stem, recipe.data.name, network, recipe.data.license))
    for line in table(rows):
        print_out(line)
    return 0


def _seen(survey: "Survey") -> list[str]:
    """Lines about the data set."""
    size = " x ".join(map(str, survey.size_px))
    colour = "colour" if survey.coloured else "grey"
    of = "slices or frames" if survey.frames > 1 else "frame"
    lines = [
        f"Saw     {survey.cases} cases of {survey.patients} patients, layout {survey.layout}",
        f"        {size} {'voxels' if survey.spatial_dims == 3 else 'pixels'} in the median, "
        f"{colour}, "
        f"{_channels(survey.channels)}, "
        f"{survey.frames} {of} a case ({survey.images} looked at)",
    ]
    if survey.spacing_mm:
        lines.append(f"        {' x '.join(f'{mm:g}' for mm in survey.spacing_mm)} mm a voxel")
    for structure in survey.structures:
        values = [value for value, label in survey.relabel.items() if label == structure.value]
        held = f"value {values[0] if values else structure.value}"
        pieces = "in one piece" if structure.single else "in several pieces"
        lines.append(
            f"        label {structure.value} ({structure.name or 'no name'}): {held}, "
            f"in {structure.masks} of {survey.masks} masks, {pieces}"
        )
    return lines


def _chosen(plan: "RecipePlan") -> list[str]:
    """Lines about the choices."""
    from bedside.spec import to_mapping

    recipe, deployment = plan.recipe, plan.recipe.deployment
    size = " x ".join(map(str, deployment.input.size_px))
    training = recipe.training
    steps = {
        kind: ", ".join(step["step"] for step in to_mapping(getattr(deployment, kind)))
        for kind in ("preprocess", "postprocess")
    }
    return [
        f"Chose   modality {deployment.input.modality}" + (", a guess" if plan.guessed else ""),
        f"        input {size}, {_channels(deployment.input.channels)}; network {plan.model} "
        f"with {deployment.model.spatial_dims} axes",
        f"        before it: {steps['preprocess']}; after it: {steps['postprocess'] or 'nothing'}",
        f"        {training.epochs} epochs, batches of {training.batch_size}, split "
        + " / ".join(f"{share:g}" for share in recipe.data.split),
        *(
            f"        {value} in the masks is label {label}"
            for value, label in recipe.data.relabel.items()
        ),
    ]


def _channels(count: int) -> str:
    return f"{count} channel" + ("s" if count > 1 else "")


def _notes(survey: "Survey", plan: "RecipePlan") -> list[str]:
    """Lines about what to check before training."""
    from bedside.planning.choose import UNKNOWN

    notes = []
    if plan.guessed and plan.recipe.deployment.input.modality == "OT":
        notes.append("Note: the modality is unknown. Pass --modality US, MR, CT or another.")
    tested = round(plan.recipe.data.split[2] * survey.patients)
    if tested < _FEW:
        notes.append(
            f"Note: {tested} test patients are few; more patients help more than more images."
        )
    if survey.layout == "folder" and survey.patients == survey.cases > 1:
        notes.append(
            "Note: each image counts as one patient. If two are of one person, put the "
            "person in front of the first underscore: anna_1.png, anna_2.png."
        )
    if survey.turned:
        notes.append(
            f"Note: {survey.turned} of {survey.images} images looked at are to be turned by their "
            "EXIF, and are taken as stored. If their masks were drawn on turned images, save the "
            "images turned."
        )
    if survey.apart:
        notes.append(_describe_apart(survey))
    if UNKNOWN in (plan.recipe.data.license, plan.recipe.data.source):
        notes.append("Note: fill in source and license, in [data], before you share a bundle.")
    return notes


def _describe_apart(survey: "Survey") -> str:
    """Return a note of values of which no mask holds two."""
    shown = [
        f"{', '.join(map(str, group.values))} in {group.masks} (such as {group.example})"
        for group in survey.apart[:_MOST_APART]
    ]
    if len(survey.apart) > _MOST_APART:
        shown.append(f"{len(survey.apart) - _MOST_APART} more")
    return (
        f"Note: values of {survey.masks} masks that never occur in one: {' and '.join(shown)}. "
        "Each becomes a label of its own. If it is one structure that was saved in two ways, as 1 "
        "and as 255, save all masks in one way, and write the recipe anew."
    )
