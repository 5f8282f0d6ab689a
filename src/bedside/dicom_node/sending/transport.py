"""What a runner needs of a destination, whichever protocol it speaks."""

from collections.abc import Sequence
from typing import Protocol

from bedside.dicom_node.sending.delivery import FileReply, Finding
from bedside.dicom_node.sending.instance import Instance


class Transport(Protocol):
    """Sends files to one destination and asks for them."""

    @property
    def can_ask(self) -> bool:
        """Whether the destination can be asked for files."""

    def send(self, instances: Sequence[Instance]) -> list[FileReply]:
        """Return the answer to each file; whatever fails is an answer too."""

    def ask(self, instances: Sequence[Instance], transaction_uid: str) -> Finding:
        """Return which files are there.

        Args:
            instances: The files.
            transaction_uid: Name for this question, unique; reports that come later have it.
        """

    def close(self) -> None:
        """Release connections."""
