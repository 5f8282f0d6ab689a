"""Events over a WebSocket: heard again after the channel broke, with the token, until the end."""

import json
import queue
import threading

from websockets.sync.server import serve

from bedside.dicom_node.sending.destination import Tls
from bedside.dicom_node.ups.events import EventListener


def test_a_channel_that_breaks_is_opened_again(tmp_path):
    (token := tmp_path / "token").write_text("secret\n")
    connections, tokens = [], []
    connected = threading.Semaphore(0)

    def handle(channel):
        tokens.append(channel.request.headers.get("Authorization"))
        connections.append(channel)
        connected.release()
        for _ in channel:
            pass

    def cancel(uid):
        event = {"00001000": {"Value": [uid]}, "00001002": {"Value": [2]}}
        connections[-1].send(json.dumps(event))

    heard = queue.Queue()
    with serve(handle, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        listener = EventListener(heard.put, token_file=token, tls=Tls())
        channel = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/subscribers/A"
        for _ in range(2):  # a second call changes nothing
            listener.listen(channel)
        assert connected.acquire(timeout=60)
        connections[-1].send("no event")
        cancel("1.2.1")
        assert heard.get(timeout=60) == "1.2.1"
        connections[-1].close()
        assert connected.acquire(timeout=60)
        cancel("1.2.2")
        assert heard.get(timeout=60) == "1.2.2"
        listener.close()
        server.shutdown()
        thread.join()
    assert set(tokens) == {"Bearer secret"}


def test_a_listener_without_a_server_ends(tmp_path):
    listener = EventListener(lambda uid: None, token_file=tmp_path / "none", tls=Tls())
    listener.listen("ws://127.0.0.1:9/subscribers/A")
    listener.close()
    EventListener(lambda uid: None, token_file=None, tls=Tls()).close()
