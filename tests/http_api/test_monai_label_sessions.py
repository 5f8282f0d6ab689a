"""Sessions end when they are unused, when there is no room, and with the server."""

import pytest

from bedside.errors import ClosedError, LimitError
from bedside.http_api.monai_label.sessions import MAX_EXPIRY_S, MAX_SESSIONS, Sessions


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sessions(clock, tmp_path):
    sessions = Sessions(tmp_path, max_bytes=100, clock=clock)
    yield sessions
    sessions.close()


@pytest.fixture
def give(tmp_path, sessions):
    def give(n_bytes=10, **options):
        path = tmp_path / "image"
        path.write_bytes(bytes(n_bytes))
        return sessions.add(path, **options)

    return give


def test_an_image_is_kept_until_its_session_is_removed(sessions, give):
    session = give()
    assert session.path.stat().st_size == 10
    assert sessions.find(session.id) is session
    assert sessions.remove(session.id) is session
    assert not session.path.exists()
    assert sessions.remove(session.id) is None


def test_a_session_expires_unless_it_is_used(sessions, give, clock):
    used, unused = give(expiry_s=60), give(expiry_s=60)
    clock.now += 50
    assert sessions.find(used.id, touch=True) is used
    clock.now += 50
    assert sessions.find(used.id) is used
    assert sessions.find(unused.id) is None
    assert not unused.path.exists()


def test_no_session_is_kept_longer_than_an_hour(sessions, give, clock):
    session = give(expiry_s=10**9)
    clock.now += MAX_EXPIRY_S + 1
    assert sessions.find(session.id) is None


def test_the_session_unused_for_longest_makes_room(sessions, give):
    first, second, third = give(40), give(40), give(20)
    sessions.find(first.id, touch=True)
    give(40)
    assert sessions.find(second.id) is None
    assert sessions.find(first.id)
    assert sessions.find(third.id)


def test_sessions_are_counted(sessions, give):
    first = give(0)
    for _ in range(MAX_SESSIONS):
        give(0)
    assert sessions.find(first.id) is None


def test_an_image_in_use_stays(sessions, give, clock):
    session = give(90)
    with sessions.using(session.id) as used:
        with pytest.raises(LimitError, match="Remove a session"):
            give(20)
        clock.now += MAX_EXPIRY_S + 1
        assert sessions.find(session.id) is session
        sessions.remove(session.id)
        assert used.path.exists()
    assert not session.path.exists()


def test_an_image_larger_than_all_room_is_refused(sessions, give):
    with pytest.raises(LimitError):
        give(101)


def test_the_files_of_a_folder_count(sessions, tmp_path):
    folder = tmp_path / "series"
    folder.mkdir()
    for name in "ab":
        (folder / name).write_bytes(bytes(51))
    with pytest.raises(LimitError):
        sessions.add(folder)


def test_nothing_is_left_when_they_are_closed(sessions, give):
    session = give()
    sessions.close()
    assert not session.path.parent.exists()
    with pytest.raises(ClosedError):
        give()
