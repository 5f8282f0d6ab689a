"""The certificate of an export: how its results differ from the bundle's."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from bedside.evaluation.comparison import Comparison
from bedside.spec import to_mapping
from bedside.spec.card import DISCLAIMER

SCHEMA_VERSION = 2
FLOAT_BOUND = 0.002
"""Largest loss of Dice of any structure in f32 or bf16."""
LOGIT_BOUND = 0.01
"""Largest difference of a logit in f32, as a part of the largest: a few roundings of weights."""


@dataclass(frozen=True)
class Bound:
    """Largest differences allowed between an export and its bundle.

    Attributes:
        dice: Dice that any structure may lose.
        logit_part: Part of the largest logit that any logit may differ by; None where
            rounding moves logits and only masks count.
    """

    dice: float
    logit_part: float | None = None

    def find_fault(self, comparison: Comparison) -> str:
        """A phrase that names what is out of bounds; empty if nothing is."""
        worst = max(comparison.structures, key=lambda structure: structure.loss)
        if worst.loss > self.dice:
            what = "Dice" if comparison.with_truth else "Dice with the masks of the bundle"
            return f'loses {worst.loss:.4f} {what} of "{worst.name}" (at most {self.dice:g})'
        if self.logit_part is not None and comparison.worst_logit_part > self.logit_part:
            return (
                f"moves a logit by {comparison.worst_logit_part:.2g} of the largest "
                f"(at most {self.logit_part:g})"
            )
        return ""


@dataclass(frozen=True)
class FaultyLayer:
    """The layer at which the results of an export become wrong.

    Attributes:
        layer: The layer whose result is wrong.
        error: Norm of the difference over the norm of the right result. If `restored`, of the
            logits, with all layers before this one in f32.
        before: The layer before it, whose result is right; None if it is the first.
        error_before: Error of that layer. If `restored`, of the logits with this layer in f32 too.
        runs: Number of networks that were converted and run to find it.
        restored: Whether it was found by putting layers back into f32 and not by cutting off.
    """

    layer: str
    error: float
    before: str | None
    error_before: float
    runs: int
    restored: bool = False

    def __str__(self) -> str:
        """A sentence for a person."""
        if self.restored:
            return (
                f'it diverges at "{self.layer}": with all before it in f32 the logits are off by '
                f"{self.error:.2g}, with it as well by {self.error_before:.2g}"
            )
        sound = (
            f'"{self.before}" before it is off by {self.error_before:.2g}'
            if self.before
            else "nothing lies before it but the input"
        )
        return f'it diverges at "{self.layer}", which is off by {self.error:.2g}; {sound}'


@dataclass(frozen=True)
class Attempt:
    """One conversion and its result.

    Attributes:
        layers_in_f32: Layers that were left in f32 beside those in fewer bits.
        fault: What was out of bounds; empty if nothing was.
        faulty_layer: Where its results become wrong; None if nothing was out of bounds, or
            no layer was found.
    """

    layers_in_f32: tuple[str, ...]
    fault: str
    faulty_layer: FaultyLayer | None = None


@dataclass(frozen=True)
class Certificate:
    """How an export was made, and how its results compare with the bundle's.

    Attributes:
        bundle: Name, version and sha256 of the bundle that it was made from.
        format: Such as "openvino".
        precision: "f32", "bf16" or "int8".
        made_with: Version of each package that took part in the conversion.
        ran_in: Runtime that it was run in, with its version; empty if it was not run.
        not_run: Why it was not run; empty if it was.
        data: What it was run on, in words: patients, or generated images.
        bound: Largest differences allowed.
        passed: Whether it is within the bound; None if it was not run.
        comparison: How it differs from the bundle's f32 graph; None if it was not run.
        attempts: All conversions; the last one is the one that was written.
        files: Size in bytes and sha256 of each file, by its name.
        latency_ms: Median time of "exported" and of "float" (the bundle's f32 graph in the
            default runtime), taken in turns, on this machine; "exported_best" and
            "float_best" are the shortest.
        processor: The machine that it was run on.
        architecture: Its architecture, such as "x86_64" or "aarch64": kernels differ between them.
        seconds: Duration of the conversion.
    """

    bundle: Mapping[str, str]
    format: str
    precision: str
    made_with: Mapping[str, str]
    ran_in: str
    not_run: str
    data: str
    bound: Bound
    passed: bool | None
    comparison: Comparison | None
    attempts: tuple[Attempt, ...]
    files: Mapping[str, Mapping[str, int | str]]
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    processor: str = ""
    architecture: str = ""
    seconds: float = 0.0

    @property
    def layers_in_f32(self) -> tuple[str, ...]:
        """Layers that stay in f32 so that the export is within the bound."""
        return self.attempts[-1].layers_in_f32

    def to_json(self) -> str:
        """The certificate as JSON."""
        mapping = {"schema_version": SCHEMA_VERSION, **to_mapping(self), "disclaimer": DISCLAIMER}
        return json.dumps(mapping, indent=1, allow_nan=False) + "\n"

    def lines(self) -> list[str]:
        """A summary for a person, one line each."""
        if self.comparison is None:
            return [f"NOT RUN: {self.not_run}. Nothing is known of what it computes."]
        said = [
            f"{structure.name}: {_loss(structure.dice_reference, structure.loss)}, "
            + (
                "drawn in none of the images"
                if structure.size_change is None
                else f"{structure.agreement:.4f} with the bundle's own masks"
            )
            for structure in self.comparison.structures
        ]
        if self.comparison.draws_nothing:
            said.append(
                f"nothing was drawn in any of {self.comparison.cases} images, so that equal masks "
                "show nothing: name a data set with --data"
            )
        said.append(
            f"worst logit off by {self.comparison.worst_logit:.3g} "
            f"({self.comparison.worst_logit_part:.2g} of the largest), on {self.data}"
        )
        said.append(
            f"{100 * self.comparison.labels_equal:.4f} % of pixels have the bundle's labels, on "
            f"{self.architecture}"
        )
        if self.layers_in_f32:
            said.append(f"left in f32: {', '.join(self.layers_in_f32)}")
        if self.latency_ms:
            exported, plain = self.latency_ms["exported_best"], self.latency_ms["float_best"]
            said.append(
                f"{exported:.2f} ms in {self.ran_in}, {plain:.2f} ms in the bundle's f32 "
                f"({exported / plain:.2f} times; shortest of calls in turns)"
            )
        return said


def bound_of(precision: str, *, max_drop: float) -> Bound:
    """The bound for exports in a precision.

    Example:
        >>> bound_of("int8", max_drop=0.005), bound_of("bf16", max_drop=0.005).dice
        (Bound(dice=0.005, logit_part=None), 0.002)
    """
    if precision == "int8":
        return Bound(max_drop)
    return Bound(FLOAT_BOUND, LOGIT_BOUND if precision == "f32" else None)


def _loss(reference: float | None, loss: float) -> str:
    if reference is None:
        return "no truth to compare with"
    return f"Dice {reference:.4f} -> {reference - loss:.4f}"
