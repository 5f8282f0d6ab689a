import pytest

from bedside.runtime import choice


@pytest.fixture(autouse=True)
def _no_choice_by_the_clock(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No test depends on what is faster here: the first way, the rule's, always wins."""
    cache = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr(
        choice,
        "time_variants",
        lambda calls, total_s: {name: 1.0 + i for i, name in enumerate(calls)},
    )
