"""Instances that DICOMweb stores are handed to the DICOM node."""

from pathlib import Path

from bedside.dicom_node.files import FileReceiver
from bedside.http_api.dicomweb.instances import InstanceIds

CALLING_AE = "STOW-RS"
"""What routes know these senders by."""


class NodeIntake:
    """The node's receiver, as the DICOMweb door calls it.

    Args:
        receiver: The node's.
    """

    def __init__(self, receiver: FileReceiver) -> None:
        self._receiver = receiver

    def store(self, path: Path, ids: InstanceIds, *, association: int) -> int:
        """Hand over an instance."""
        return self._receiver.store(path, association=association, calling_ae=CALLING_AE)

    def finish(self, association: int) -> None:
        """End a request."""
        self._receiver.end(association)
