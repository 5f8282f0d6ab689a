"""A peer of the node that speaks DICOM byte by byte, and may break every rule."""

import contextlib
import io
import socket
import struct

from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage
from pynetdicom import build_context
from pynetdicom.dimse_messages import C_ECHO_RQ, C_STORE_RQ
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.pdu import A_ASSOCIATE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)

ACCEPTED, REJECTED, DATA, ABORTED = 2, 3, 4, 7
VERIFICATION = "1.2.840.10008.1.1"


class RawPeer:
    """A connection.

    Args:
        address: Host and port.
        source: Our own address.
        tls: Encrypts it; None for no encryption.
        name: What a peer over TLS is called.
    """

    def __init__(self, address, *, source="", tls=None, name=None):
        self.socket = socket.create_connection(address, timeout=60, source_address=(source, 0))
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname=name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def associate(self):
        """Ask for an association for C-ECHO (context 1) and ultrasound films (context 3)."""
        self.send(make_request())
        kind, _ = self.read()
        assert kind == ACCEPTED, kind

    def read(self):
        """Read a PDU; return its type and content."""
        head = self._read(6)
        kind, _, length = struct.unpack(">BBI", head)
        return kind, self._read(length)

    def is_cut(self):
        """Wait until the other side ends the connection; what it still sends does not matter."""
        with contextlib.suppress(ConnectionError):
            while self.socket.recv(4096):
                pass
        return True

    def _read(self, length):
        data = b""
        while len(data) < length:
            got = self.socket.recv(length - len(data))
            if not got:
                raise ConnectionError("cut")
            data += got
        return data


def make_request(*, contexts=None, items=()):
    """Return a whole A-ASSOCIATE-RQ."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "RAW", "BEDSIDE"
    primitive.calling_presentation_address = primitive.called_presentation_address = None
    contexts = contexts or [
        build_context(VERIFICATION, ExplicitVRLittleEndian),
        build_context(UltrasoundMultiFrameImageStorage, ExplicitVRLittleEndian),
    ]
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
    primitive.presentation_context_definition_list = contexts
    length, name = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, name.implementation_class_uid = 16384, "1.2.3"
    primitive.user_information = [length, name, *items]
    return A_ASSOCIATE_RQ(primitive).encode()


def make_echo():
    """Return the PDU of a C-ECHO."""
    primitive = C_ECHO()
    primitive.MessageID, primitive.AffectedSOPClassUID = 1, VERIFICATION
    return _encode(C_ECHO_RQ(), primitive, 1)[0]


def make_store(dataset_bytes, *, uid="1.2.3.4", sop_class=UltrasoundMultiFrameImageStorage):
    """Return the PDU of the command of a C-STORE, and those of its data set."""
    primitive = C_STORE()
    primitive.MessageID, primitive.Priority = 1, 2
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = sop_class, uid
    primitive.DataSet = io.BytesIO(dataset_bytes)
    command, *data = _encode(C_STORE_RQ(), primitive, 3)
    return command, data


def make_data(content, *, context=3, is_last=False):
    """Return a PDU with one piece of a data set."""
    piece = struct.pack(">IBB", len(content) + 2, context, 2 if is_last else 0) + content
    return struct.pack(">BBI", DATA, 0, len(piece)) + piece


def encode_dataset(dataset):
    """Return a data set as it travels: explicit VR, little endian."""
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = False, True
    write_dataset(file, dataset)
    return file.getvalue()


def _encode(message, primitive, context):
    message.primitive_to_message(primitive)
    return [P_DATA_TF(each).encode() for each in message.encode_msg(context, 16382)]
