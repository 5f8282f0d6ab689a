import io
import logging
import sys
import threading
import warnings

from bedside.system.quiet import quiet


def test_a_quiet_thread_takes_nothing_from_the_others(monkeypatch):
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    handler = logging.StreamHandler(err)
    logger = logging.getLogger("chatty")
    logger.addHandler(handler)
    inside, done = threading.Event(), threading.Event()

    def chatter(name):
        sys.stdout.write(f"{name} prints\n")
        sys.stderr.write(f"{name} grumbles\n")
        logger.warning("%s logs", name)
        warnings.warn(f"{name} warns", stacklevel=1)

    def work():
        with quiet():
            inside.set()
            done.wait(30)
            chatter("worker")
            logger.error("worker fails")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        thread = threading.Thread(target=work)
        thread.start()
        assert inside.wait(30)
        chatter("main")
        done.set()
        thread.join(30)
        assert warnings.filters == before
    logger.removeHandler(handler)
    assert [str(each.message) for each in caught] == ["main warns"]
    assert out.getvalue() == "main prints\n"
    assert err.getvalue() == "main grumbles\nmain logs\nworker fails\n"
    assert (sys.stdout, sys.stderr) == (out, err)


def test_blocks_of_threads_that_overlap_leave_everything_as_it_was():
    streams, disabled = (sys.stdout, sys.stderr), logging.root.manager.disable
    filters = list(warnings.filters)
    first, second = threading.Event(), threading.Event()

    def work():
        with quiet():
            first.set()
            second.wait(30)

    thread = threading.Thread(target=work)
    thread.start()
    assert first.wait(30)
    with quiet():
        second.set()
        thread.join(30)
        print("nobody sees this")  # noqa: T201
        warnings.warn("nor this", stacklevel=1)
    assert (sys.stdout, sys.stderr) == streams
    assert logging.root.manager.disable == disabled
    assert warnings.filters == filters


def test_without_streams_it_is_quiet_anyway(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with quiet():
        warnings.warn("unheard", stacklevel=1)
    assert (sys.stdout, sys.stderr) == (None, None)
