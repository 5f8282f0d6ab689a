import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from bedside.runtime import autotune
from bedside.runtime.fastest import Fastest

# How long an example takes says more of a busy machine than of the code.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Where all programs of others have to be, a test that misses one has failed."""
    report = yield
    is_skipped = report.skipped and "NOT TESTED" in str(report.longrepr)
    if is_skipped and os.environ.get("BEDSIDE_PEERS") == "required":
        report.outcome = "failed"
    return report


@pytest.fixture(autouse=True)
def _no_choice_by_the_clock(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No test depends on what is faster here: the first way, the default, always wins."""
    cache = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr(
        autotune, "find_fastest", lambda calls, *, total_s: Fastest(next(iter(calls)), {})
    )
