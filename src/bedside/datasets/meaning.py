"""Whether the labels and channels that a data set names are those of a bundle.

Two data sets can number the same structures differently: oedema is 2 in BraTS and 1 in the
Decathlon's copy of it. Where both have names, a number that means something else is refused.
"""

import re
from collections.abc import Mapping, Sequence

from bedside.datasets.case import Case
from bedside.errors import DataError
from bedside.spec import Label

# Names of MR sequences that are the same one.
_SAME = {
    "t1w": "t1", "t1n": "t1", "t1gd": "t1ce", "t1c": "t1ce", "t2w": "t2", "t2f": "flair",
}  # fmt: skip
_NEGATIONS = ("non", "no", "not", "without")


def check_meaning(
    cases: Sequence[Case], labels: Sequence[Label], *, channels: Sequence[str] = ()
) -> None:
    """Check that label values and channels mean in the data set what they mean in a bundle.

    Names that are nothing alike say nothing: only a name that is another label's is refused.

    Args:
        cases: Cases whose values are mapped to labels.
        labels: The bundle's labels.
        channels: Names of the bundle's channels, in order; () without.

    Raises:
        DataError: If a value's name is that of another label, or a channel's that of another
            channel.
    """
    for case in cases:
        _check_labels(case, labels)
        _check_channels(case, channels)


def _check_labels(case: Case, labels: Sequence[Label]) -> None:
    """Refuse a value that is named as another label than the one it stands for."""
    table = case.truth_values or {value: value for value in case.value_names}
    names = {label.value: label.name for label in labels}
    for value, name in case.value_names.items():
        label = table.get(value)
        alike = _find_alike(name, names)
        if label in names and len(alike) == 1 and label not in alike:
            raise DataError(
                f"case {case.case_id}: its data set calls the value {value} of the labels "
                f'"{name}", which is label {alike[0]} here, "{names[alike[0]]}", and not {label}, '
                f'"{names[label]}". Give each value its label, {_suggest(case, names)} '
                "(--relabel, or relabel in [data] of a recipe)."
            )


def _suggest(case: Case, names: Mapping[int, str]) -> str:
    """The labels of values by their names, such as "1=2,2=1"; an example if they do not say."""
    found = {
        value: alike[0]
        for value, name in case.value_names.items()
        if len(alike := _find_alike(name, names)) == 1
    }
    values = [value for value in case.value_names if value not in found]
    left = [number for number in names if number not in found.values()]
    if len(values) == len(left) == 1:
        found |= dict(zip(values, left, strict=True))
    if set(found) != set(case.value_names) or len(set(found.values())) != len(found):
        return "such as 1=2,2=1"
    return ",".join(f"{value}={found[value]}" for value in sorted(found) if value != found[value])


def _find_alike(name: str, names: Mapping[int, str]) -> list[int]:
    """The labels whose names are like one of the data set."""
    return [number for number, own in names.items() if is_alike(name, own)]


def _check_channels(case: Case, channels: Sequence[str]) -> None:
    """Refuse a channel that is named as another channel of the bundle."""
    wanted, given = ([_plain(name) for name in names] for names in (channels, case.channel_names))
    if len(wanted) != len(given):
        return
    for place, name in enumerate(given):
        if name in wanted and name != wanted[place]:
            raise DataError(
                f"case {case.case_id}: the channels of its data set are "
                f"{', '.join(case.channel_names)}; expected {', '.join(channels)}, in this order."
            )


def is_alike(name: str, other: str) -> bool:
    """Whether all words of one name are in the other.

    Example:
        >>> is_alike("edema", "Oedema"), is_alike("Anterior", "Anterior hippocampus")
        (True, True)
        >>> is_alike("non-enhancing tumor", "Enhancing tumour")
        False
    """
    words, others = _words(name), _words(other)
    negated = [not words.isdisjoint(_NEGATIONS), not others.isdisjoint(_NEGATIONS)]
    if not words or not others or negated[0] != negated[1]:
        return False
    return words <= others or others <= words


def _words(name: str) -> frozenset[str]:
    """The words of a name, in American spelling."""
    plain = name.lower().replace("oe", "e").replace("ae", "e").replace("tumour", "tumor")
    return frozenset(re.findall(r"[^\W_]+", plain))


def _plain(name: str) -> str:
    """The name of a channel, one for each sequence of MR."""
    word = re.sub(r"[\W_]", "", name.lower())
    return _SAME.get(word, word)
