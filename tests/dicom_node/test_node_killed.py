"""A server that is killed again and again: each acknowledged series has one result, whole."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time

from pydicom import dcmread

from archive_for_tests import Archive
from bedside.dicom_node.series import CONFIRMED, KIND
from bedside.service.jobs import JobStore
from dicom_node_for_tests import is_listening, send, wait_for, write_cine
from ports_for_tests import find_port
from servers_for_tests import write_models

SERIES, KILLS = 4, 2
CONFIG = """
state = "{folder}/state"
threads = 1
[[model]]
name = "plane"
bundle = "{folder}/plane.bedside"
[http]
port = 0
health_port = 0
[dicom]
port = {port}
settle_s = 0.5
limits = {{free_mb = 1}}
[[dicom.route]]
model = "plane"
[[dicom.archive]]
name = "pacs"
host = "127.0.0.1"
port = {archive}
ae_title = "ARCHIVE"
retry = {{first_s = 0.05, longest_s = 0.1}}
"""


@contextlib.contextmanager
def served(folder, port):
    """Run `bedside serve` within a block, and kill it at its end."""
    command = [sys.executable, "-m", "bedside", "serve", "--config", str(folder / "serve.toml")]
    with (folder / "log").open("ab") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            wait_for(
                lambda: process.poll() is None and is_listening(("127.0.0.1", port)), timeout_s=120
            )
            yield process
        finally:
            os.kill(process.pid, signal.SIGKILL)


def test_killed_at_random_moments_each_series_is_answered_once(tmp_path):
    write_models(tmp_path)
    chance, port = random.Random(), find_port()
    waiting = []
    for number in range(SERIES):

        def name(dataset, number=number):
            dataset.SeriesInstanceUID, dataset.SOPInstanceUID = f"1.2.{number}", f"1.3.{number}"

        waiting.append(write_cine(tmp_path / f"{number}.dcm", frames=2, edit=name))

    with Archive() as archive:
        text = CONFIG.format(folder=tmp_path, port=port, archive=archive.port)
        (tmp_path / "serve.toml").write_text(text)
        for _ in range(KILLS):
            with served(tmp_path, port):
                if send(("127.0.0.1", port), waiting[0])[0]:  # else it will be sent again
                    waiting.pop(0)
                time.sleep(chance.random() * 1.5)
        with served(tmp_path, port):
            while waiting:
                if send(("127.0.0.1", port), waiting[0])[0]:
                    waiting.pop(0)
            wait_for(lambda: len(archive.kept) >= SERIES)
            with JobStore(tmp_path / "state") as store:
                wait_for(lambda: len(store.list(KIND, [CONFIRMED])) == SERIES)
        assert len(archive.kept) == SERIES
        assert set(archive.received.values()) == {1}
        with JobStore(tmp_path / "state") as store:
            for job in store.list(KIND):
                (name,) = job.payload["results"]
                assert dcmread(store.folder(job) / name).SOPInstanceUID in archive.kept
