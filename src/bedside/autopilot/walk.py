"""The walk: one step at a time towards a budget, each kept only if it pays and loses nothing.

A step is proposed by a move, timed beside what it would replace, healed, measured again, and
compared with the source on the validation patients. It is kept if it is faster here (or
smaller, where size is what is missing) and shown not to be worse; else it is undone, the
reason written down, and tried again at half its stride. Test patients are not looked at.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from bedside.autopilot.goal import check_reachable
from bedside.autopilot.heal import heal
from bedside.autopilot.moves import MOVES, SEQUENCE, Place, Proposal
from bedside.autopilot.noninferiority import Verdict, check_count, check_patients, explain, judge
from bedside.autopilot.scoring import Score
from bedside.autopilot.state import (
    Accuracy,
    Cost,
    Figures,
    Folder,
    Pending,
    Step,
    WalkState,
    open_cost,
)
from bedside.autopilot.workshop import REFERENCE, Candidate, Workshop
from bedside.models import TrainedNetwork, count_parameters

# Part of a time or size by which a step has to be better than what it replaces.
_LEAST_GAIN = 0.01
_PENDING = "pending"
_HEALED = "healed"

Tell = Callable[[str], None]


@dataclass
class Walk:
    """A walk at some point of it.

    Attributes:
        shop: Measures candidates.
        folder: Where the walk is kept.
        state: Where it stands.
        tell: Called with a line for every measurement and decision.
    """

    shop: Workshop
    folder: Folder
    state: WalkState
    tell: Tell = lambda line: None
    _loaded: dict[int, TrainedNetwork] = field(default_factory=dict, repr=False)

    def run(self) -> WalkState:
        """Go on until the budget is met or no move has more to offer.

        Where no move meets the time, the size is worked at all the same.

        Returns:
            The state at the end.

        Raises:
            PatientsError: If there are too few validation patients to show anything.
        """
        while not self.state.done:
            self._advance()
        return self.state

    @property
    def current(self) -> Candidate:
        """The network that the walk is at, with its precision."""
        number = self.state.network
        if number not in self._loaded:
            self._loaded = {number: self.folder.read_network(f"{number:03d}")}
        return Candidate(self._loaded[number], self.state.precision)

    def _update(self, **changes: object) -> None:
        """Change the state, on disk too."""
        self.state = replace(self.state, **changes)  # type: ignore[arg-type]
        self.folder.save(self.state)

    def _advance(self) -> None:
        """Take a step, or go on to the next stage."""
        cost = open_cost(self.state)
        if cost is None or self.state.stage >= len(SEQUENCE):
            if cost == "ms" and open_cost(replace(self.state, slow=True)) == "bytes":
                self.tell("no move meets the time; going on with the size")
                self._update(slow=True, stage=0, stride=self.state.effort.stride)
            else:
                self._update(done=True, pending=None)
            return
        pending = self.state.pending or self._propose(cost)
        if pending is not None:
            self._decide(pending, cost)
            return
        name = SEQUENCE[self.state.stage]
        changes = self._lessen(strides=MOVES[name].strides)
        if "stage" in changes:
            self.tell(f"{name}: nothing more to gain")
        self._update(**changes)

    def _lessen(self, *, strides: bool) -> dict[str, object]:
        """Ask for half as much next time, or go on to the next move if that is too little."""
        half, effort = self.state.stride / 2, self.state.effort
        if strides and half >= effort.least_stride:
            return {"stride": half}
        return {"stage": self.state.stage + 1, "stride": effort.stride}

    def _propose(self, cost: Cost) -> Pending | None:
        """Ask the stage's move for a step, and write it down before anything is spent on it."""
        name, begin = SEQUENCE[self.state.stage], time.monotonic()
        place = Place(
            current=self.current,
            ms=self.state.figures.ms,
            cost=cost,
            stride=self.state.stride,
            missing=self._missing(cost),
            tried=self.state.tried(),
        )
        proposal = MOVES[name].propose(self.shop, place)
        if proposal is None:
            return None
        return self._keep_pending(name, proposal, time.monotonic() - begin)

    def _keep_pending(self, name: str, proposal: Proposal, seconds: float) -> Pending:
        self.folder.healing.unlink(missing_ok=True)
        self.folder.drop_network(_HEALED)
        self.folder.keep_network(_PENDING, proposal.candidate.network)
        pending = Pending(
            move=name,
            about=proposal.about,
            precision=proposal.candidate.precision,
            predicted_ms=proposal.predicted_ms,
            heals=proposal.heals,
            seconds=seconds,
        )
        self._update(pending=pending)
        return pending

    def _missing(self, cost: Cost) -> float:
        """Say which part of the network's cost is still too much."""
        figures, goal = self.state.figures, self.state.goal
        if cost == "ms":
            return 1 - (goal.target_ms or 0) / figures.ms
        return 1 - (goal.max_size_bytes or 0) / figures.size_bytes

    def _decide(self, pending: Pending, cost: Cost) -> None:
        """Measure a step that was begun, and keep or undo it."""
        begin, before = time.monotonic(), self.current
        self.tell(f"{pending.move}: {pending.about}")
        candidate = Candidate(self.folder.read_network(_PENDING), pending.precision)
        times = self._time(before, candidate)
        step = Step(
            number=len(self.state.steps) + 1,
            move=pending.move,
            about=pending.about,
            precision=pending.precision,
            predicted_ms=pending.predicted_ms,
            before_ms=times["before"],
            raw_ms=times["after"],
            kept=False,
            reason="",
            seconds=0.0,
        )
        if cost == "ms" and times["after"] > (1 - _LEAST_GAIN) * times["before"]:
            reason = f"not faster here: {times['after']:.3f} against {times['before']:.3f} ms"
            self._finish(pending, replace(step, reason=reason), begin)
            return
        judge_it = self._heal_and_judge if pending.heals else self._judge
        self._finish(pending, judge_it(step, before, candidate), begin)

    def _heal_and_judge(self, step: Step, before: Candidate, candidate: Candidate) -> Step:
        """Judge a candidate as it is, and if it has lost too much, once more when it is healed."""
        if not self.folder.healing.exists() and not self.folder.has_network(_HEALED):
            step = self._judge(step, before, candidate)
            if step.kept or self._is_beyond_healing(step):
                return step
            self.tell(f"to be healed: {step.reason}")
        return self._judge(replace(step, healed=True), before, self._heal(candidate))

    def _is_beyond_healing(self, step: Step) -> bool:
        """Tell whether a healing would be wasted: nothing gained, or so much lost at once."""
        if all(verdict.passed for verdict in step.verdicts):
            return True
        effort = self.state.effort
        worst = min(verdict.difference for verdict in step.verdicts)
        smaller = MOVES[step.move].strides and self.state.stride / 2 >= effort.least_stride
        return smaller and worst < -effort.hopeless

    def _time(
        self, before: Candidate, after: Candidate, *, exact: bool = False
    ) -> dict[str, float]:
        """Time what is and what may be beside the source; scaled to the source's first time."""
        times = self.shop.time({"before": before, "after": after}, exact=exact)
        scale = self.state.reference.ms / times[REFERENCE]
        return {name: ms * scale for name, ms in times.items()}

    def _heal(self, candidate: Candidate) -> Candidate:
        """Train a candidate on, or take what was trained before a stop."""
        if not self.folder.has_network(_HEALED):
            lesson = self.shop.lesson
            healed = heal(
                candidate.network,
                lesson,
                checkpoint=self.folder.healing,
                on_epoch=lambda done, means: self.tell(
                    f"healing: epoch {done} of {lesson.epochs}, loss {means['loss']:.4f}"
                ),
            )
            self.folder.keep_network(_HEALED, healed)
        return Candidate(self.folder.read_network(_HEALED), candidate.precision)

    def _judge(self, step: Step, before: Candidate, candidate: Candidate) -> Step:
        """Compare a candidate with the source, and with what it would replace."""
        goal, reference = self.state.goal, self.state.score
        score = self.shop.score(candidate)
        times = self._time(before, candidate, exact=True)
        figures = describe_candidate(self.shop, candidate, ms=times["after"], score=score)
        verdicts = judge(
            reference.by_patient(),
            score.by_patient(),
            max_drop=goal.max_drop,
            new_alarms=score.new_alarms(reference),
            seed=self.state.effort.seed,
        )
        step = replace(step, figures=figures, verdicts=verdicts, before_ms=times["before"])
        reason = self._find_fault(figures, times["before"], verdicts)
        if step.move == "precision":
            # Nothing is gentler than another precision: what it cannot show, no step can.
            check_patients(verdicts, max_drop=goal.max_drop)
        if reason:
            return replace(step, reason=reason)
        self.folder.keep_network(f"{step.number:03d}", candidate.network)
        return replace(step, kept=True, reason=_say_gain(step, figures, self.state.figures))

    def _find_fault(self, figures: Figures, before_ms: float, verdicts: tuple[Verdict, ...]) -> str:
        """Say why a step must be undone; nothing if it may stay."""
        now, goal = self.state.figures, self.state.goal
        if open_cost(self.state) == "ms":
            if figures.ms > (1 - _LEAST_GAIN) * before_ms:
                return f"not faster here: {figures.ms:.3f} against {before_ms:.3f} ms"
        elif figures.size_bytes > (1 - _LEAST_GAIN) * now.size_bytes:
            return f"not smaller: {figures.size_bytes:,} against {now.size_bytes:,} bytes"
        elif goal.target_ms is not None and figures.ms > goal.target_ms:
            if not self.state.slow:
                return (
                    f"smaller, but {figures.ms:.3f} ms is above the target of {goal.target_ms:g} ms"
                )
            if figures.ms > (1 + _LEAST_GAIN) * before_ms:
                return f"smaller, but slower: {figures.ms:.3f} against {before_ms:.3f} ms"
        return explain(verdicts, max_drop=goal.max_drop)

    def _finish(self, pending: Pending, step: Step, begin: float) -> None:
        """Write a decision down, and go on from the step or from before it."""
        step = replace(step, seconds=round(pending.seconds + time.monotonic() - begin, 1))
        verdict = "kept" if step.kept else "undone"
        figures = "" if step.figures is None else f" {_say(step.figures)};"
        self.tell(f"{verdict}:{figures} {step.reason}")
        changes: dict[str, object] = {"steps": (*self.state.steps, step), "pending": None}
        if step.kept:
            changes |= {
                "network": step.number,
                "precision": step.precision,
                "figures": step.figures,
            }
            if self._turns_to_size(step):
                changes |= {"stage": 0, "stride": self.state.effort.stride}
        elif MOVES[step.move].strides:
            changes |= self._lessen(strides=True)
        self._update(**changes)
        self.folder.healing.unlink(missing_ok=True)

    def _turns_to_size(self, step: Step) -> bool:
        """Tell whether a step has met the time, while the size is still to be met.

        All moves are then asked again, fewer bits before anything else is taken away.
        """
        assert step.figures is not None
        after = replace(self.state, figures=step.figures)
        return open_cost(self.state) == "ms" and open_cost(after) == "bytes"


