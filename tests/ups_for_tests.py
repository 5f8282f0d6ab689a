"""A worklist over HTTP that holds performers to the standard, and serves their inputs.

UPS-RS by PS3.18 chapter 11 with the rules of PS3.4 CC: a claim takes a transaction UID, which is
never shown; only who has it may change the work item; nothing is completed without its results.
"""

import json
import re
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

TRANSACTION, STATE, PERFORMED, PROGRESS = "00081195", "00741000", "00741216", "00741002"
FINAL_RESULTS = ("00404028", "00404050", "00404019", "00404051", "00404033")
_BOUNDARY = "a-boundary"


def make_work_item(uid: str, images: list[Path], *, label: str = "Segment") -> Dataset:
    """A scheduled work item about the series of some images."""
    header = dcmread(images[0], stop_before_pixels=True)
    series = Dataset()
    series.TypeOfInstances = "DICOM"
    series.StudyInstanceUID = header.StudyInstanceUID
    series.SeriesInstanceUID = header.SeriesInstanceUID
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99TEST", "segment"
    item = Dataset()
    item.SOPClassUID = "1.2.840.10008.5.1.4.34.6.1"
    item.SOPInstanceUID = uid
    item.PatientName, item.PatientID = "Canary^Patient", "CANARY-1"
    item.ProcedureStepState, item.InputReadinessState = "SCHEDULED", "READY"
    item.ProcedureStepLabel = label
    item.ScheduledWorkitemCodeSequence = Sequence([code])
    item.InputInformationSequence = Sequence([series])
    return item


