"""Images of a server take turns at the network: between frames, not after the last one."""

import pytest

from bedside.service.turns import Turns
from servers_for_tests import open_engine
from threads_for_tests import make_clouds
from volume_makers import make_scan


class _CountedTurns(Turns):
    """Turns that count how often others are let go first."""

    def __init__(self) -> None:
        super().__init__(1)
        self.shared = 0

    def share(self) -> None:
        """Count, and let them go."""
        self.shared += 1
        super().share()


@pytest.mark.parametrize("frames", [1, 3])
def test_an_image_lets_others_go_between_its_frames_and_not_when_it_is_done(
    tmp_path, monkeypatch, frames
):
    turns, done = _CountedTurns(), []
    with open_engine(tmp_path) as engine:
        monkeypatch.setattr(engine, "_turns", turns)
        film = make_scan(make_clouds(frames, 40, 50))
        engine.segment("plane", film, on_frame=done.append)
    assert done == list(range(1, frames + 1))
    assert turns.shared == frames - 1
