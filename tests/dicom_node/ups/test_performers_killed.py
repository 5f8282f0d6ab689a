"""Several performers of one worklist, each killed in the middle: every item is completed once."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import performer_program
from ups_for_tests import make_work_item

ITEMS, PERFORMERS = 9, 2


def test_every_work_item_is_completed_once(ups, archive, image, tmp_path):
    for number in range(ITEMS):
        ups.schedule(make_work_item(f"1.2.{number}", [image]), [image])
    program = Path(performer_program.__file__)
    fetched = threading.Semaphore(0)
    ups.on_images = fetched.release

    def start(number):
        arguments = [str(tmp_path / str(number)), ups.url, str(archive.port), str(image)]
        return subprocess.Popen([sys.executable, program, *arguments])

    processes = [start(number) for number in range(PERFORMERS)]
    try:
        for number in range(PERFORMERS):
            assert fetched.acquire(timeout=120)
            os.kill(processes[number].pid, signal.SIGKILL)
            processes[number].wait()
            processes[number] = start(number)
        assert ups.wait_until(list(ups.items), "COMPLETED")
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert set(ups.completions.values()) == {1}
    assert set(ups.claims.values()) == {1}
    assert set(archive.received) == {f"1.2.{number}.1" for number in range(ITEMS)}
    assert set(archive.received.values()) == {1}