class UpsServer:
    """A worklist with images.

    Attributes:
        url: Its root.
        items: Work items by UID, in DICOM JSON.
        completions: How often each work item was completed.
        conflicts: How often something was refused because of state or transaction UID.
        lose_next: Answers to changes of state that get lost: carried out, and then no answer.
        on_images: Called before images are sent.

    Args:
        transaction_in: Where the transaction UID of an update must be, and nowhere else.
        bodies: Whether bodies are a "list" or an "object".
    """

    def __init__(self, *, transaction_in: str = "query", bodies: str = "list") -> None:
        self.transaction_in, self.bodies = transaction_in, bodies
        self.items: dict[str, dict] = {}
        self.images: dict[tuple[str, str], list[Path]] = {}
        self.completions: Counter[str] = Counter()
        self.claims: Counter[str] = Counter()
        self.conflicts, self.lose_next = 0, 0
        self.on_images = lambda: None
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self._subscribers: dict[str, set[str]] = {}
        self._channels: dict[str, list] = {}
        self._sockets = serve(self._serve_channel, "127.0.0.1", 0)
        self._http = _QuietServer(("127.0.0.1", 0), _Handler)
        self._http.ups = self
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/dicom-web"
        port = self._sockets.socket.getsockname()[1]
        self.channel = f"ws://127.0.0.1:{port}/subscribers"
        self._threads = [
            threading.Thread(target=self._http.serve_forever, args=(0.02,)),
            threading.Thread(target=self._sockets.serve_forever),
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._sockets.shutdown()
        for thread in self._threads:
            thread.join()
        self._http.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def schedule(self, item: Dataset, images: list[Path]) -> None:
        with self.lock:
            self.items[item.SOPInstanceUID] = item.to_json_dict()
            for each in item.InputInformationSequence:
                self.images[each.StudyInstanceUID, each.SeriesInstanceUID] = images

    def state(self, uid: str) -> str:
        with self.lock:
            return _get(self.items[uid], STATE)

    def wait_until(self, uids, state: str) -> bool:
        """Wait until work items have a state; return whether they have."""
        with self.changed:
            return self.changed.wait_for(
                lambda: all(self.state(uid) == state for uid in uids), timeout=120
            )

    def item(self, uid: str) -> Dataset:
        with self.lock:
            return Dataset.from_json(self.items[uid])

    def request_cancel(self, uid: str) -> int:
        """What a scheduler does by a request to cancel; return the HTTP status."""
        return self.post_cancel(uid)[0]

    # The transactions; each returns a status, a body and header fields.

    def search(self, query):
        limit, offset = int(query.pop("limit", 100)), int(query.pop("offset", 0))
        tags = {"ProcedureStepState": STATE, "WorklistLabel": "00741202"}
        with self.lock:
            found = [
                _shown(item)
                for item in self.items.values()
                if all(_get(item, tags[key]) == value for key, value in query.items())
            ]
        found = found[offset : offset + limit]
        return (200, found, {}) if found else (204, None, {})

    def retrieve(self, uid):
        with self.lock:
            return (200, [_shown(self.items[uid])], {}) if uid in self.items else (404, None, {})

    def change(self, uid, body):
        with self.lock:
            if uid not in self.items:
                return 404, None, {}
            item, key, wanted = self.items[uid], _get(body, TRANSACTION), _get(body, STATE)
            refusal = self._refuse(item, key, wanted)
            if refusal:
                self.conflicts += 1
                return refusal, None, {"Warning": "299 test: refused"}
            if wanted == "IN PROGRESS":
                item[TRANSACTION] = {"vr": "UI", "Value": [key]}
                self.claims[uid] += 1
            elif wanted == "COMPLETED" and _get(item, STATE) != wanted:
                self.completions[uid] += 1
            item[STATE] = {"vr": "CS", "Value": [wanted]}
            self.changed.notify_all()
            if self.lose_next:
                self.lose_next -= 1
                return None, None, {}
        return 200, None, {}

    def _refuse(self, item, key, wanted):
        """The status of a refusal; None if the change is allowed (PS3.4 table CC.1.1-2)."""
        now = _get(item, STATE)
        if not key or wanted not in ("IN PROGRESS", "COMPLETED", "CANCELED"):
            return 400
        if wanted == "IN PROGRESS":
            return None if now == "SCHEDULED" else 409
        if now == "SCHEDULED" or (now != wanted and now != "IN PROGRESS"):
            return 409
        if key != _get(item, TRANSACTION):
            return 400
        return None if now == wanted or _may_end(item, wanted) else 409

    def update(self, uid, body, query):
        with self.lock:
            if uid not in self.items:
                return 404, None, {}
            item, now = self.items[uid], _get(self.items[uid], STATE)
            keys = {
                "query": query.get("transaction-uid"),
                "key": next(iter(query), None),
                "body": _get(body, TRANSACTION),
            }
            key = keys[self.transaction_in]
            is_in_body = TRANSACTION in body and self.transaction_in != "body"
            if (
                STATE in body
                or is_in_body
                or (now == "IN PROGRESS" and key != _get(item, TRANSACTION))
            ):
                self.conflicts += 1
                return 400, None, {}
            if now in ("COMPLETED", "CANCELED"):
                self.conflicts += 1
                return 409, None, {}
            item.update({tag: value for tag, value in body.items() if tag != TRANSACTION})
        return 200, None, {}

    def post_cancel(self, uid):
        with self.lock:
            now = _get(self.items[uid], STATE)
            if now == "SCHEDULED":
                self.items[uid][STATE]["Value"] = ["CANCELED"]
                return 202, None, {}
            subscribers = self._subscribers.get(uid)
            if now != "IN PROGRESS" or not subscribers:
                return 409, None, {}
            event = {
                "00001000": {"vr": "UI", "Value": [uid]},
                "00001002": {"vr": "US", "Value": [2]},
            }
            channels = [each for title in subscribers for each in self._channels.get(title, [])]
        for channel in channels:
            channel.send(json.dumps(event))
        return 202, None, {}

    def subscribe(self, uid, ae_title):
        with self.lock:
            if uid not in self.items:
                return 404, None, {}
            self._subscribers.setdefault(uid, set()).add(ae_title)
        return 201, None, {"Content-Location": f"{self.channel}/{ae_title}"}

    def has_channel(self, ae_title):
        with self.lock:
            return bool(self._channels.get(ae_title))

    def _serve_channel(self, channel):
        title = channel.request.path.rpartition("/")[2]
        with self.lock:
            self._channels.setdefault(title, []).append(channel)
        try:
            for _ in channel:
                pass
        except ConnectionClosed:
            pass
        finally:
            with self.lock:
                self._channels[title].remove(channel)


def _may_end(item, wanted):
    """Whether the attributes that a final state needs are there (PS3.4 table CC.2.5-3)."""
    if wanted == "COMPLETED":
        results = (item.get(PERFORMED, {}).get("Value") or [{}])[0]
        return all(tag in results for tag in FINAL_RESULTS)
    progress = (item.get(PROGRESS, {}).get("Value") or [{}])[0]
    return "0074100E" in progress


def _get(item, tag):
    values = item.get(tag, {}).get("Value") or [None]
    return values[0]


def _shown(item):
    return {tag: value for tag, value in item.items() if tag != TRANSACTION}


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """A client that was killed is no error here."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def _handle(self):
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        data = self.rfile.read(length)
        if len(data) < length:  # its client was killed
            self.close_connection = True
            return
        body = json.loads(data) if length else {}
        if length and self.server.ups.bodies == "list":
            (body,) = body
        path = parts.path.removeprefix("/dicom-web")
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        for method, pattern, call in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method == self.command:
                self._answer(*call(self.server.ups, match.groups(), body, query))
                return
        self._answer(404, None, {})

    do_GET = do_POST = do_PUT = _handle  # noqa: N815 names of http.server

    def _answer(self, status, body, headers):
        if status is None:  # the answer is lost
            self.close_connection = True
            return
        data = body if isinstance(body, bytes) else b""
        if body is not None and not data:
            data = json.dumps(body).encode()
            headers = {"Content-Type": "application/dicom+json", **headers}
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def _send_images(server, groups):
    server.on_images()
    paths = server.images.get(groups)
    if paths is None:
        return 404, None, {}
    head = f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    data = b"".join(head + path.read_bytes() + b"\r\n" for path in paths)
    kind = f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}'
    return 200, data + f"--{_BOUNDARY}--\r\n".encode(), {"Content-Type": kind}


_ITEM = r"/workitems/([0-9.]+)"
_ROUTES = (
    ("GET", "/workitems", lambda ups, groups, body, query: ups.search(query)),
    ("GET", _ITEM, lambda ups, groups, body, query: ups.retrieve(*groups)),
    ("PUT", _ITEM + "/state", lambda ups, groups, body, query: ups.change(*groups, body)),
    ("POST", _ITEM, lambda ups, groups, body, query: ups.update(*groups, body, query)),
    ("POST", _ITEM + "/cancelrequest", lambda ups, groups, *_: ups.post_cancel(*groups)),
    ("POST", _ITEM + r"/subscribers/(\w+)", lambda ups, groups, *_: ups.subscribe(*groups)),
    (
        "GET",
        r"/studies/([0-9.]+)/series/([0-9.]+)",
        lambda ups, groups, *_: _send_images(ups, groups),
    ),
)
