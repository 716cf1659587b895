"""Test the export of telemetry from a running app, over OTLP and to Azure Monitor, with a receiver on loopback."""

import gzip
import json
import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.javascript import errors_in, needs_node
from tests.support.processes import PROJECT, TIMEOUT, LocalApp, local_app
from tests.support.upstreams import Upstreams

DOCUMENT = (PROJECT / "docs" / "telemetry.md").read_text()
QUERIES = re.findall(r"```kusto\n(.+?)```", DOCUMENT, re.DOTALL)
PROMPT, REPLY = "confidential-prompt", "confidential-reply"
# Sent as `code`, a query parameter that may hold a function key.
SECRET = "function-key-0123456789"
SCOPE = "azure_functions_openai"
KEY = "InstrumentationKey=00000000-0000-0000-0000-000000000000"
# Appended to the app: a route that sends a call to Azure, and returns the invocation's traceparent in a header.
TRACED = """

@app.route(route="test/traced", methods=["POST"], auth_level=OPEN)
async def test_traced(req: Request, context: func.Context) -> Response:
    req.path_params["path"] = "chat/completions"
    response = await serve(req, "v1")
    response.headers["x-invocation"] = context.trace_context.trace_parent
    return response
"""


class Receiver:
    """Receive telemetry from exporters, and keep it."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        self.arrived = threading.Condition()
        self.spans: list[Any] = []
        self.metrics: dict[str, Any] = {}
        self.services: set[str] = set()
        self.envelopes: list[Any] = []

    def application(self) -> web.Application:
        application = web.Application(client_max_size=1 << 26)
        application.router.add_post("/v1/traces", self.receive_traces)
        application.router.add_post("/v1/metrics", self.receive_metrics)
        application.router.add_post("/v2.1/track", self.receive_envelopes)
        return application

    @contextmanager
    def recording(self, body: bytes) -> Iterator[None]:
        """Keep `body`. When the context ends, notify the tests that wait for its contents."""
        with self.arrived:
            self.raw.append(body)
            yield
            self.arrived.notify_all()

    async def receive_traces(self, request: web.Request) -> web.Response:
        body = await request.read()
        export = ExportTraceServiceRequest.FromString(body)
        with self.recording(body):
            for resource in export.resource_spans:
                self.services |= {a.value.string_value for a in resource.resource.attributes if a.key == "service.name"}
                for scope in resource.scope_spans:
                    self.spans += [(scope.scope.name, span) for span in scope.spans]
        return web.Response(content_type="application/x-protobuf")

    async def receive_metrics(self, request: web.Request) -> web.Response:
        body = await request.read()
        export = ExportMetricsServiceRequest.FromString(body)
        with self.recording(body):
            for resource in export.resource_metrics:
                for scope in resource.scope_metrics:
                    self.metrics |= {metric.name: metric for metric in scope.metrics}
        return web.Response(content_type="application/x-protobuf")

    async def receive_envelopes(self, request: web.Request) -> web.Response:
        """Receive envelopes as Azure Monitor does, in a list or one per line. aiohttp decompresses gzip itself."""
        body = await request.read()
        body = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
        envelopes = json.loads(body) if body.startswith(b"[") else [json.loads(line) for line in body.splitlines()]
        with self.recording(body):
            self.envelopes += envelopes
        return web.json_response({"itemsReceived": len(envelopes), "itemsAccepted": len(envelopes), "errors": []})

    def own_spans(self, count: int) -> list[Any]:
        """Return the app's own spans as soon as there are at least `count`."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.spans_of(SCOPE)) >= count, TIMEOUT), self.spans
            return self.spans_of(SCOPE)

    def spans_of(self, scope: str) -> list[Any]:
        return [span for name, span in self.spans if name == scope]

    def all_bytes(self) -> bytes:
        return b"".join(self.raw)


@pytest.fixture
def receiver(upstreams: Upstreams) -> tuple[Receiver, str]:
    receiver = Receiver()
    return receiver, upstreams.run(upstreams.servers.start(receiver.application()))


def exercise(app: LocalApp) -> None:
    """Send a chat, a stream, a stream that is interrupted and a chat that fails, all with confidential texts."""
    app.model.script(
        {"reply": REPLY},
        {"reply": f"{REPLY} {REPLY}"},
        {"reply": f"{REPLY} {REPLY} {REPLY}", "cut": 1},
        {"status": 500, "times": 2},
    )
    for stream in (False, True, True, False):
        body = {"messages": [{"role": "user", "content": PROMPT}], "stream": stream}
        # The third one breaks.
        with suppress(httpx2.TransportError):
            app.http.post("/api/v1/chat/completions", json=body, params={"code": SECRET})


