"""Telemetry on its way out: over OTLP and to Azure Monitor, from a running app to receivers on loopback."""

import gzip
import json
import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.javascript import errors_in, needs_node
from tests.support.processes import PROJECT, TIMEOUT, LocalApp, local_app
from tests.support.upstreams import Upstreams

DOCUMENT = (PROJECT / "docs" / "telemetry.md").read_text()
QUERIES = re.findall(r"```kusto\n(.+?)```", DOCUMENT, re.DOTALL)
PROMPT, REPLY = "prompt-that-nobody-may-read", "reply-that-nobody-may-read"
# A function key can come like this.
SECRET = "function-key-0123456789"
SCOPE = "azure_functions_openai"
KEY = "InstrumentationKey=00000000-0000-0000-0000-000000000000"
# Appended to the app: what the runtime says of the invocation, beside an answer of the app's.
TRACED = """

@app.route(route="test/traced", methods=["POST"], auth_level=OPEN)
async def test_traced(req: Request, context: func.Context) -> Response:
    gateway = shared_gateway()
    answer = await passthrough.create(req, gateway.failover, "tests", CHAT_COMPLETIONS)
    answer.headers["x-invocation"] = context.trace_context.trace_parent
    return answer
"""


class Receiver:
    """Takes what exporters send, and keeps it."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        self.came = threading.Condition()
        self.spans: list[Any] = []
        self.metrics: dict[str, Any] = {}
        self.services: set[str] = set()
        self.envelopes: list[Any] = []

    def application(self) -> web.Application:
        application = web.Application(client_max_size=1 << 26)
        application.router.add_post("/v1/traces", self.traces)
        application.router.add_post("/v1/metrics", self.values)
        application.router.add_post("/v2.1/track", self.track)
        return application

    @contextmanager
    def keeping(self, body: bytes) -> Iterator[None]:
        with self.came:
            self.raw.append(body)
            yield
            self.came.notify_all()

    async def traces(self, request: web.Request) -> web.Response:
        body = await request.read()
        told = ExportTraceServiceRequest.FromString(body)
        with self.keeping(body):
            for resource in told.resource_spans:
                self.services |= {a.value.string_value for a in resource.resource.attributes if a.key == "service.name"}
                for scope in resource.scope_spans:
                    self.spans += [(scope.scope.name, span) for span in scope.spans]
        return web.Response(content_type="application/x-protobuf")

    async def values(self, request: web.Request) -> web.Response:
        body = await request.read()
        told = ExportMetricsServiceRequest.FromString(body)
        with self.keeping(body):
            for resource in told.resource_metrics:
                for scope in resource.scope_metrics:
                    self.metrics |= {metric.name: metric for metric in scope.metrics}
        return web.Response(content_type="application/x-protobuf")

    async def track(self, request: web.Request) -> web.Response:
        """Azure Monitor's ingestion: a list of envelopes, or one per line; aiohttp unpacks gzip by itself."""
        body = await request.read()
        body = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
        envelopes = json.loads(body) if body.startswith(b"[") else [json.loads(line) for line in body.splitlines()]
        with self.keeping(body):
            self.envelopes += envelopes
        return web.json_response({"itemsReceived": len(envelopes), "itemsAccepted": len(envelopes), "errors": []})

    def own_spans(self, count: int) -> list[Any]:
        """The app's spans, as soon as that many have come."""
        with self.came:
            assert self.came.wait_for(lambda: len(self.spans_of(SCOPE)) >= count, TIMEOUT), self.spans
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
    """A chat, a stream, one that breaks off and one that is refused, with texts that nobody may read."""
    app.model.script(
        {"reply": REPLY},
        {"reply": f"{REPLY} {REPLY}"},
        {"reply": f"{REPLY} {REPLY} {REPLY}", "cut": 1},
        {"status": 500, "times": 2},
    )
    for stream in (False, True, True, False):
        body = {"messages": [{"role": "user", "content": PROMPT}], "stream": stream}
        app.http.post("/api/v1/chat/completions", json=body, params={"code": SECRET})


