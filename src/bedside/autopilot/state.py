"""State of a compression run on disk.

`state.json` holds all measurements and decisions; networks lie beside it as safetensors with their
spec. It is written after every measurement and decision, whole or not at all, so that a stopped run
resumes from the last of them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from bedside.autopilot.noninferiority import NoninferiorityResult
from bedside.autopilot.scoring import Score
from bedside.autopilot.target import CompressionSettings, Target
from bedside.errors import FormatError, UsageError
from bedside.models import TrainedNetwork
from bedside.spec import ModelSpec, from_mapping, to_mapping
from bedside.system.atomic import write_text
from bedside.training.checkpoint import load_tensors, read_json, save_tensors

STATE, NETWORKS, FINETUNING = "state.json", "networks", "finetuning.safetensors"
_SCHEMA = 1

_State = TypeVar("_State")


@dataclass(frozen=True)
class Accuracy:
    """How well a network does on some patients, structure by structure.

    Attributes:
        dice: Mean Dice.
        hd95_mm: Mean HD95 in mm; None where it is not known.
        smallest_recall: How much of the smallest parts is found; None without any.
    """

    dice: Mapping[str, float]
    hd95_mm: Mapping[str, float | None]
    smallest_recall: Mapping[str, float | None]

    @classmethod
    def of(cls, score: Score) -> "Accuracy":
        """Sum a score up."""
        return cls(score.mean_dice(), score.mean_hd95_mm(), score.smallest_recall())

    @property
    def mean_dice(self) -> float:
        """Mean Dice over structures."""
        return sum(self.dice.values()) / len(self.dice)


@dataclass(frozen=True)
class Metrics:
    """Measurements of a network.

    Attributes:
        ms: Time of a call, by the source's clock: measured beside the source, and scaled to
            what the source took at the beginning.
        size_bytes: Size of the bundle it would make.
        parameters: Number of weights.
        accuracy: On the validation patients.
    """

    ms: float
    size_bytes: int
    parameters: int
    accuracy: Accuracy


@dataclass(frozen=True)
class TestResult:
    """Results on the test patients.

    Attributes:
        source: Accuracy of the source, in f32.
        result: Accuracy of the result, as it is computed.
        comparisons: What is known of the loss of each structure.
        patients: How many there are.
    """

    __test__ = False

    source: Accuracy
    result: Accuracy
    comparisons: tuple[NoninferiorityResult, ...]
    patients: int


@dataclass(frozen=True)
class Step:
    """One step, kept or undone.

    Attributes:
        number: From 1.
        kind: Its kind; a key of the table of steps.
        about: What it does, in words.
        precision: How the network is computed after it.
        predicted_ms: Its time by the table of blocks; None if that does not change.
        metrics: What was measured; None where it was undone before it was judged.
        before_ms: Time of the network before it, in the same run.
        raw_ms: Its own time in that run, before finetuning.
        comparisons: What is known of the loss of each structure.
        kept: Whether the run continues from it.
        reason: Why it was undone, or what it gains.
        seconds: Time that it took.
        finetuned: Whether it was trained on before it was judged for good.
    """

    number: int
    kind: str
    about: str
    precision: str
    predicted_ms: float | None
    before_ms: float
    raw_ms: float
    kept: bool
    reason: str
    seconds: float
    metrics: Metrics | None = None
    comparisons: tuple[NoninferiorityResult, ...] = ()
    finetuned: bool = False


@dataclass(frozen=True)
class Pending:
    """A step that is proposed and not yet decided on.

    Attributes:
        kind: Its kind.
        about: What it does.
        precision: How the network is computed after it.
        predicted_ms: Its time by the table of blocks.
        finetunes: Whether it is finetuned before it is judged for good.
        seconds: What it has taken until it was last written down.
    """

    kind: str
    about: str
    precision: str
    predicted_ms: float | None
    finetunes: bool
    seconds: float = 0.0


@dataclass(frozen=True)
class RunState:
    """State of a run, besides its networks.

    Attributes:
        source: What is compressed, in words with its hash.
        target: The budget.
        effort: What may be spent.
        reference: The source's metrics in f32.
        score: The source's validation scores, that all candidates are compared with.
        empty_ms: Time of an empty graph.
        metrics: Metrics of the present network.
        step_fraction: Part of the network's cost that the next step tries to remove.
        precision: How it is computed.
        network: Number of the step it comes from; 0 is the source.
        stage: Number of the present stage.
        steps: All that was decided.
        pending: What was begun.
        slow: Whether no move meets the time, and only the size is worked at any more.
        done: Whether the run is over.
        test: Results on the test patients; None before.
    """

    source: str
    target: Target
    effort: CompressionSettings
    reference: Metrics
    score: Score
    empty_ms: float
    metrics: Metrics
    step_fraction: float
    precision: str = "f32"
    network: int = 0
    stage: int = 0
    steps: tuple[Step, ...] = ()
    pending: Pending | None = None
    slow: bool = False
    done: bool = False
    test: TestResult | None = None
    schema: int = field(default=_SCHEMA)

    def tried(self) -> set[str]:
        """Steps that were tried from the present network and undone.

        What was only not faster may still be smaller.
        """
        undone = (step for step in self.steps if step.number > self.network and not step.kept)
        return {step.about for step in undone if step.comparisons or not self.slow}


def read_state(path: Path, kind: type[_State], about: str, **wanted: object) -> _State:
    """Read the state of a run or a search, if it is the one that is wanted.

    Args:
        path: File that it was written to.
        kind: Class of the state.
        about: What it is of, in words.
        wanted: Fields that must be as given.

    Raises:
        UsageError: If one is not.
        FormatError: If the file is damaged.
    """
    try:
        state = from_mapping(kind, read_json(path))
    except (ValueError, TypeError) as error:
        raise FormatError(f"{path} is damaged: {error}") from error
    for name, value in wanted.items():
        if (seen := getattr(state, name)) != value:
            raise UsageError(
                f"{path.parent} holds a {about} with another {name}: {seen}, not {value}. "
                "Choose another folder with -o, or remove it."
            )
    return state


class Folder:
    """The folder of a compression run.

    Args:
        path: Where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self, source: str, target: Target, effort: CompressionSettings) -> RunState | None:
        """Read the state, if a run was begun here.

        Args:
            source: What is to be compressed, in words with its hash.
            target: The budget.
            effort: What may be spent.

        Raises:
            UsageError: If the folder holds a run from another source or to another target.
            FormatError: If the state is damaged.
        """
        if not (self.path / STATE).exists():
            return None
        return read_state(
            self.path / STATE,
            RunState,
            "compression run",
            source=source,
            target=target,
            effort=effort,
        )

    def save(self, state: RunState) -> None:
        """Write the state, whole or not at all."""
        write_text(self.path / STATE, json.dumps(to_mapping(state), indent=1))

    def keep_network(self, name: str, network: TrainedNetwork) -> None:
        """Write a network with its spec."""
        write_network(self._file(name), network)

    def read_network(self, name: str) -> TrainedNetwork:
        """Read a network that was kept here."""
        return read_network(self._file(name))

    def has_network(self, name: str) -> bool:
        """Whether a network was kept here."""
        return self._file(name).exists()

    def drop_network(self, name: str) -> None:
        """Remove a network that is no longer needed."""
        self._file(name).unlink(missing_ok=True)

    @property
    def finetuning(self) -> Path:
        """The checkpoint of a finetuning."""
        return self.path / FINETUNING

    def _file(self, name: str) -> Path:
        return self.path / NETWORKS / f"{name}.safetensors"


def write_network(path: Path, network: TrainedNetwork) -> None:
    """Write weights and spec into one file of safetensors."""
    save_tensors(path, network.weights, note=json.dumps(to_mapping(network.spec)))


def read_network(path: Path) -> TrainedNetwork:
    """Read what `write_network` wrote.

    Raises:
        FormatError: If it is missing or damaged.
    """
    tensors, note = load_tensors(path)
    try:
        spec = from_mapping(ModelSpec, json.loads(note))
    except ValueError as error:
        raise FormatError(f"{path} does not say which network it is: {error}") from error
    return TrainedNetwork(spec, tensors)


Cost = Literal["ms", "bytes"]


def open_cost(state: RunState) -> Cost | None:
    """Budget that is still to be met, latency before size; None if none is."""
    metrics, target = state.metrics, state.target
    if target.target_ms is not None and metrics.ms > target.target_ms and not state.slow:
        return "ms"
    if target.max_size_bytes is not None and metrics.size_bytes > target.max_size_bytes:
        return "bytes"
    return None
