import contextlib

import pytest

from bedside.dicom_node.config import DicomSettings, PeerLimits
from bedside.dicom_node.intake import Intake
from bedside.dicom_node.server import DicomServer
from bedside.service.jobs import JobStore


@pytest.fixture
def receive(tmp_path):
    """Start servers that receive, and segment nothing; they leave nothing behind."""
    with contextlib.ExitStack() as stack:

        def start(limits=None, *, receive_report=None, cancel_work=None, **settings):
            settings = {"port": 0, "settle_s": 3600, **settings}
            limits = PeerLimits(**{"free_mb": 1, **(limits or {})})
            store = stack.enter_context(JobStore(tmp_path / "state"))
            settings = DicomSettings(limits=limits, **settings)
            intake = Intake(store, settings, count=lambda sender, series: None)
            stack.callback(intake.close)
            server = DicomServer(
                settings, intake, store.path / "spool", receive_report=receive_report,
                cancel_work=cancel_work,
            )  # fmt: skip
            stack.callback(_close, server, store)
            server.store = store
            intake.start()
            server.start()
            return server

        yield start


def _close(server, store):
    server.close()
    assert server.associations == 0
    assert list((store.path / "spool").iterdir()) == []
