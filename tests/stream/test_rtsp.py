"""RTSP over TCP from a real server, GStreamer's, which is killed and started again."""

import contextlib
import subprocess

import numpy as np
import pytest

from bedside.stream.network import NetworkFrames

pytest.importorskip("av", reason="PyAV (bedside[av]) reads addresses")

PYTHON = "/usr/bin/python3"
"""GStreamer's bindings are for the system's Python."""
BEGIN = """
import gi, sys
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
"""
SERVE = (
    BEGIN
    + """
server, film = GstRtspServer.RTSPServer(), GstRtspServer.RTSPMediaFactory()
server.set_address("127.0.0.1")
server.set_service(sys.argv[1])
film.set_launch("( videotestsrc is-live=true pattern=ball ! "
    "video/x-raw,width=320,height=240,framerate=30/1 ! "
    "x264enc tune=zerolatency key-int-max=15 ! rtph264pay name=pay0 pt=96 )")
server.get_mount_points().add_factory("/film", film)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
"""
)
CHECK = BEGIN + 'sys.exit(not all(map(Gst.ElementFactory.find, ("x264enc", "rtph264pay"))))'


def has_server():
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run([PYTHON, "-c", CHECK], capture_output=True, timeout=30)
        return done.returncode == 0
    return False


@contextlib.contextmanager
def serve(port="0"):
    command = [PYTHON, "-c", SERVE, port]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.skipif(
    not has_server(),
    reason="GStreamer's RTSP server is not installed: apt install gir1.2-gst-rtsp-server-1.0 "
    "python3-gi gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly",
)
def test_frames_of_an_rtsp_server_come_and_come_again_when_it_was_killed():
    with serve() as port:
        source = NetworkFrames(f"rtsp://127.0.0.1:{port}/film", silent_s=5.0)
        coming = iter(source)
        pictures = [next(coming)[0]() for _ in range(40)]
    assert {(each.shape, each.dtype) for each in pictures} == {((240, 320, 3), np.dtype("u1"))}
    assert not np.array_equal(pictures[5], pictures[-1])
    with serve(port):
        told = []
        while len(told) < 2:
            found, _ = next(coming)
            told += [str(found)] if isinstance(found, Exception) else []
        assert "was lost" in told[0]
        assert "is connected again" in told[1]
        assert next(coming)[0]().shape == (240, 320, 3)
        source.close()
    assert source.connects == 2
