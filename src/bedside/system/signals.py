"""Ends the command on a signal: one line, no children, nothing half-written.

Only the command line arms this, so a program that imports bedside keeps its own handlers and
sees KeyboardInterrupt as usual. In a command the exception could come in the middle of an import or
of a library's cleanup, where it is lost, or leaves a lock that a thread then waits for. So the
handler raises nothing: it cleans up itself and ends the process.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
# Python runs handlers in the main thread. If that is still inside a library's call after this time,
# another thread ends the process.
_PATIENCE_S = 5.0
# A killed child ends only after its pending writes to disk.
_DEATH_S = 15.0
# After this time, what is not cleaned up yet is left.
_LONGEST_S = 60.0
_PR_SET_PDEATHSIG = 1

_lock = threading.RLock()
_undo: dict[object, Callable[[], None]] = {}
_state = {"held": 0, "pending": 0, "ending": 0, "handed_over": 0, "stopping": 0}


def arm() -> None:
    """End this process in order on SIGINT, SIGTERM and SIGHUP, with 128 + the signal's number.

    A signal that is ignored already stays so: `nohup`, and a shell's background jobs.
    """
    caught = [number for number in _numbers() if signal.getsignal(number) != signal.SIG_IGN]
    for number in caught:
        signal.signal(number, _take)
    if os.name == "posix":
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        threading.Thread(target=_watch, args=(reading, frozenset(caught)), daemon=True).start()


@contextlib.contextmanager
def undone_early(undo: Callable[[], None]) -> Iterator[None]:
    """Register a cleanup that runs if a signal ends the process within the block.

    Args:
        undo: What to do then; after the children are gone, the latest first. What it raises
            is ignored.
    """
    key = object()
    with _lock:
        _undo[key] = undo
    try:
        yield
    finally:
        with _lock:
            _undo.pop(key, None)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Delay signals until a block of a few renames has ended."""
    with _lock:
        _state["held"] += 1
    try:
        yield
    finally:
        with _lock:
            _state["held"] -= 1
        if _state["pending"] and not _state["held"]:
            _end(_state["pending"])


@contextlib.contextmanager
def handed_over(stop: Callable[[], None]) -> Iterator[None]:
    """Leave SIGINT and SIGTERM to a block that ends in order, as a server does.

    A second signal within the block ends the process at once, as outside of it.

    Args:
        stop: Called at the first signal, in the main thread; must return at once.
    """

    def take(number: int, frame: FrameType | None) -> None:
        if _state["stopping"]:
            _take(number, frame)
        _state["stopping"] = number
        stop()

    before = {
        number: signal.signal(number, take)
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) != signal.SIG_IGN
    }
    _state["handed_over"] = 1
    try:
        yield
    finally:
        _state["handed_over"] = _state["stopping"] = 0
        for number, handler in before.items():
            signal.signal(number, handler)


def starting() -> contextlib.AbstractContextManager[None]:
    """Block SIGINT in children that are started within the block; their parent handles it."""
    return _masked() if hasattr(signal, "pthread_sigmask") else contextlib.nullcontext()


def end_with_parent() -> None:
    """Ask Linux to kill this process when its parent ends."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextlib.contextmanager
def _masked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _numbers() -> list[signal.Signals]:
    """List the signals that this system knows."""
    return [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]


def _take(number: int, _frame: FrameType | None) -> None:
    """Handle a signal, in the main thread."""
    if _state["held"]:
        _state["pending"] = number
    else:
        _end(number)


def _watch(reading: int, caught: frozenset[int]) -> None:
    """End the process if the main thread does not handle a signal in time."""
    while number := os.read(reading, 1):
        if number[0] in caught and not _state["handed_over"]:
            time.sleep(_PATIENCE_S)
            _end(number[0])
            time.sleep(_LONGEST_S)
            os._exit(128 + number[0])


def _end(number: int) -> None:
    """Clean up and end the process; a second signal changes nothing."""
    if _state["ending"]:
        return
    _state["ending"] = number
    with contextlib.suppress(ValueError):  # not in the main thread
        for each in _numbers():
            signal.signal(each, signal.SIG_IGN)
    # Never released: what another thread begins from here on waits for the end.
    _lock.acquire(timeout=_PATIENCE_S)
    _say(number)
    kill_descendants()
    for undo in reversed(list(_undo.values())):
        with contextlib.suppress(Exception):
            undo()
    os._exit(128 + number)


def _say(number: int) -> None:
    """Write the message to file descriptor 2; Python's buffers may be in use."""
    how = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
    # A bar of progress has hidden the cursor, and stands where the line goes.
    clear = "\r\x1b[K\x1b[?25h" if os.isatty(2) else ""
    with contextlib.suppress(OSError):
        os.write(2, f"{clear}bedside: interrupted{how}.\n".encode())


def kill_descendants() -> None:
    """Kill all descendants of this process, and wait until they have ended.

    Where the system does not list processes nothing is done.
    """
    until = time.monotonic() + _DEATH_S
    # One that is being killed may just be starting another, and is not gone before all of its
    # threads are, although the system lists it as dead.
    while ((found := _find_descendants()) or _has_children()) and time.monotonic() < until:
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _has_children() -> bool:
    """Reap ended children; return whether one is left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except (OSError, AttributeError):
        return False
    return True


def _find_descendants() -> list[int]:
    """Return the running descendants of this process (proc(5), field 4)."""
    children: dict[int, list[int]] = {}
    with contextlib.suppress(OSError):
        for name in filter(str.isdigit, os.listdir("/proc")):
            with (
                contextlib.suppress(OSError, ValueError, IndexError),
                open(f"/proc/{name}/stat", "rb") as file,
            ):
                state, parent = file.read().rpartition(b")")[2].split()[:2]
                if state not in (b"Z", b"X"):
                    children.setdefault(int(parent), []).append(int(name))
    found, new = [], [os.getpid()]
    while new:
        new = [child for pid in new for child in children.get(pid, [])]
        found += new
    return found