def test_spans_and_metrics_reach_an_otlp_endpoint(folder: Path, receiver: tuple[Receiver, str]) -> None:
    received, address = receiver
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": address,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "PYTHON_ENABLE_OPENTELEMETRY": "true",
    }
    trace, caller = secrets.token_hex(16), secrets.token_hex(8)
    body = {"messages": [{"role": "user", "content": PROMPT}]}
    with local_app(folder, extra_code=TRACED, **settings) as app:
        headers = {"traceparent": f"00-{trace}-{caller}-01"}
        response = app.http.post("/api/test/traced", json=body, headers=headers)
        (span,) = received.own_spans(1)
        (seen,) = app.model.journal()
        exercise(app)
    # The invocation is a span of the host's, in the caller's trace, and the call to Azure one in the invocation's.
    invocation = response.headers["x-invocation"].split("-")
    assert invocation[1] == trace
    assert invocation[2] != caller
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (trace, invocation[2])
    assert seen.headers["traceparent"] == f"00-{trace}-{span.span_id.hex()}-01"
    # The rest came at the latest when the app ended.
    assert len(received.own_spans(5)) == 5
    assert received.services == {"azure-functions-openai"}
    assert {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"} < set(received.metrics)
    (tokens, *_) = received.metrics["gen_ai.client.token.usage"].histogram.data_points
    assert list(tokens.explicit_bounds) == [4**power for power in range(14)]
    for text in (PROMPT, REPLY, SECRET):
        assert text.encode() not in received.all_bytes()
        assert text not in app.output
    # The runtime's HTTP server makes spans too, whose query strings would have held the key.
    assert received.spans_of("fastapi")


def test_without_the_runtimes_switch_the_callers_trace_goes_on(folder: Path, receiver: tuple[Receiver, str]) -> None:
    received, address = receiver
    trace, caller = secrets.token_hex(16), secrets.token_hex(8)
    with local_app(folder, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{address}/v1/traces", OTEL_SERVICE_NAME="mine") as app:
        app.chat({"prompt": PROMPT}, headers={"traceparent": f"00-{trace}-{caller}-01"})
    (span,) = received.own_spans(1)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (trace, caller)
    assert received.services == {"mine"}
    assert received.metrics == {}


def test_a_call_without_a_trace_of_its_own_is_recorded(folder: Path, receiver: tuple[Receiver, str]) -> None:
    received, address = receiver
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "PYTHON_ENABLE_OPENTELEMETRY": "true"}
    with local_app(folder, **settings) as app:
        app.chat({"prompt": PROMPT})
    assert len(received.own_spans(1)) == 1


def test_an_endpoint_that_is_down_disturbs_nobody(folder: Path) -> None:
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    with local_app(folder, **settings, OTEL_BSP_SCHEDULE_DELAY="100") as app:
        for _ in range(5):
            assert app.chat({"prompt": PROMPT}).status_code == 200


def test_azure_monitor_gets_spans_and_metrics_by_the_runtimes_switch(folder: Path, receiver: tuple[Receiver, str]) -> None:
    received, address = receiver
    settings = {
        "PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY": "true",
        "APPLICATIONINSIGHTS_CONNECTION_STRING": f"{KEY};IngestionEndpoint={address};LiveEndpoint={address}",
        # What the exporter tells of itself, and asks for, would go to the internet.
        "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL": "true",
        "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED": "true",
        # Without it, Azure Monitor takes five spans a second.
        "OTEL_TRACES_SAMPLER": "microsoft.fixed_percentage",
        "OTEL_TRACES_SAMPLER_ARG": "1",
        # Where it keeps what could not be sent.
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
    # All that the queries ask for does arrive.
    arrived = {name for envelope in received.envelopes for name in envelope["data"]["baseData"].get("properties") or ()}
    asked = set(re.findall(r'customDimensions\["(.+?)"\]', "".join(QUERIES)))
    assert len(asked) == 6
    assert asked <= arrived
    for text in (PROMPT, REPLY, SECRET):
        assert text.encode() not in received.all_bytes()
        assert text not in app.output


@needs_node
def test_microsofts_parser_knows_what_the_queries_mean() -> None:
    wrong = ["customMetrics | where nme == 'a'", "customMetrics | wher name == 'a'"]
    errors = errors_in([*QUERIES, *wrong])
    assert len(QUERIES) == 4
    assert errors[: len(QUERIES)] == [[], [], [], []]
    assert all(errors[len(QUERIES) :])


def test_the_documented_versions_are_the_tested_ones() -> None:
    development = (PROJECT / "requirements-dev.txt").read_text().splitlines()
    named = re.findall(r"`([\w-]+==[\d.]+)`", DOCUMENT)
    assert len(named) == 2
    assert set(named) <= set(development)


def test_a_missing_exporter_is_named_and_the_app_works() -> None:
    code = """
import sys
sys.modules["opentelemetry.exporter"] = None
import logging
logging.basicConfig()
from shared.telemetry import exporters
exporters.configure({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"})
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=TIMEOUT)
    assert ended.returncode == 0, ended.stderr
    assert "add opentelemetry-exporter-otlp-proto-http to requirements.txt" in ended.stderr


def test_importing_the_app_imports_no_sdk_and_no_exporter() -> None:
    code = "import sys, function_app; print([m for m in sys.modules if re.match(PATTERN, m)])"
    pattern = r"opentelemetry\.(sdk|exporter|proto)|azure\.monitor"
    code = f"import re; PATTERN = {pattern!r}; {code}"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=TIMEOUT, check=True
    )
    assert ended.stdout.strip() == "[]"