def test_spans_and_metrics_reach_an_otlp_endpoint(folder: Path, receiver: tuple[Receiver, str]) -> None:
    received, url = receiver
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "PYTHON_ENABLE_OPENTELEMETRY": "true",
    }
    trace, parent = secrets.token_hex(16), secrets.token_hex(8)
    body = {"messages": [{"role": "user", "content": PROMPT}]}
    with local_app(folder, extra_code=TRACED, **settings) as app:
        headers = {"traceparent": f"00-{trace}-{parent}-01"}
        response = app.http.post("/api/test/traced", json=body, headers=headers)
        (span,) = received.own_spans(1)
        (request,) = app.model.journal()
        exercise(app)
    # The host's span of the invocation is in the caller's trace, and is the parent of the app's span of the call to Azure.
    invocation = response.headers["x-invocation"].split("-")
    assert invocation[1] == trace
    assert invocation[2] != parent
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (trace, invocation[2])
    assert request.headers["traceparent"] == f"00-{trace}-{span.span_id.hex()}-01"
    # The app exports the remaining spans before it exits.
    assert len(received.own_spans(5)) == 5
    assert received.services == {"azure-functions-openai"}
    assert {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"} < set(received.metrics)
    (tokens, *_) = received.metrics["gen_ai.client.token.usage"].histogram.data_points
    assert list(tokens.explicit_bounds) == [4**power for power in range(14)]
    for text in (PROMPT, REPLY, SECRET):
        assert text.encode() not in received.all_bytes()
        assert text not in app.output
    # The runtime's HTTP server creates spans too, and their query strings would have contained the key.
    assert received.spans_of("fastapi")


def test_without_the_runtimes_setting_the_span_continues_the_callers_trace(
    folder: Path, receiver: tuple[Receiver, str]
) -> None:
    received, url = receiver
    trace, parent = secrets.token_hex(16), secrets.token_hex(8)
    with local_app(folder, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{url}/v1/traces", OTEL_SERVICE_NAME="mine") as app:
        app.chat({"prompt": PROMPT}, headers={"traceparent": f"00-{trace}-{parent}-01"})
    (span,) = received.own_spans(1)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (trace, parent)
    assert received.services == {"mine"}
    assert received.metrics == {}


def test_a_call_without_a_traceparent_is_recorded(folder: Path, receiver: tuple[Receiver, str]) -> None:
    received, url = receiver
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "PYTHON_ENABLE_OPENTELEMETRY": "true"}
    with local_app(folder, **settings) as app:
        app.chat({"prompt": PROMPT})
    assert len(received.own_spans(1)) == 1


def test_calls_succeed_while_the_otlp_endpoint_is_down(folder: Path) -> None:
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    with local_app(folder, **settings, OTEL_BSP_SCHEDULE_DELAY="100") as app:
        for _ in range(5):
            assert app.chat({"prompt": PROMPT}).status_code == 200


def test_the_runtimes_setting_sends_spans_and_metrics_to_azure_monitor(folder: Path, receiver: tuple[Receiver, str]) -> None:
    received, url = receiver
    settings = {
        "PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY": "true",
        "APPLICATIONINSIGHTS_CONNECTION_STRING": f"{KEY};IngestionEndpoint={url};LiveEndpoint={url}",
        # Otherwise the exporter would send statistics about itself to the internet, and ask there for its configuration.
        "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL": "true",
        "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED": "true",
        # Without a sampler, Azure Monitor takes five spans a second.
        "OTEL_TRACES_SAMPLER": "microsoft.fixed_percentage",
        "OTEL_TRACES_SAMPLER_ARG": "1",
        # Here the exporter keeps telemetry that it could not send.
        "TMPDIR": str(folder.parent),
    }
    with local_app(folder, **settings) as app:
        exercise(app)
    types = {envelope["data"]["baseType"] for envelope in received.envelopes}
    assert {"RemoteDependencyData", "MetricData"} <= types
    calls = [
        data["properties"]
        for envelope in received.envelopes
        if (data := envelope["data"]["baseData"]).get("properties", {}).get("gateway.caller")
        and envelope["data"]["baseType"] == "RemoteDependencyData"
    ]
    assert len(calls) == 4
    assert all(call["gateway.attempts"] == "1" for call in calls)
    # Every dimension that the documented queries read has arrived.
    arrived = {name for envelope in received.envelopes for name in envelope["data"]["baseData"].get("properties") or ()}
    queried = set(re.findall(r'customDimensions\["(.+?)"\]', "".join(QUERIES)))
    assert len(queried) == 6
    assert queried <= arrived
    for text in (PROMPT, REPLY, SECRET):
        assert text.encode() not in received.all_bytes()
        assert text not in app.output


@needs_node
def test_microsofts_parser_accepts_the_documented_queries() -> None:
    wrong = ["customMetrics | where nme == 'a'", "customMetrics | wher name == 'a'"]
    errors = errors_in([*QUERIES, *wrong])
    assert len(QUERIES) == 4
    assert errors[: len(QUERIES)] == [[], [], [], []]
    assert all(errors[len(QUERIES) :])


def test_a_missing_exporter_is_named_and_does_not_stop_the_app() -> None:
    code = """
import sys
sys.modules["opentelemetry.exporter"] = None
import logging
logging.basicConfig()
from shared.telemetry import exporters
exporters.configure({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"})
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=TIMEOUT)
    assert run.returncode == 0, run.stderr
    assert "add opentelemetry-exporter-otlp-proto-http to requirements.txt" in run.stderr


def test_importing_the_app_imports_no_sdk_and_no_exporter() -> None:
    code = "import sys, function_app; print([m for m in sys.modules if re.match(PATTERN, m)])"
    pattern = r"opentelemetry\.(sdk|exporter|proto)|azure\.monitor"
    code = f"import re; PATTERN = {pattern!r}; {code}"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=TIMEOUT, check=True
    )
    assert run.stdout.strip() == "[]"
