from dataclasses import dataclass
from pathlib import Path

import pytest

from bedside.cli.arguments import Parser, add_command, option, positional, run_from, settings_from
from bedside.errors import UsageError


@dataclass(frozen=True)
class Brew:
    """Brew 100 % tea.

    More about tea.
    """

    leaf: Path = positional(help="what to brew")
    cup: str = positional(help="where to", default="mug")
    minutes: float = option(help="how long, in % of an hour", default=3.5, short="-m")
    refills: int | None = option(help="how often", default=None)
    kind: str = option(help="which", default="black", choices=("black", "green"))
    no_sugar: bool = option(help="without", default=False)


@dataclass(frozen=True)
class Colliding:
    """Fields named like parts of the machinery."""

    run: Path = positional(help="a run")
    verb: str = option(help="a verb", default="v")


def parse(*words, settings_type=Brew):
    parser = Parser(prog="tea")
    add_command(parser.add_subparsers(), "brew", settings_type, lambda settings: 7)
    return parser.parse_args(["brew", *words])


def test_left_out_arguments_take_their_defaults():
    expected = Brew(leaf=Path("x"), cup="mug", minutes=3.5, refills=None, kind="black")
    assert settings_from(parse("x")) == expected


def test_every_type_is_turned_from_text():
    words = ["x", "pot", "-m", "2", "--refills", "4", "--kind", "green", "--no-sugar"]
    settings = settings_from(parse(*words))
    assert settings == Brew(
        leaf=Path("x"), cup="pot", minutes=2.0, refills=4, kind="green", no_sugar=True
    )
    assert isinstance(settings.minutes, float)


def test_the_verb_carries_what_runs_it():
    assert run_from(parse("x"))(None) == 7


def test_fields_may_be_named_run_and_verb():
    parsed = parse("folder", settings_type=Colliding)
    assert settings_from(parsed) == Colliding(run=Path("folder"), verb="v")
    assert run_from(parsed)(None) == 7


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "LEAF"),
        (["x", "--refills", "many"], "'many'"),
        (["x", "--kind", "red"], "'red'"),
        (["x", "--sweet"], "--sweet"),
        (["x", "--refil", "3"], "--refil"),
    ],
)
def test_wrong_use_is_one_line_that_names_the_word_and_the_help(words, told):
    with pytest.raises(UsageError) as caught:
        parse(*words)
    assert told in str(caught.value)
    assert "--help" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_help_shows_docstring_defaults_and_percent_signs(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    text = capsys.readouterr().out
    assert "Brew 100 % tea." in text
    assert "in % of an hour (default: 3.5)" in " ".join(text.split())


def test_a_field_of_another_type_is_refused():
    @dataclass(frozen=True)
    class Wrong:
        """Wrong."""

        places: list[int] = option(help="where")

    with pytest.raises(TypeError, match="places"):
        parse(settings_type=Wrong)


@dataclass(frozen=True)
class Pour:
    """Pour tea."""

    into: str = positional(help="what", choices=("cup", "pot"))
    sizes: tuple[int, ...] = option(help="how large", default=(1, 2))


def test_a_tuple_takes_one_or_more_values():
    assert settings_from(parse("cup", settings_type=Pour)).sizes == (1, 2)
    assert settings_from(parse("cup", "--sizes", "3", "4", "5", settings_type=Pour)).sizes == (
        3, 4, 5,
    )  # fmt: skip
    with pytest.raises(UsageError, match="sizes"):
        parse("cup", "--sizes", "x", settings_type=Pour)


def test_a_positional_may_have_choices():
    with pytest.raises(UsageError, match="pot"):
        parse("jug", settings_type=Pour)
