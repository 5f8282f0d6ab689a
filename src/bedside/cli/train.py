"""`bedside train`: a recipe and a data set in, a run folder with weights out; or several."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bedside.cli.arguments import option, positional
from bedside.cli.console import print_out, table
from bedside.errors import BackendError, install_command

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from bedside.spec import Recipe
    from bedside.training.run import Progress

    Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Settings:
    """Train from a recipe, or resume the training.

    With --seeds or --folds several trainings of it, each in a run folder of its own, and a
    summary. Started by `torchrun -m bedside train ...`, several processes train together.
    """

    recipe: Path = positional(help="the recipe, a TOML file or the name of a shipped one")
    output: Path = option(help="run folder for log, curves and weights", short="-o")
    data: Path | None = option(help="folder of the data set (default: the recipe's)", default=None)
    threads: int | None = option(help="threads of torch (default: torch's choice)", default=None)
    cache: Path | None = option(
        help="folder to cache preprocessed cases in (default: none)", default=None
    )
    seeds: tuple[int, ...] = option(
        help="train once with each of these seeds, into OUTPUT/seed-N", default=()
    )
    folds: int = option(
        help="number of folds for cross-validation, into OUTPUT/fold-N-seed-N; 0 for none",
        default=0,
    )
    teacher: tuple[Path, ...] = option(
        help="run folders of the teachers (default: the recipe's)", default=()
    )


def run(settings: Settings) -> int:
    """Train, with a bar and a line an epoch on stderr.

    Raises:
        BackendError: If torch is not installed.
        SpecError: If the recipe is faulty, or the folder holds a run of another one.
        DataError: If the data set is faulty or its split leaks.
        OutputError: If the run folder cannot be written to.
    """
    check_torch("train")
    from bedside.training.parallel import is_first

    recipe = _read_recipe(settings)
    several = bool(settings.seeds or settings.folds)
    lines = _train_several(settings, recipe) if several else _train_one(settings, recipe)
    if is_first():
        for line in lines:
            print_out(line)
    return 0


def check_torch(verb: str) -> None:
    """Make sure that torch, which only the model way needs, is installed.

    Raises:
        BackendError: If it is not.
    """
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        raise BackendError(
            f"bedside {verb} needs torch, which is not installed. Install it with: "
            f"{install_command('train')}."
        )


def _read_recipe(settings: Settings) -> "Recipe":
    """Read the recipe, with the teachers of the command line in the place of its own."""
    from bedside.spec import DistillSpec, read_recipe

    recipe = read_recipe(settings.recipe)
    if not settings.teacher:
        return recipe
    teachers = tuple(str(teacher) for teacher in settings.teacher)
    if recipe.distill is None:
        return replace(recipe, distill=DistillSpec(teachers))
    return replace(recipe, distill=replace(recipe.distill, teacher=teachers))


def _train_one(settings: Settings, recipe: "Recipe") -> list[str]:
    """Train once; say what to do next."""
    from bedside.training.checkpoint import read_json
    from bedside.training.run import RUN, train

    with reports() as report:
        weights = train(
            recipe,
            settings.output,
            data=settings.data,
            cache=settings.cache,
            threads=settings.threads,
            on_progress=report(""),
        )
    build = f"bedside build {settings.output} -o {recipe.deployment.name}.bedside"
    joined = [f"Split: {text}" for text in read_json(settings.output / RUN).get("joined", ())]
    return [*joined, f"Trained: {weights}", f"Next: {build}"]


def _train_several(settings: Settings, recipe: "Recipe") -> list[str]:
    """Train each seed and fold; sum up what they say of each structure."""
    from bedside.training.series import list_members, read_spread, train_series

    members = list_members(recipe, seeds=settings.seeds, folds=settings.folds)
    with reports() as report:
        summary = train_series(
            members,
            settings.output,
            data=settings.data,
            cache=settings.cache,
            threads=settings.threads,
            on_progress=lambda member, progress: report(f"{member.name} ")(progress),
        )
    spread = read_spread(summary)
    rows = [("validation Dice", "mean", "lowest", "highest")] + [
        (name, *(f"{value:.4f}" for value in (dice.mean, dice.low, dice.high)))
        for name, dice in spread.items()
    ]
    return [f"Trained: {len(members)} runs in {settings.output}", *table(rows), f"See {summary}"]


@contextlib.contextmanager
def reports() -> "Iterator[Callable[[str], Report]]":
    """Show bars on stderr, and the log's lines above them; of several processes, the first's.

    Yields:
        Makes a function that shows the progress of one training, from a name for it.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from bedside.training.parallel import is_first

    if not is_first():
        yield lambda name: lambda progress: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, TaskID] = {}
        yield lambda name: lambda progress: _show(bar, tasks, name, progress)


def _show(bar: "Bar", tasks: "dict[str, TaskID]", name: str, progress: "Progress") -> None:
    """Move the bar of a stage, and print the log's latest line."""
    stage = name + progress.stage
    if stage not in tasks:
        tasks[stage] = bar.add_task(stage, total=None)
    bar.update(tasks[stage], completed=progress.done, total=progress.total)
    if progress.record:
        cells = [f"{key} {_short(value)}" for key, value in progress.record.items()]
        bar.console.print("  ".join(cells), highlight=False, markup=False)


def _short(value: object) -> str:
    if isinstance(value, list | tuple):
        return "/".join(map(_short, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
