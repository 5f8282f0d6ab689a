"""A process that performs work items until it is killed: STATE, URL, archive's PORT, IMAGE."""

import sys
import threading
from pathlib import Path

from pydicom import dcmread

from bedside.dicom_node.sending.destination import DicomDestination, RetryPolicy, WebDestination
from bedside.dicom_node.sending.sender import Sender
from bedside.dicom_node.ups.performer import PerformerSettings
from bedside.dicom_node.ups.service import Peers, PerformerService
from bedside.dicom_node.ups.ups_rs import WorklistService
from bedside.service.jobs import JobStore


def run(state: str, url: str, port: str, image: str) -> None:
    """Perform, for ever."""
    seg = dcmread(Path(image).with_name("segmentation.dcm"))

    def work(item, inputs, outputs, report):
        """The SEG of the image, under a UID that follows from the work item."""
        seg.SOPInstanceUID = seg.file_meta.MediaStorageSOPInstanceUID = f"{item.uid}.1"
        report(0.5)
        seg.save_as(outputs / "segmentation.dcm", enforce_file_format=True)

    retry = RetryPolicy(first_s=0.05, longest_s=0.2)
    archive = DicomDestination("pacs", "127.0.0.1", int(port), "ARCHIVE", retry=retry)
    settings = PerformerSettings("pacs", f"P{Path(state).name}"[:16], retry=retry, look_s=0.1)
    peers = Peers(WorklistService(url), WebDestination("images", url))
    with JobStore(Path(state)) as store, Sender(store, [archive]) as sender:
        sender.start()
        with PerformerService(store, peers, sender, work, settings) as service:
            service.start()
            threading.Event().wait()


if __name__ == "__main__":
    run(*sys.argv[1:])
