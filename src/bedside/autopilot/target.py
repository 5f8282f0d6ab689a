"""Target and settings of a compression run, and targets that nothing can meet."""

from dataclasses import dataclass

from bedside.errors import BudgetError, UsageError

CHANNELS = 8
"""Channels that are removed together, without a chip: kernels work on vectors of 8 or 16."""


@dataclass(frozen=True)
class Target:
    """A budget, and the loss that is allowed.

    Attributes:
        target_ms: Median time of the network for one input; None where only size counts.
        max_size_bytes: Size of the bundle; None where only time counts.
        max_drop: Largest loss of Dice that a structure may have; see `noninferiority`.
        threads: Threads of the runtime.
        backend: Runtime whose time counts.

    Raises:
        BudgetError: If there is no budget, or one that is not above 0.
        UsageError: If `max_drop` or `threads` cannot mean anything.
    """

    target_ms: float | None = None
    max_size_bytes: int | None = None
    max_drop: float = 0.005
    threads: int = 1
    backend: str = "openvino"

    def __post_init__(self) -> None:
        """Refuse what cannot be asked for."""
        if self.target_ms is None and self.max_size_bytes is None:
            raise BudgetError(
                "there is no budget; give milliseconds with --target-ms, a size with --max-size, "
                "or both."
            )
        if self.target_ms is not None and not self.target_ms > 0:
            raise BudgetError(
                f"the target is {self.target_ms:g} ms; expected more than 0. A network of a few "
                "hundred thousand weights takes some milliseconds a frame."
            )
        if not 0 < self.max_drop < 1:
            raise UsageError(f"max_drop is {self.max_drop:g}; expected a Dice between 0 and 1.")
        if self.threads < 1:
            raise UsageError(f"threads is {self.threads}; expected at least 1.")

    def describe(self) -> str:
        """The target in words.

        Example:
            >>> Target(target_ms=3, max_size_bytes=300_000).describe()
            'at most 3 ms with 1 thread and 300 kB, losing less than 0.005 Dice in each structure'
        """
        budgets = []
        if self.target_ms is not None:
            threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
            budgets.append(f"{self.target_ms:g} ms with {threads}")
        if self.max_size_bytes is not None:
            budgets.append(f"{self.max_size_bytes / 1000:g} kB")
        return (
            f"at most {' and '.join(budgets)}, losing less than {self.max_drop:g} Dice in each "
            "structure"
        )


@dataclass(frozen=True)
class CompressionSettings:
    """Settings of a compression run.

    Attributes:
        epochs: Epochs of finetuning after a step.
        rate: Peak learning rate of finetuning, over that of the source's training.
        step_fraction: Part of the time (or size) that a step tries to remove at first.
        min_step_fraction: The smallest part worth trying; a step that fails is tried again at
            half its size until that is below this.
        hopeless: Loss of a structure's Dice from which on a step is not finetuned, but tried
            again at half its size, as long as that is allowed.
        calibration_images: Training images that ranges of 8 bits and importance are read from.
        timing_s: Seconds that a comparison of times goes on for.
        seed: Seed of the finetuning's batches and of the bootstrap.
        also: Kinds of step that are tried beside the usual ones: "qat", "sparsity".
        multiple: Widths are pruned to multiples of so many channels, such as those of a chip.

    Raises:
        UsageError: If a number cannot mean anything.
    """

    epochs: int = 3
    rate: float = 0.5
    step_fraction: float = 0.12
    min_step_fraction: float = 0.03
    hopeless: float = 0.1
    calibration_images: int = 64
    timing_s: float = 3.0
    seed: int = 0
    also: tuple[str, ...] = ()
    multiple: int = CHANNELS

    def __post_init__(self) -> None:
        """Refuse what cannot be spent."""
        if self.multiple < 1:
            raise UsageError(f"multiple is {self.multiple} channels; expected at least 1.")
        if self.epochs < 0 or self.calibration_images < 1:
            raise UsageError(
                f"epochs is {self.epochs} and calibration_images {self.calibration_images}; "
                "expected at least 0 and 1."
            )
        if not 0 < self.min_step_fraction <= self.step_fraction < 1 or self.rate <= 0:
            raise UsageError(
                f"step_fraction is {self.step_fraction:g}, min_step_fraction "
                f"{self.min_step_fraction:g}, rate {self.rate:g}; expected 0 < min_step_fraction "
                "<= step_fraction < 1, and a rate above 0."
            )


def check_reachable(target: Target, *, empty_ms: float) -> None:
    """Refuse a target that an empty graph already misses.

    Args:
        target: What is asked for.
        empty_ms: Time of a graph that does nothing but give logits; see `device`.

    Raises:
        BudgetError: If the target is not above it; it names the least that means anything.
    """
    if target.target_ms is not None and target.target_ms <= empty_ms:
        raise BudgetError(
            f"the target is {target.target_ms:g} ms, but an empty graph takes {empty_ms:.3g} "
            "ms here "
            f"with {target.threads} threads. Ask for at least {2 * empty_ms:.2g} ms."
        )
