"""Parallel work by threads: OpenCV, zlib and numpy release the interpreter lock."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Thread
from typing import TypeVar

import cv2

Item = TypeVar("Item")
Result = TypeVar("Result")

# What is done to a slice is short: more threads wait for each other, and hold more memory.
_MOST = 4
_PATIENCE_S = 5.0


def count_workers() -> int:
    """Return the number of workers: the threads that OpenCV may use, at most 4.

    So what keeps OpenCV within the cores of a process keeps all of it there.
    """
    return max(1, min(cv2.getNumThreads(), _MOST))


@contextmanager
def run_in_background(call: Callable[[], Result]) -> Iterator[Callable[[], Result]]:
    """Run a function in parallel with the block, or before it if there is one worker.

    The block does not end before the function has, whatever is raised; after Ctrl-C it waits for
    a few seconds only.

    Yields:
        A function that waits for the result, and raises what `call` raises.

    Example:
        >>> with run_in_background(lambda: 3) as three:
        ...     four = 4
        ...     print(three() + four)
        7
    """
    future: Future[Result] = Future()
    # A daemon, as Python would wait for any other at its end.
    thread = Thread(target=_fulfil, args=(future, call), daemon=True)
    thread.start()
    patience_s = None
    try:
        if count_workers() == 1:
            wait([future])
        yield future.result
    except Exception:
        raise
    except BaseException:
        # Ctrl-C may have broken an import off and left its lock, for which the thread waits.
        patience_s = _PATIENCE_S
        raise
    finally:
        thread.join(patience_s)


def _fulfil(future: "Future[Result]", call: Callable[[], Result]) -> None:
    """Call a function, and store its result or error in a future."""
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
        future.set_exception(error)


def ordered_map(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Process items in parallel, and yield the results in the order of the items.

    Items are taken from the caller's thread, and no further ahead than is worked on, so that
    neither they nor their results pile up.

    Args:
        work: What is done; called from several threads.
        items: What it is done to.

    Yields:
        The results; what `work` raises is raised here.

    Example:
        >>> list(ordered_map(abs, [-3, 1, -2]))
        [3, 1, 2]
    """
    workers = count_workers()
    yield from _map_ahead(work, items, workers=workers, ahead=workers)


def run_ahead(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Process items one by one in a thread, beside what the caller does with the results.

    It is ahead by one item at most. With one worker it is `map`.

    Args:
        work: What is done; called from another thread, never twice at a time.
        items: What it is done to; taken from the caller's thread.

    Yields:
        The results in the order of the items; what `work` raises is raised here.

    Example:
        >>> list(run_ahead(abs, [-3, 1, -2]))
        [3, 1, 2]
    """
    yield from _map_ahead(work, items, workers=min(count_workers(), 2) - 1, ahead=1)


def _map_ahead(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int, ahead: int
) -> Iterator[Result]:
    """Process items by a number of threads; the caller's alone does it if they are too few."""
    if workers == 0 or count_workers() == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
