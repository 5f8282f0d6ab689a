"""How often a network that loses exactly the margin is called not worse, and what it takes.

Simulated patients: the mean loss is 0.005, the margin itself, in four shapes. Whoever calls the
candidate not worse errs. Then candidates without loss, to see how many patients show that.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bedside.autopilot.bounds import (
    ERROR,
    bootstrap_bound,
    bound_share,
    excludes,
    smallest_drop,
)
from bedside.evaluation.report import markdown_table
from bedside.system.atomic import write_text

MARGIN = 0.005
PATIENTS = (8, 20, 45, 90, 140, 200, 300, 500, 1000)
SCREENED = PATIENTS[:5]
SPREADS = (0.002, 0.01, 0.02)

Draw = Callable[[np.random.Generator, int, float], np.ndarray]


def _failing(share: float, loss: float) -> Draw:
    """Most patients differ by chance only; a few lose much."""

    def draw(random: np.random.Generator, count: int, spread: float) -> np.ndarray:
        usual = random.normal(0.0, spread, count)
        return np.where(random.random(count) < share, -loss, usual)

    return draw


SHAPES: dict[str, Draw] = {
    "normal": lambda random, count, spread: random.normal(-MARGIN, spread, count),
    "t, 3 degrees of freedom": lambda random, count, spread: (
        spread * random.standard_t(3, count) / math.sqrt(3) - MARGIN
    ),
    "5 % lose 0.10": _failing(0.05, 0.10),
    "2 % lose 0.25": _failing(0.02, 0.25),
}
"""Differences of patients; the spread is that of those who do not fail."""


def error_rate(
    shape: str, patients: int, spread: float, *, runs: int, seed: int = 0, bootstrap: bool = False
) -> float:
    """Part of simulated trials in which the margin is excluded although it is lost.

    Args:
        shape: A key of `SHAPES`.
        patients: Patients of a trial.
        spread: Standard deviation between patients.
        runs: Trials.
        seed: Seed of the draws.
        bootstrap: Whether by the bound that screens steps.
    """
    random = np.random.default_rng((seed, patients, list(SHAPES).index(shape)))
    trials = [SHAPES[shape](random, patients, spread) for _ in range(runs)]
    if bootstrap:
        return float(np.mean([bootstrap_bound(each) > -MARGIN for each in trials]))
    return float(np.mean([excludes(each, MARGIN) for each in trials]))


def power(patients: int, spread: float, *, runs: int, seed: int = 0) -> float:
    """Part of simulated trials that exclude the margin if nothing is lost on average."""
    random = np.random.default_rng((seed, patients))
    return float(
        np.mean([excludes(random.normal(0.0, spread, patients), MARGIN) for _ in range(runs)])
    )


def format_page(runs: int) -> str:
    """Simulate all, and write the tables."""
    heads = [f"{count}" for count in PATIENTS]
    errors = [
        [
            shape,
            *(
                f"{100 * max(error_rate(shape, n, s, runs=runs) for s in SPREADS):.1f}"
                for n in PATIENTS
            ),
        ]
        for shape in SHAPES
    ]
    screened = [
        [
            shape,
            *(
                f"{100 * error_rate(shape, n, 0.01, runs=runs // 20, bootstrap=True):.0f}"
                for n in SCREENED
            ),
        ]
        for shape in SHAPES
    ]
    powers = [
        [f"spread {spread:g}", *(f"{100 * power(n, spread, runs=runs):.0f}" for n in PATIENTS)]
        for spread in SPREADS
    ]
    shown = [
        ["smallest mean loss that can be excluded", *(f"{smallest_drop(n):.4f}" for n in PATIENTS)],
        [
            f"share of patients losing over 0.05, at most (none seen; {100 * (1 - ERROR):g} %)",
            *(f"{100 * bound_share(0, n):.1f} %" for n in PATIENTS),
        ],
    ]
    return "\n".join(
        [
            "# What a number of patients shows of a loss",
            "",
            f"Simulated, {runs} trials each, margin {MARGIN:g} Dice. Written by "
            "`benchmarks/noninferiority.py`.",
            "",
            "## Error of the bound that shows",
            "",
            "Trials (%) in which a candidate whose mean loss is the margin is called not worse "
            f"(`bounds.lower_bound`, 97.5 %); the highest of spreads {', '.join(map(str, SPREADS))}"
            " between patients.",
            "",
            *markdown_table(["patients", *heads], errors),
            "",
            "## Error of the bootstrap bound",
            "",
            "The same (%) for the one-sided 95 % bootstrap bound of the mean, spread 0.01, which "
            "`bedside compress` chooses steps by and which claims nothing.",
            "",
            *markdown_table(["patients", *heads[: len(SCREENED)]], screened),
            "",
            "## Power",
            "",
            "Trials (%) in which a candidate without any mean loss is shown not to be worse.",
            "",
            *markdown_table(["patients", *heads], powers),
            "",
            "## At best",
            "",
            "If no patient loses or gains anything:",
            "",
            *markdown_table(["patients", *heads], shown),
            "",
        ]
    )


def main() -> None:
    """Simulate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    text = format_page(arguments.runs)
    print(text)
    write_text(arguments.output, text)


if __name__ == "__main__":
    main()
