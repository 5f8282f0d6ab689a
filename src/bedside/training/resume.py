"""What a training keeps after each epoch, and goes on from."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bedside.spec import Label
from bedside.system.atomic import write_text
from bedside.training.checkpoint import (
    load_tensors,
    optimizer_tensors,
    restore_optimizer,
    save_tensors,
)
from bedside.training.curves import write_curves
from bedside.training.folder import CHECKPOINT, CURVES, LOG
from bedside.training.loop import Trainer

Log = list[dict[str, Any]]


def save_progress(output: Path, trainer: Trainer, log: Log, labels: Sequence[Label]) -> None:
    """Write the checkpoint, from which the run goes on, then the log and its curves.

    Args:
        output: The run folder.
        trainer: The training after an epoch.
        log: A record of each epoch.
        labels: The structures, for the curves.
    """
    tensors = trainer.tensors() | optimizer_tensors(trainer.optimizer)
    note = json.dumps({"log": log, "step": trainer.step})
    save_tensors(output / CHECKPOINT, tensors, note=note)
    write_text(output / LOG, "".join(json.dumps(record) + "\n" for record in log))
    write_curves(output / CURVES, log, labels)


def resume(output: Path, trainer: Trainer) -> Log:
    """Restore the checkpoint of a run folder, if there is one.

    Args:
        output: The run folder.
        trainer: The training, which is set to where the checkpoint was.

    Returns:
        The records of the epochs that are done.
    """
    path = output / CHECKPOINT
    if not path.exists():
        return []
    tensors, note = load_tensors(path)
    state = json.loads(note)
    trainer.restore(tensors, step=state["step"])
    restore_optimizer(trainer.optimizer, tensors)
    log: Log = state["log"]
    return log
