"""Successive halving: short trainings, each round twice as long for the better half.

Each round's training is a short schedule of its own from fresh weights, and not the last one
continued: a schedule ends at a rate of zero, and what is compared are networks at their ends.
All start from the same seed and see the same batches.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import torch

from bedside.autopilot.evaluator import Candidate, CandidateEvaluator
from bedside.autopilot.finetune import FinetuneSetup, run_epochs
from bedside.autopilot.search.search_state import SearchFolder, SearchState, Trial, average_dice
from bedside.autopilot.search.selection import OnMessage
from bedside.models import TrainedNetwork, create
from bedside.spec import ModelSpec
from bedside.training.loop import Trainer


@dataclass
class SuccessiveHalving:
    """A search whose candidates are known and measured.

    Attributes:
        evaluator: Scores networks, and has the training images.
        folder: Where the search is kept.
        state: Where it stands.
        on_message: Called with a line for every training and decision.
    """

    evaluator: CandidateEvaluator
    folder: SearchFolder
    state: SearchState
    on_message: OnMessage = lambda line: None

    def run(self) -> SearchState:
        """Run until one candidate is left, or the rounds are over.

        Returns:
            The state at the end, with a winner.
        """
        while not self.state.winner:
            for trial in self.state.remaining:
                if len(trial.dice) <= self.state.rounds:
                    self._try(trial)
            self._close_round()
        return self.state

    def _try(self, trial: Trial) -> None:
        """Train a candidate for a round, and score it as it would run."""
        rounds, setup = self.state.rounds, plan_finetuning(self.evaluator.setup, self.state)
        name = f"{trial.number:03d}-{rounds + 1}"
        about = f"round {rounds + 1}, {trial.number} {trial.name}"
        checkpoint = self.folder.checkpoint(name)
        network = train_from_scratch(
            trial.spec, setup, checkpoint=checkpoint, on_message=self.on_message, about=about
        )
        self.folder.keep_network(name, network)
        score = self.evaluator.score(Candidate(network, self.state.precision))
        patients = score.by_patient().values()
        dice = {
            structure: mean(each[structure] for each in patients if structure in each)
            for structure in score.structures
        }
        self._replace(replace(trial, dice=(*trial.dice, dice)))
        checkpoint.unlink(missing_ok=True)
        self.folder.drop_network(f"{trial.number:03d}-{rounds}")
        self.on_message(f"{about}: Dice {average_dice(dice):.4f} at {trial.time_ms:.3f} ms")

    def _replace(self, *changed: Trial, **changes: object) -> None:
        """Replace candidates in the state, and write it."""
        by_number = {each.number: each for each in (*self.state.trials, *changed)}
        trials = tuple(by_number[each.number] for each in self.state.trials)
        self.state = replace(self.state, trials=trials, **changes)  # type: ignore[arg-type]
        self.folder.save_search(self.state)

    def _close_round(self) -> None:
        """Keep the better half, or only the best after the last round."""
        ranked, done = rank(self.state.remaining), self.state.rounds + 1
        keep = 1 if done >= self.state.effort.rounds else (len(ranked) + 1) // 2
        out = [
            replace(
                each,
                left=f"round {done}: Dice {each.mean_dice:.4f}, place {place} of {len(ranked)}",
            )
            for place, each in enumerate(ranked[keep:], keep + 1)
        ]
        winner = ranked[0].number if keep == 1 else 0
        epochs = (*self.state.epochs, plan_finetuning(self.evaluator.setup, self.state).epochs)
        self._replace(*out, rounds=done, epochs=epochs, winner=winner)
        names = ", ".join(f"{each.number} {each.name}" for each in ranked[:keep])
        self.on_message(f"round {done}: {keep} of {len(ranked)} are left: {names}")


def rank(trials: tuple[Trial, ...]) -> list[Trial]:
    """Order trained networks: the best Dice first, of equals the faster one."""
    return sorted(trials, key=lambda each: (-(each.mean_dice or 0.0), each.time_ms))


def count_epochs(state: SearchState, *, most: int) -> int:
    """Number of epochs of a training in the present round.

    Args:
        state: With the rounds that are done.
        most: Epochs of the recipe.
    """
    return min(most, state.effort.epochs << state.rounds)


def plan_finetuning(setup: FinetuneSetup, state: SearchState) -> FinetuneSetup:
    """Training of networks in the present round."""
    return replace(setup, epochs=count_epochs(state, most=setup.recipe.training.epochs))


def train_from_scratch(
    spec: ModelSpec, setup: FinetuneSetup, *, checkpoint: Path, on_message: OnMessage, about: str
) -> TrainedNetwork:
    """Train a network from fresh weights, or resume a stopped training.

    Args:
        spec: The network.
        setup: What it learns from, how long, and the seed of its weights.
        checkpoint: File that is kept while it lasts; the caller removes it.
        on_message: Called with a line after every epoch.
        about: What that line begins with.

    Returns:
        The network with averaged weights.
    """
    torch.manual_seed(setup.seed)
    recipe = setup.recipe.training
    training = replace(
        recipe,
        epochs=setup.epochs,
        learning_rate=setup.rate * recipe.learning_rate,
        batch_size=setup.batches.size,
        seed=setup.seed,
    )
    trainer = Trainer(
        create(spec), training, batches=setup.batches, task=setup.task(), device=setup.device
    )
    run_epochs(
        trainer,
        checkpoint=checkpoint,
        on_epoch=lambda done, resources: on_message(
            f"{about}: epoch {done} of {setup.epochs}, loss {resources['loss']:.4f}"
        ),
    )
    return TrainedNetwork.of(trainer.averaged(), spec)
