"""The log of a server: nobody waits for who reads it."""

import contextlib
import logging
import os
import time

from bedside.serve.logs import LogWriter


def open_pipe():
    """A reader, and a writer that blocks once 64 KiB are unread."""
    read, write = os.pipe()
    return open(read, encoding="utf-8"), open(write, "w", encoding="utf-8")


def log_lines(writer, count, text):
    logger = logging.Logger("bedside.test")
    logger.addHandler(writer)
    for number in range(count):
        logger.info("%s %d", text, number)


def test_a_reader_that_does_not_read_holds_up_nobody_and_is_told_what_it_missed():
    reader, file = open_pipe()
    writer = LogWriter(file, most=50)
    log_lines(writer, 1, "x" * 2**18)  # more than the pipe takes
    while writer._lines:  # until it is being written, which takes a reader
        time.sleep(0.01)
    log_lines(writer, 80, "line")  # returns, though nobody reads
    found = []
    while not found or "missing" not in found[-1]:
        found.append(reader.readline())
    assert found[1:51] == [f"line {number}\n" for number in range(50)]
    assert found[51] == "30 lines are missing: the log is read too slowly\n"
    writer.close()
    file.close()
    reader.close()


def test_what_waits_is_written_at_the_end():
    reader, file = open_pipe()
    writer = LogWriter(file)
    log_lines(writer, 3, "line")
    writer.close()
    file.close()
    assert reader.read() == "line 0\nline 1\nline 2\n"
    reader.close()


def test_a_reader_that_is_gone_ends_nothing():
    reader, file = open_pipe()
    reader.close()
    writer = LogWriter(file)
    log_lines(writer, 3, "line")
    writer.close()
    assert not writer._thread.is_alive()
    with contextlib.suppress(BrokenPipeError):
        file.close()
