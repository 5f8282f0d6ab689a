"""A compression run: steps towards a budget, each kept only if it gains and loses nothing.

A step is proposed, timed interleaved with the network it would replace, finetuned, measured again
and compared with the source on the validation patients. It is kept if it is faster here (or
smaller, if size is missing) and screened as not worse. Otherwise it is undone, the reason is
recorded, and it is tried again at half the step size. Test patients are not used.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from bedside.autopilot.compress.steps import STEP_KINDS, CompressionState, Proposal, list_stages
from bedside.autopilot.evaluator import REFERENCE, Candidate, CandidateEvaluator
from bedside.autopilot.finetune import finetune
from bedside.autopilot.noninferiority import (
    NoninferiorityResult,
    check_count,
    check_patients,
    explain,
    judge,
)
from bedside.autopilot.scoring import Score
from bedside.autopilot.state import (
    Accuracy,
    Cost,
    Folder,
    Metrics,
    Pending,
    RunState,
    Step,
    open_cost,
)
from bedside.autopilot.target import check_reachable
from bedside.models import TrainedNetwork, count_parameters

# Part of a time or size by which a step has to be better than what it replaces.
_LEAST_GAIN = 0.01
_PENDING = "pending"
_FINETUNED = "finetuned"

OnMessage = Callable[[str], None]


@dataclass
class CompressionRun:
    """A compression run and its state.

    Attributes:
        evaluator: Measures candidates.
        folder: Folder of the run.
        state: Its state.
        on_message: Called with a line for every measurement and decision.
    """

    evaluator: CandidateEvaluator
    folder: Folder
    state: RunState
    on_message: OnMessage = lambda line: None
    _loaded: dict[int, TrainedNetwork] = field(default_factory=dict, repr=False)

    def run(self) -> RunState:
        """Run until the budget is met or no step gains any more.

        If no step meets the latency, the size is still reduced.

        Returns:
            The state at the end.

        Raises:
            PatientsError: If there are too few validation patients to choose by.
        """
        while not self.state.done:
            self._advance()
        return self.state

    @property
    def stages(self) -> tuple[str, ...]:
        """Kinds of step, in order."""
        return list_stages(self.state.effort)

    @property
    def current(self) -> Candidate:
        """The present network, with its precision."""
        number = self.state.network
        if number not in self._loaded:
            self._loaded = {number: self.folder.read_network(f"{number:03d}")}
        return Candidate(self._loaded[number], self.state.precision)

    def _update(self, **changes: object) -> None:
        """Change the state, and write it."""
        self.state = replace(self.state, **changes)  # type: ignore[arg-type]
        self.folder.save(self.state)

    def _advance(self) -> None:
        """Do a step, or go on to the next stage."""
        cost = open_cost(self.state)
        if cost is None or self.state.stage >= len(self.stages):
            if cost == "ms" and open_cost(replace(self.state, slow=True)) == "bytes":
                self.on_message("no step meets the latency; continuing with the size")
                self._update(slow=True, stage=0, step_fraction=self.state.effort.step_fraction)
            else:
                self._update(done=True, pending=None)
            return
        pending = self.state.pending or self._propose(cost)
        if pending is not None:
            self._decide(pending, cost)
            return
        name = self.stages[self.state.stage]
        changes = self._lessen(strides=STEP_KINDS[name].strides)
        if "stage" in changes:
            self.on_message(f"{name}: nothing more to gain")
        self._update(**changes)

    def _lessen(self, *, strides: bool) -> dict[str, object]:
        """Halve the step size, or go on to the next kind of step if that is too little."""
        half, effort = self.state.step_fraction / 2, self.state.effort
        if strides and half >= effort.min_step_fraction:
            return {"step_fraction": half}
        return {"stage": self.state.stage + 1, "step_fraction": effort.step_fraction}

    def _propose(self, cost: Cost) -> Pending | None:
        """Propose a step of the stage, and write it to the state before it is tried."""
        name, begin = self.stages[self.state.stage], time.monotonic()
        current = CompressionState(
            current=self.current,
            ms=self.state.metrics.ms,
            cost=cost,
            step_fraction=self.state.step_fraction,
            missing=self._missing(cost),
            tried=self.state.tried(),
        )
        proposal = STEP_KINDS[name].propose(self.evaluator, current)
        if proposal is None:
            return None
        return self._keep_pending(name, proposal, time.monotonic() - begin)

    def _keep_pending(self, name: str, proposal: Proposal, seconds: float) -> Pending:
        self.folder.finetuning.unlink(missing_ok=True)
        self.folder.drop_network(_FINETUNED)
        self.folder.keep_network(_PENDING, proposal.candidate.network)
        pending = Pending(
            kind=name,
            about=proposal.about,
            precision=proposal.candidate.precision,
            predicted_ms=proposal.predicted_ms,
            finetunes=proposal.finetunes,
            seconds=seconds,
        )
        self._update(pending=pending)
        return pending

    def _missing(self, cost: Cost) -> float:
        """Part of the network's cost that is above the budget."""
        metrics, target = self.state.metrics, self.state.target
        if cost == "ms":
            return 1 - (target.target_ms or 0) / metrics.ms
        return 1 - (target.max_size_bytes or 0) / metrics.size_bytes

    def _decide(self, pending: Pending, cost: Cost) -> None:
        """Measure a pending step, and keep or undo it."""
        begin, before = time.monotonic(), self.current
        self.on_message(f"{pending.kind}: {pending.about}")
        candidate = Candidate(self.folder.read_network(_PENDING), pending.precision)
        times = self._time(before, candidate)
        step = Step(
            number=len(self.state.steps) + 1,
            kind=pending.kind,
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
        judge_it = self._finetune_and_judge if pending.finetunes else self._judge
        self._finish(pending, judge_it(step, before, candidate), begin)

    def _finetune_and_judge(self, step: Step, before: Candidate, candidate: Candidate) -> Step:
        """Judge a candidate as it is and, if it has lost too much, again after finetuning."""
        if not self.folder.finetuning.exists() and not self.folder.has_network(_FINETUNED):
            step = self._judge(step, before, candidate)
            if step.kept or self._is_hopeless(step):
                return step
            self.on_message(f"to be finetuned: {step.reason}")
        return self._judge(
            replace(step, finetuned=True), before, self._finetune(step.kind, candidate)
        )

    def _is_hopeless(self, step: Step) -> bool:
        """Whether finetuning would be useless: nothing gained, or too much lost."""
        if all(result.screened for result in step.comparisons):
            return True
        effort = self.state.effort
        worst = min(result.difference for result in step.comparisons)
        smaller = (
            STEP_KINDS[step.kind].strides
            and self.state.step_fraction / 2 >= effort.min_step_fraction
        )
        return smaller and worst < -effort.hopeless

    def _time(
        self, before: Candidate, after: Candidate, *, exact: bool = False
    ) -> dict[str, float]:
        """Time both networks beside the source, scaled to the first time of the source."""
        times = self.evaluator.time({"before": before, "after": after}, exact=exact)
        scale = self.state.reference.ms / times[REFERENCE]
        return {name: ms * scale for name, ms in times.items()}

    def _finetune(self, kind: str, candidate: Candidate) -> Candidate:
        """Finetune a candidate, or read it if that was done before a stop."""
        if not self.folder.has_network(_FINETUNED):
            setup, prepare = self.evaluator.setup, STEP_KINDS[kind].prepare
            finetuned = finetune(
                candidate.network,
                setup,
                checkpoint=self.folder.finetuning,
                prepare=None if prepare is None else prepare(self.evaluator, candidate.network),
                on_epoch=lambda done, means: self.on_message(
                    f"finetuning: epoch {done} of {setup.epochs}, loss {means['loss']:.4f}"
                ),
            )
            self.folder.keep_network(_FINETUNED, finetuned)
        return Candidate(self.folder.read_network(_FINETUNED), candidate.precision)

    def _judge(self, step: Step, before: Candidate, candidate: Candidate) -> Step:
        """Compare a candidate with the source, and with what it would replace."""
        target, reference = self.state.target, self.state.score
        score = self.evaluator.score(candidate)
        times = self._time(before, candidate, exact=True)
        metrics = describe_candidate(self.evaluator, candidate, ms=times["after"], score=score)
        results = judge(
            reference.by_patient(),
            score.by_patient(),
            max_drop=target.max_drop,
            new_alarms=score.new_alarms(reference),
            seed=self.state.effort.seed,
        )
        step = replace(step, metrics=metrics, comparisons=results, before_ms=times["before"])
        reason = self._find_fault(metrics, times["before"], results)
        if step.kind == "precision":
            # Another precision changes least: what it cannot show, no step can.
            check_patients(results, max_drop=target.max_drop)
        if reason:
            return replace(step, reason=reason)
        self.folder.keep_network(f"{step.number:03d}", candidate.network)
        return replace(step, kept=True, reason=_describe_gain(step, metrics, self.state.metrics))

    def _find_fault(
        self, metrics: Metrics, before_ms: float, results: tuple[NoninferiorityResult, ...]
    ) -> str:
        """Reason why a step must be undone; empty if it may stay."""
        now, target = self.state.metrics, self.state.target
        if open_cost(self.state) == "ms":
            if metrics.ms > (1 - _LEAST_GAIN) * before_ms:
                return f"not faster here: {metrics.ms:.3f} against {before_ms:.3f} ms"
        elif metrics.size_bytes > (1 - _LEAST_GAIN) * now.size_bytes:
            return f"not smaller: {metrics.size_bytes:,} against {now.size_bytes:,} bytes"
        elif target.target_ms is not None and metrics.ms > target.target_ms:
            if not self.state.slow:
                return (
                    f"smaller, but {metrics.ms:.3f} ms is above the target of "
                    f"{target.target_ms:g} ms"
                )
            if metrics.ms > (1 + _LEAST_GAIN) * before_ms:
                return f"smaller, but slower: {metrics.ms:.3f} against {before_ms:.3f} ms"
        return explain(results, max_drop=target.max_drop)

    def _finish(self, pending: Pending, step: Step, begin: float) -> None:
        """Record a decision, and continue from the step or from before it."""
        step = replace(step, seconds=round(pending.seconds + time.monotonic() - begin, 1))
        decision = "kept" if step.kept else "undone"
        metrics = "" if step.metrics is None else f" {_say(step.metrics)};"
        self.on_message(f"{decision}:{metrics} {step.reason}")
        changes: dict[str, object] = {"steps": (*self.state.steps, step), "pending": None}
        if step.kept:
            changes |= {
                "network": step.number,
                "precision": step.precision,
                "metrics": step.metrics,
            }
            if self._turns_to_size(step):
                changes |= {"stage": 0, "step_fraction": self.state.effort.step_fraction}
        elif STEP_KINDS[step.kind].strides:
            changes |= self._lessen(strides=True)
        self._update(**changes)
        self.folder.finetuning.unlink(missing_ok=True)

    def _turns_to_size(self, step: Step) -> bool:
        """Whether a step has met the latency, while the size is still to be met.

        All kinds of step are then tried again, fewer bits before anything is removed.
        """
        assert step.metrics is not None
        after = replace(self.state, metrics=step.metrics)
        return open_cost(self.state) == "ms" and open_cost(after) == "bytes"


def _say(metrics: Metrics) -> str:
    dice = ", ".join(f"{name} {value:.4f}" for name, value in metrics.accuracy.dice.items())
    return f"{metrics.ms:.3f} ms, {metrics.size_bytes / 1000:.0f} kB, Dice {dice}"


def _describe_gain(step: Step, after: Metrics, before: Metrics) -> str:
    """What a step gained."""
    faster = step.before_ms / after.ms
    finetuned = "" if step.finetuned or step.kind == "precision" else ", without finetuning"
    size = describe_size(before.size_bytes, after.size_bytes)
    return f"{faster:.2f} times as fast, {size}{finetuned}"


def describe_size(before: int, after: int) -> str:
    """Change of a size, in words.

    Example:
        >>> describe_size(200, 150), describe_size(100, 103), describe_size(100, 100)
        ('25 % smaller', '3 % larger', 'of the same size')
    """
    change = round(100 * (after / before - 1))
    if not change:
        return "of the same size"
    return f"{abs(change)} % {'smaller' if change < 0 else 'larger'}"


def begin_run(evaluator: CandidateEvaluator, folder: Folder, *, on_message: OnMessage) -> RunState:
    """Measure the source, and write the first state.

    Raises:
        BudgetError: If the target is below what an empty graph takes here.
        PatientsError: If there are too few validation patients for any bound.
        DataError: If a structure is in none of the validation cases.
    """
    check_count(len({case.person for case in evaluator.source.finished.part("val")}))
    source = Candidate(evaluator.source.network)
    empty_ms = evaluator.time_empty()
    check_reachable(evaluator.target, empty_ms=empty_ms)
    on_message(f"an empty graph takes {empty_ms:.3f} ms; measuring the source")
    ms = evaluator.time({}, exact=True)[REFERENCE]
    score = evaluator.score(source)
    metrics = describe_candidate(evaluator, source, ms=ms, score=score)
    folder.keep_network("000", source.network)
    state = RunState(
        source=evaluator.source.about,
        target=evaluator.target,
        effort=evaluator.effort,
        reference=metrics,
        score=score,
        empty_ms=empty_ms,
        metrics=metrics,
        step_fraction=evaluator.effort.step_fraction,
    )
    folder.save(state)
    on_message(f"source: {_say(metrics)}")
    return state


def describe_candidate(
    evaluator: CandidateEvaluator, candidate: Candidate, *, ms: float, score: Score
) -> Metrics:
    """Metrics of a candidate."""
    return Metrics(
        ms=ms,
        size_bytes=evaluator.size(candidate),
        parameters=count_parameters(candidate.network.create()),
        accuracy=Accuracy.of(score),
    )
