"""OpenTelemetry: what is sent is of use, holds nothing of a patient, and costs nobody anything."""

import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest

from bedside.errors import SpecError
from bedside.http_api.server import HttpServer
from bedside.http_api.settings import HttpSettings
from bedside.service.observer import Observer
from bedside.service.telemetry import Telemetry, TelemetrySettings, open_telemetry
from canaries_for_tests import CANARIES, NAME, UID, WORD
from makers import make_dicom, make_fan, write_dicom
from servers_for_tests import PATIENCE_S, open_engine

needs_sdk = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import opentelemetry.sdk"], capture_output=True,
                   check=False).returncode != 0,
    reason='NOT TESTED: pip install "bedside[otel]"',
)  # fmt: skip


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with open_engine(tmp_path_factory.mktemp("models")) as engine:
        yield engine


def send_all(engine, telemetry, folder):
    """Requests with canaries wherever a client may put them; their statuses."""
    dataset = make_dicom(make_fan(1))
    dataset.PatientName = dataset.PatientID = NAME
    dataset.StudyInstanceUID = dataset.SeriesInstanceUID = dataset.SOPInstanceUID = UID
    sound = write_dicom(dataset, folder / f"{WORD}.dcm").read_bytes()
    server = HttpServer(
        engine, HttpSettings(port=0), observer=Observer(engine, telemetry=telemetry)
    )
    trace = f"00-{'4711' * 8}-{'4711' * 4}-01"  # the context of a client's own trace
    headers = {"traceparent": trace, "tracestate": f"{WORD}=1", "baggage": f"name={WORD}"}
    named = {"file": (f"{NAME}.dcm", sound)}
    calls = [
        ("POST", "/segment?model=plane", {"files": named}),
        ("POST", f"/segment?model={WORD}", {"files": named}),
        ("POST", "/segment?model=plane", {"content": sound[:900]}),
        ("POST", f"/{WORD}/{UID}?{NAME}", {}),
        ("GET", f"/models/{WORD}", {}),
        (WORD.upper(), "/models", {}),
    ]
    try:
        with httpx.Client(base_url=server.address, timeout=PATIENCE_S, headers=headers) as client:
            return [client.request(*call, **rest).status_code for *call, rest in calls]
    finally:
        server.close()


@needs_sdk
def test_no_canary_is_in_spans_and_metrics_and_they_are_of_use(engine, tmp_path):
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    with Telemetry(engine, spans=SimpleSpanProcessor(exporter), metrics=reader) as telemetry:
        statuses = send_all(engine, telemetry, tmp_path)
        metrics = reader.get_metrics_data().to_json()
    spans = exporter.get_finished_spans()
    told = "\n".join(span.to_json() for span in spans)
    assert statuses == [200, 404, 422, 404, 404, 405]
    assert [span.attributes["http.response.status_code"] for span in spans] == statuses
    assert spans[0].name == "POST /segment"
    assert spans[0].attributes["bedside.model"] == "plane"
    assert spans[0].end_time > spans[0].start_time
    assert len({span.context.trace_id for span in spans}) == len(spans)
    assert "http.server.request.duration" in metrics
    assert re.search(r'"bedside.images.finished".*"lane": "image"', metrics, re.DOTALL)
    for text in (told, metrics):
        assert not CANARIES.search(text), CANARIES.search(text)
        assert str(tmp_path) not in text


@needs_sdk
def test_a_collector_gets_spans_and_metrics_by_otlp(engine, tmp_path):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    got = {}

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            got[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        thread = threading.Thread(target=collector.serve_forever, args=(0.02,))
        thread.start()
        settings = TelemetrySettings(f"http://127.0.0.1:{collector.server_port}/")
        with open_telemetry(settings, engine) as telemetry:
            send_all(engine, telemetry, tmp_path)
        collector.shutdown()
        thread.join()
    assert set(got) == {"/v1/traces", "/v1/metrics"}
    assert b"POST /segment" in got["/v1/traces"]
    assert b"bedside.images.refused" in got["/v1/metrics"]
    for content in got.values():
        assert not CANARIES.search(content.decode("latin-1"))


def test_nothing_of_it_is_imported_where_it_is_not_configured():
    code = (
        "import sys, bedside.serve.run, bedside.service.telemetry, bedside.http_api.server; "
        "sys.exit('opentelemetry' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("fields", [{"endpoint": "collector:4318"},
                                    {"endpoint": "http://a", "interval_s": 0}])  # fmt: skip
def test_settings_without_meaning_are_refused(fields):
    with pytest.raises(SpecError):
        TelemetrySettings(**fields)
