"""`bedside train`: a recipe and a data set in, a run folder with weights out."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bedside.cli.arguments import option, positional
from bedside.cli.console import say
from bedside.errors import BackendError

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from bedside.training.run import Progress


@dataclass(frozen=True)
class Settings:
    """Train from a recipe; go on where a stopped training of the same recipe left off."""

    recipe: Path = positional(help="the recipe, a TOML file")
    output: Path = option(help="run folder, for log, curves and weights", short="-o")
    data: Path | None = option(help="folder of the data set (default: the recipe's)", default=None)
    threads: int | None = option(help="threads of torch (default: its choice)", default=None)


def run(settings: Settings) -> int:
    """Train, with a bar and a line an epoch on stderr.

    Raises:
        BackendError: If torch is not installed.
        SpecError: If the recipe is faulty, or the folder holds a run of another one.
        DataError: If the data set is faulty or its split leaks.
        OutputError: If the run folder cannot be written to.
    """
    check_torch("train")
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from bedside.spec import read_recipe
    from bedside.training.run import train

    recipe = read_recipe(settings.recipe)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        tasks = {stage: bar.add_task(stage, total=None) for stage in ("reading", "training")}
        weights = train(
            recipe,
            settings.output,
            data=settings.data,
            threads=settings.threads,
            on_progress=lambda progress: _show(bar, tasks, progress),
        )
    say(f"Trained: {weights}")
    say(f"Next: bedside build {settings.output} -o {recipe.deployment.name}.bedside")
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
            'pip install "bedside[train]".'
        )


def _show(bar: "Bar", tasks: "dict[str, TaskID]", progress: "Progress") -> None:
    """Move the bar of a stage, and print the log's latest line."""
    bar.update(tasks[progress.stage], completed=progress.done, total=progress.total)
    if progress.record:
        cells = [f"{key} {_short(value)}" for key, value in progress.record.items()]
        bar.console.print("  ".join(cells), highlight=False, markup=False)


def _short(value: object) -> str:
    if isinstance(value, list | tuple):
        return "/".join(map(_short, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
