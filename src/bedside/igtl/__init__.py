"""OpenIGTLink: images, transforms and texts from and to scanners, trackers and 3D Slicer.

`encode_message` and `MessageReader` turn messages into bytes and back; `IgtlServer` and
`IgtlClient` exchange them over TCP, the latest first of all.
"""

from bedside.igtl.client import IgtlClient
from bedside.igtl.codec import encode_message
from bedside.igtl.messages import (
    Content,
    Fault,
    Image,
    Message,
    Opaque,
    Sensor,
    Status,
    String,
    Transform,
    Video,
)
from bedside.igtl.outbox import IgtlCounts
from bedside.igtl.reader import MessageReader
from bedside.igtl.server import IgtlServer

__all__ = [
    "Content",
    "Fault",
    "IgtlClient",
    "IgtlCounts",
    "IgtlServer",
    "Image",
    "Message",
    "MessageReader",
    "Opaque",
    "Sensor",
    "Status",
    "String",
    "Transform",
    "Video",
    "encode_message",
]