def _say(figures: Figures) -> str:
    dice = ", ".join(f"{name} {value:.4f}" for name, value in figures.accuracy.dice.items())
    return f"{figures.ms:.3f} ms, {figures.size_bytes / 1000:.0f} kB, Dice {dice}"


def _say_gain(step: Step, after: Figures, before: Figures) -> str:
    """Say what a step bought."""
    faster = step.before_ms / after.ms
    healed = "" if step.healed or step.move == "precision" else ", without healing"
    size = say_size(before.size_bytes, after.size_bytes)
    return f"{faster:.2f} times as fast, {size}{healed}"


def say_size(before: int, after: int) -> str:
    """Say how a size changed.

    Example:
        >>> say_size(200, 150), say_size(100, 103), say_size(100, 100)
        ('25 % smaller', '3 % larger', 'of the same size')
    """
    change = round(100 * (after / before - 1))
    if not change:
        return "of the same size"
    return f"{abs(change)} % {'smaller' if change < 0 else 'larger'}"


def begin_walk(shop: Workshop, folder: Folder, *, tell: Tell) -> WalkState:
    """Measure the source, with which everything later is compared, and keep the first state.

    Raises:
        BudgetError: If the target is below what an empty graph takes here.
        PatientsError: If there are too few validation patients for any bound.
        DataError: If a structure is in none of the validation cases.
    """
    check_count(len({case.person for case in shop.source.finished.part("val")}))
    source = Candidate(shop.source.network)
    empty_ms = shop.time_empty()
    check_reachable(shop.goal, empty_ms=empty_ms)
    tell(f"an empty graph takes {empty_ms:.3f} ms; measuring the source")
    ms = shop.time({}, exact=True)[REFERENCE]
    score = shop.score(source)
    figures = describe_candidate(shop, source, ms=ms, score=score)
    folder.keep_network("000", source.network)
    state = WalkState(
        source=shop.source.about,
        goal=shop.goal,
        effort=shop.effort,
        reference=figures,
        score=score,
        empty_ms=empty_ms,
        figures=figures,
        stride=shop.effort.stride,
    )
    folder.save(state)
    tell(f"source: {_say(figures)}")
    return state


def describe_candidate(shop: Workshop, candidate: Candidate, *, ms: float, score: Score) -> Figures:
    """Put together what was measured of a candidate."""
    return Figures(
        ms=ms,
        size_bytes=shop.size(candidate),
        parameters=count_parameters(candidate.network.create()),
        accuracy=Accuracy.of(score),
    )
