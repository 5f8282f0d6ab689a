"""Accuracy of an evaluation, as the model card states it."""

from dataclasses import replace

from bedside.evaluation.cases import Evaluation
from bedside.evaluation.robustness import Robustness
from bedside.spec.card import ArtefactLoss, Card


def state_accuracy(card: Card, evaluation: Evaluation, *, split_unit: str | None = None) -> Card:
    """Return a card with the accuracy of an evaluation on the test part.

    Args:
        card: The card as it is.
        evaluation: Of the test part of the card's split.
        split_unit: What the data set was split by, in the plural, if that is something else than
            the unit of the evaluation; see `bedside.datasets.case.Case`.
    """
    return replace(
        card,
        structures=evaluation.structures,
        test_cases=len(evaluation.cases),
        unit=evaluation.unit,
        units=evaluation.unit_count,
        split_unit=split_unit or evaluation.unit,
    )


def state_robustness(card: Card, robustness: Robustness) -> Card:
    """Return a card with what planted artefacts cost on the test part.

    Args:
        card: The card as it is.
        robustness: Of the test part of the card's split.
    """
    losses = tuple(
        ArtefactLoss(
            each.name,
            tuple(None if loss.mean is None else round(loss.mean, 4) for loss in each.loss),
            warned=round(each.warned, 4),
            refused=round(each.refused, 4),
        )
        for each in robustness.artefacts
    )
    return replace(card, robustness=losses)
