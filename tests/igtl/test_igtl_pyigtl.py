"""The same messages by pyigtl, an implementation of others."""

import signal

import numpy as np
import pytest

from bedside.igtl import IgtlClient, IgtlServer, Image, Message, MessageReader, String, Transform
from bedside.igtl.codec import encode_message
from igtl_makers import DTYPES, WAIT_S, make_image, wait_until
from ports_for_tests import find_port

pyigtl = pytest.importorskip("pyigtl")
messages = pytest.importorskip("pyigtl.messages")

AFFINE = np.array([[0, 0.3, 0.4, 3], [0.1, 0.25, 0, -4], [2.0, 0, 0.1, 5], [0, 0, 0, 1]])
IJK = [2, 1, 0, 3]
"""pyigtl's matrix is for (column, row, slice)."""


def by_pyigtl(data):
    """What pyigtl reads from the bytes of a message."""
    fields = messages.MessageBase.parse_header(data[:58])
    found = messages.MessageBase.create_message(fields["message_type"])
    found.unpack(fields, data[58:])
    return found


def check_image(theirs, ours):
    assert theirs.image.dtype == ours.pixels.dtype
    expected = np.moveaxis(ours.pixels, 0, -1)
    np.testing.assert_array_equal(theirs.image.reshape(expected.shape), expected)
    assert theirs.world_coordinate_system == ours.space.lower()
    flip = np.diag([-1.0, -1, 1, 1]) if ours.space == "RAS" else np.eye(4)
    np.testing.assert_allclose(
        theirs.ijk_to_world_matrix, (flip @ ours.geometry.affine)[:, IJK], atol=1e-5
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("space", ["LPS", "RAS"])
@pytest.mark.parametrize("version", [1, 2])
def test_pyigtl_reads_our_images_and_we_read_its_own(dtype, components, space, version):
    image = make_image((components, 2, 3, 4), dtype=dtype, space=space, affine=AFFINE)
    metadata = {"patient": "none"} if version == 2 else {}
    sent = Message(image, "probe", 1.7e9, version, 0, metadata)
    theirs = by_pyigtl(encode_message(sent))
    check_image(theirs, image)
    assert (theirs.device_name, theirs.timestamp) == ("probe", 1.7e9)
    assert theirs.metadata == metadata

    if image.pixels.dtype.str[0] == ">":
        return  # pyigtl does not write these
    (back,) = MessageReader().feed(theirs.pack())
    check_image(theirs, back.content)
    np.testing.assert_allclose(back.content.geometry.affine, AFFINE, atol=1e-5)
    assert dict(back.metadata) == metadata


def test_texts_and_transforms_are_the_same_bytes():
    matrix = np.eye(4)
    matrix[:3] = np.arange(12).reshape(3, 4)
    for ours, theirs in (
        (String("area"), pyigtl.StringMessage("area", timestamp=5, device_name="a")),
        (Transform(matrix), pyigtl.TransformMessage(matrix, timestamp=5, device_name="a")),
    ):
        assert encode_message(Message(ours, "a", 5)) == theirs.pack()


@pytest.fixture
def handlers():
    """Its server sets handlers of signals."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_images_pass_from_our_server_to_its_client_and_back():
    image = make_image((3, 1, 48, 64), affine=AFFINE)
    received = []
    with IgtlServer(0, on_item=lambda client, item: received.append(item)) as server:
        client = pyigtl.OpenIGTLinkClient("127.0.0.1", server.port)
        try:
            wait_until(lambda: server.clients == 1)
            server.send(Message(image, "probe"))
            theirs = client.wait_for_message("probe", timeout=20)
            check_image(theirs, image)
            client.send_message(theirs)
            wait_until(lambda: received)
        finally:
            client.stop()
        check_image(theirs, received[0].content)


@pytest.mark.usefixtures("handlers")
def test_images_pass_from_its_server_to_our_client_and_back():
    image = make_image((1, 1, 48, 64), dtype="<u2", affine=AFFINE)
    server, received = pyigtl.OpenIGTLinkServer(find_port(), local_server=True), []
    try:
        with IgtlClient(server.port, on_item=received.append) as client:
            wait_until(lambda: client.connected and server.is_connected())
            client.send(Message(image, "probe"))
            theirs = server.wait_for_message("probe", timeout=WAIT_S)
            check_image(theirs, image)
            server.send_message(theirs)
            wait_until(lambda: received)
            assert isinstance(received[0].content, Image)
            check_image(theirs, received[0].content)
    finally:
        server.stop()
