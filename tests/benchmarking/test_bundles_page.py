from pathlib import Path

import pytest

pytest.importorskip("torch")

from bundles import HERE, format_page


def test_the_page_of_what_bundles_reach_is_what_their_cards_say():
    assert (Path(HERE) / "bundles.md").read_text(encoding="utf-8") == format_page()
