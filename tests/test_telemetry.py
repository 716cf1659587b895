"""What calls leave behind: points of metrics, spans and lines, told by the real SDK's in-memory exporters."""

import itertools
import re
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from shared.relay import WithoutUsage
from shared.telemetry import CallRecord
from tests.running import Json, StandIn, local_app
from tests.upstreams import CALLER_KEY, CONTROLS, Gateway

# Appended to the app: what it records, for the tests to read. `more` is what the app itself has no use for.
RECORDER = """

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
points = InMemoryMetricReader({Histogram: AggregationTemporality.DELTA})
metrics.set_meter_provider(MeterProvider([points]))
OURS = "azure_functions_openai"


@app.route(route="test/telemetry", methods=["GET"], auth_level=OPEN)
async def test_telemetry(req: Request) -> Response:
    collected = points.get_metrics_data()
    told = {
        "spans": [
            {
                "name": span.name,
                "kind": span.kind.name,
                "attributes": dict(span.attributes),
                "failed": not span.status.is_ok and span.status.status_code.name == "ERROR",
                "description": span.status.description,
                "events": len(span.events),
                "trace_id": format(span.context.trace_id, "032x"),
                "span_id": format(span.context.span_id, "016x"),
                "parent": span.parent and format(span.parent.span_id, "016x"),
            }
            for span in spans.get_finished_spans()
            if span.instrumentation_scope.name == OURS
        ],
        "points": [
            {
                "metric": metric.name,
                "unit": metric.unit,
                "attributes": dict(point.attributes),
                "count": getattr(point, "count", None),
                "sum": getattr(point, "sum", None),
                "value": getattr(point, "value", None),
            }
            for resource in (collected.resource_metrics if collected else ())
            for scope in resource.scope_metrics
            if scope.scope.name == OURS
            for metric in scope.metrics
            for point in metric.data.data_points
        ],
    }
    spans.clear()
    return JSONResponse(told)
"""
CALLER = {"api-key": CALLER_KEY}
CHAT = "/api/v1/chat/completions"
MESSAGES: Json = {"messages": [{"role": "user", "content": "Hello"}]}
DURATION, FIRST_CHUNK, TOKENS = (
    f"gen_ai.client.{name}" for name in ("operation.duration", "operation.time_to_first_chunk", "token.usage")
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with local_app(tmp_path_factory.mktemp("app"), "--no-simulator", more=CONTROLS + RECORDER) as app:
        yield Gateway(app)


@pytest.fixture(autouse=True)
def nothing_of_before(gateway: Gateway) -> None:
    told(gateway)


def told(gateway: Gateway) -> Json:
    found: Json = gateway.http.get("/api/test/telemetry").json()
    return found


def told_when_ended(gateway: Gateway, calls: int = 1) -> Json:
    """What has been recorded, as soon as that many spans have ended."""
    found: Json = {"spans": [], "points": []}
    for _ in range(400):
        more = told(gateway)
        found = {name: found[name] + more[name] for name in found}
        if len(found["spans"]) >= calls:
            break
    return found


def basics(model: StandIn, endpoint: int = 1, **more: Any) -> Json:
    """The attributes that every point of a call has."""
    host, port = model.address.removeprefix("http://").split(":")
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "azure.ai.openai",
        "gen_ai.request.model": "chat",
        "gateway.caller": "tests",
        "gateway.endpoint": endpoint,
        "server.address": host,
        "server.port": int(port),
        **{name.replace("__", "."): value for name, value in more.items()},
    }


def assert_points(found: Json, attributes: Json, *, attempts: int, error: str | None, tokens: Json, is_stream: bool) -> None:
    """That these are the points of one call, no more and no fewer."""
    outcome = {"error.type": error} if error else {}
    expected = [(DURATION, "s", {**attributes, **outcome, "gateway.attempts": attempts}, None)]
    expected += [(TOKENS, "{token}", {**attributes, "gen_ai.token.type": kind}, n) for kind, n in tokens.items()]
    if is_stream:
        expected.append((FIRST_CHUNK, "s", attributes, None))
    points = [
        (p["metric"], p["unit"], p["attributes"], p["sum"] if p["metric"] == TOKENS else None) for p in found["points"]
    ]
    assert sorted(points, key=repr) == sorted(expected, key=repr)
    assert [point["count"] for point in found["points"]] == [1] * len(expected)
    assert all(0 < p["sum"] < 60 for p in found["points"] if p["metric"] != TOKENS)


def only_span(found: Json, name: str, attributes: Json, *, error: str | None = None) -> None:
    (span,) = found["spans"]
    first_chunk = span["attributes"].pop("gen_ai.response.time_to_first_chunk", None)
    assert first_chunk is None or 0 < first_chunk < 60
    assert span["attributes"] == attributes | ({"error.type": error} if error else {})
    assert (span["name"], span["kind"], span["failed"]) == (name, "CLIENT", error is not None)
    # A status' description or an event could hold an exception's text.
    assert (span["description"], span["events"]) == (None, 0)


class TestPoints:
    def test_of_a_chat(self, gateway: Gateway, model: StandIn) -> None:
        body = gateway.http.post(CHAT, json=MESSAGES, headers=CALLER).json()
        found = told(gateway)
        attributes = basics(model, gen_ai__response__model=body["model"])
        used = {"input": body["usage"]["prompt_tokens"], "output": body["usage"]["completion_tokens"]}
        assert_points(found, attributes, attempts=1, error=None, tokens=used, is_stream=False)
        span = attributes | {
            "gen_ai.request.stream": False,
            "gen_ai.response.id": body["id"],
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.usage.input_tokens": used["input"],
            "gen_ai.usage.output_tokens": used["output"],
            "gateway.attempts": 1,
        }
        only_span(found, "chat chat", span)

    @pytest.mark.parametrize("path", ["/api/chat", CHAT])
    def test_of_a_stream(self, gateway: Gateway, model: StandIn, path: str) -> None:
        body = {**MESSAGES, "stream": True, "stream_options": {"include_usage": True}}
        gateway.http.post(path, json=body, headers=CALLER).raise_for_status()
        found = told_when_ended(gateway)
        (entry,) = model.journal(ended=1)
        used = {"input": entry.usage["prompt_tokens"], "output": entry.usage["completion_tokens"]}
        caller = {"gateway.caller": "(chat)"} if path == "/api/chat" else {}
        name = found["spans"][0]["attributes"]["gen_ai.response.model"]
        assert name.endswith("-2026-11-01")
        attributes = basics(model, gen_ai__response__model=name) | caller
        assert_points(found, attributes, attempts=1, error=None, tokens=used, is_stream=True)
        response_id = found["spans"][0]["attributes"]["gen_ai.response.id"]
        assert response_id.startswith("chatcmpl-")
        span = attributes | {
            "gen_ai.request.stream": True,
            "gen_ai.response.id": response_id,
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.usage.input_tokens": used["input"],
            "gen_ai.usage.output_tokens": used["output"],
            "gateway.attempts": 1,
        }
        only_span(found, "chat chat", span)

    def test_of_embeddings(self, gateway: Gateway, model: StandIn) -> None:
        body = gateway.http.post("/api/v1/embeddings", json={"input": "Hello", "model": "other"}, headers=CALLER).json()
        found = told(gateway)
        attributes = basics(
            model,
            gen_ai__operation__name="embeddings",
            gen_ai__request__model="other",
            gen_ai__response__model=body["model"],
        )
        used = {"input": body["usage"]["prompt_tokens"]}
        assert_points(found, attributes, attempts=1, error=None, tokens=used, is_stream=False)
        more = {"gen_ai.request.stream": False, "gen_ai.usage.input_tokens": used["input"], "gateway.attempts": 1}
        only_span(found, "embeddings other", attributes | more)

    def test_of_a_streamed_response(self, gateway: Gateway, model: StandIn) -> None:
        gateway.http.post("/api/v1/responses", json={"input": "Hello", "stream": True}, headers=CALLER).raise_for_status()
        found = told_when_ended(gateway)
        (entry,) = model.journal(ended=1)
        used = {"input": entry.usage["input_tokens"], "output": entry.usage["output_tokens"]}
        seen = found["spans"][0]["attributes"]
        attributes = basics(model, gen_ai__response__model=seen["gen_ai.response.model"])
        assert_points(found, attributes, attempts=1, error=None, tokens=used, is_stream=True)
        assert seen["gen_ai.response.id"].startswith("resp_")
        span = attributes | {
            "gen_ai.request.stream": True,
            "gen_ai.response.id": seen["gen_ai.response.id"],
            "gen_ai.response.finish_reasons": ["completed"],
            "gen_ai.usage.input_tokens": used["input"],
            "gen_ai.usage.output_tokens": used["output"],
            "gateway.attempts": 1,
        }
        only_span(found, "chat chat", span)

    def test_of_a_content_filter_refusal(self, gateway: Gateway, model: StandIn) -> None:
        body = {"error": {"code": "content_filter", "message": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}
        model.script({"status": 400, "body": body})
        assert gateway.http.post(CHAT, json=MESSAGES, headers=CALLER).status_code == 400
        found = told(gateway)
        attributes = basics(model)
        assert_points(found, attributes, attempts=1, error="content_filter", tokens={}, is_stream=False)
        more = {"gen_ai.request.stream": False, "gateway.attempts": 1}
        only_span(found, "chat chat", attributes | more, error="content_filter")

    def test_of_a_429_with_failover(self, gateway: Gateway, model: StandIn, second: StandIn) -> None:
        gateway.configure(model.address, second.address)
        model.script({"status": 429})
        body = gateway.http.post(CHAT, json=MESSAGES, headers=CALLER).json()
        found = told(gateway)
        attributes = basics(second, endpoint=2, gen_ai__response__model=body["model"])
        used = {"input": body["usage"]["prompt_tokens"], "output": body["usage"]["completion_tokens"]}
        assert_points(found, attributes, attempts=2, error=None, tokens=used, is_stream=False)

    def test_of_a_429_everywhere(self, gateway: Gateway, model: StandIn, second: StandIn) -> None:
        gateway.configure(model.address, second.address)
        model.script({"status": 429})
        second.script({"status": 429})
        assert gateway.http.post(CHAT, json=MESSAGES, headers=CALLER).status_code == 429
        assert_points(told(gateway), basics(second, endpoint=2), attempts=2, error="429", tokens={}, is_stream=False)

    @pytest.mark.parametrize("path", ["/api/chat", CHAT, "/api/v1/responses"])
    def test_of_an_abandoned_stream(self, gateway: Gateway, model: StandIn, path: str) -> None:
        model.script({"reply": "one and two and three", "step": True})
        model.permit()
        fields = {"input": "Hello"} if path.endswith("responses") else MESSAGES
        with gateway.http.stream("POST", path, json={**fields, "stream": True}, headers=CALLER) as response:
            for text in response.iter_text():
                if "one and" in text:
                    break
        found = told_when_ended(gateway)
        seen = found["spans"][0]["attributes"]
        caller = {"gateway.caller": "(chat)"} if path == "/api/chat" else {}
        attributes = basics(model, gen_ai__response__model=seen["gen_ai.response.model"]) | caller
        assert_points(found, attributes, attempts=1, error="caller_gone", tokens={}, is_stream=True)
        assert seen["gen_ai.response.id"]
        assert "gen_ai.response.finish_reasons" not in seen

    def test_of_a_stream_that_breaks_off(self, gateway: Gateway, model: StandIn) -> None:
        model.script({"reply": "one and two and three", "cut": 1})
        gateway.http.post(CHAT, json={**MESSAGES, "stream": True}, headers=CALLER)
        (point,) = (p for p in told_when_ended(gateway)["points"] if p["metric"] == DURATION)
        assert point["attributes"]["error.type"] == "stream_broken"

    def test_of_a_stream_in_which_azure_tells_of_an_error(self, gateway: Gateway, model: StandIn) -> None:
        raw = 'data: {"choices":[],"model":"a"}\n\ndata: {"error":{"code":"x","message":"y"}}\n\n'
        model.script({"raw": raw, "headers": {"content-type": "text/event-stream"}})
        gateway.http.post(CHAT, json={**MESSAGES, "stream": True}, headers=CALLER)
        (point,) = (p for p in told_when_ended(gateway)["points"] if p["metric"] == DURATION)
        assert point["attributes"]["error.type"] == "upstream_error"

    def test_of_a_deadline(self, gateway: Gateway, model: StandIn) -> None:
        gateway.configure(model.address, REQUEST_TIMEOUT_SECONDS="0.3")
        model.script({"hang": True})
        assert gateway.http.post(CHAT, json=MESSAGES, headers=CALLER).status_code == 504
        model.permit()
        assert_points(told(gateway), basics(model), attempts=1, error="deadline_exceeded", tokens={}, is_stream=False)

    def test_of_a_caller_who_leaves_before_the_answer(self, gateway: Gateway, model: StandIn) -> None:
        model.script({"hang": True})
        body = msgspec.json.encode(MESSAGES)
        with gateway.app.sent("POST", CHAT, body, api_key=CALLER_KEY):
            model.journal(requests=1)
        found = told_when_ended(gateway)
        assert_points(found, basics(model), attempts=1, error="caller_gone", tokens={}, is_stream=False)

    def test_of_a_call_beyond_the_limit(self, gateway: Gateway, model: StandIn) -> None:
        gateway.configure(model.address, MAX_CONCURRENT_CALLS="1")
        model.script({"hang": True})
        with gateway.app.sent("POST", CHAT, msgspec.json.encode(MESSAGES), api_key=CALLER_KEY):
            model.journal(requests=1)
            assert gateway.http.post(CHAT, json=MESSAGES, headers=CALLER).status_code == 503
            (point,) = (p for p in told(gateway)["points"] if p["metric"] == DURATION)
        assert (point["attributes"]["error.type"], point["attributes"]["gateway.attempts"]) == ("too_many_calls", 0)
        assert "gateway.endpoint" not in point["attributes"]
        told_when_ended(gateway)

    def test_of_a_chat_whose_answer_is_none(self, gateway: Gateway, model: StandIn) -> None:
        model.script({"status": 200, "raw": "<html>", "headers": {"content-type": "text/html"}})
        assert gateway.http.post("/api/chat", json=MESSAGES).status_code == 502
        (point,) = (p for p in told(gateway)["points"] if p["metric"] == DURATION)
        assert point["attributes"]["error.type"] == "upstream_error"

    def test_of_a_stored_response_count_no_tokens_twice(self, gateway: Gateway, model: StandIn) -> None:
        body = gateway.http.post("/api/v1/responses", json={"input": "Hello"}, headers=CALLER).json()
        told(gateway)
        again = gateway.http.get(f"/api/v1/responses/{body['id']}", headers=CALLER).json()
        assert again["usage"] == body["usage"]
        found = told(gateway)
        assert [point["metric"] for point in found["points"]] == [DURATION]
        assert found["spans"][0]["name"] == "stored_response"

    def test_of_the_timer(self, gateway: Gateway, model: StandIn, second: StandIn) -> None:
        gateway.configure(model.address, second.address)
        second.script({"status": 503})
        gateway.http.post("/admin/functions/health_probe", json={"input": ""}).raise_for_status()
        for _ in range(400):
            up = {p["attributes"]["gateway.endpoint"]: p["value"] for p in told(gateway)["points"] if p["value"] is not None}
            if up:
                break
        assert up == {1: 1, 2: 0}


@pytest.fixture
def second(upstreams: Any) -> Iterator[StandIn]:
    model: StandIn = upstreams.azure()
    yield model
    model.http.close()


def test_tokens_add_up_over_200_mixed_calls(gateway: Gateway, model: StandIn) -> None:
    gateway.configure(model.address, STREAM_USAGE="true")
    chat, prompt = {**MESSAGES, "model": "other"}, {"prompt": "Hello"}
    kinds: list[tuple[str, Json]] = [
        (CHAT, chat),
        (CHAT, {**chat, "stream": True}),
        ("/api/chat", prompt),
        ("/api/chat", {**prompt, "stream": True}),
        ("/api/v1/embeddings", {"input": ["Hello", "you"]}),
        ("/api/v1/responses", {"input": "Hello"}),
        ("/api/v1/responses", {"input": "Hello", "stream": True}),
        ("/api/openai/deployments/chat/chat/completions", {**MESSAGES, "stream": True}),
    ]

    def call(number: int) -> None:
        path, body = kinds[number % len(kinds)]
        text = "word " * (number % 17 + 1)
        filled = msgspec.json.decode(msgspec.json.encode(body).replace(b"Hello", text.encode()))
        gateway.http.post(path, json=filled, headers=CALLER).raise_for_status()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(call, range(200)))
    found = told_when_ended(gateway, 200)
    sums = {"input": 0, "output": 0}
    for point in found["points"]:
        if point["metric"] == TOKENS:
            sums[point["attributes"]["gen_ai.token.type"]] += point["sum"]
    used = [entry.usage for entry in model.journal(ended=200)]
    assert len(used) == 200
    assert all(used)
    assert sums == {
        "input": sum(usage.get("prompt_tokens", 0) + usage.get("input_tokens", 0) for usage in used),
        "output": sum(usage.get("completion_tokens", 0) + usage.get("output_tokens", 0) for usage in used),
    }
    assert sum(point["count"] for point in found["points"] if point["metric"] == DURATION) == 200


class TestTraces:
    def test_azure_gets_the_span_in_the_callers_trace(self, gateway: Gateway, model: StandIn) -> None:
        trace, parent = secrets.token_hex(16), secrets.token_hex(8)
        headers = {**CALLER, "traceparent": f"00-{trace}-{parent}-01", "tracestate": "vendor=1"}
        gateway.http.post(CHAT, json=MESSAGES, headers=headers).raise_for_status()
        (span,) = told(gateway)["spans"]
        (seen,) = model.journal()
        assert (span["trace_id"], span["parent"]) == (trace, parent)
        assert seen.headers["traceparent"] == f"00-{trace}-{span['span_id']}-01"
        assert seen.headers["tracestate"] == "vendor=1"

    @pytest.mark.parametrize("traceparent", ["00-nonsense", "", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
    def test_nonsense_begins_a_trace_of_the_apps_own(self, gateway: Gateway, model: StandIn, traceparent: str) -> None:
        headers = {**CALLER, "traceparent": traceparent}
        gateway.http.post(CHAT, json=MESSAGES, headers=headers).raise_for_status()
        (span,) = told(gateway)["spans"]
        assert span["parent"] is None
        assert span["span_id"] in model.journal()[0].headers["traceparent"]

    def test_a_caller_who_is_not_sampled_is_not_recorded(self, gateway: Gateway, model: StandIn) -> None:
        headers = {**CALLER, "traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"}
        gateway.http.post(CHAT, json=MESSAGES, headers=headers).raise_for_status()
        found = told(gateway)
        assert found["spans"] == []
        assert len(found["points"]) == 3
        assert model.journal()[0].headers["traceparent"].endswith("-00")


class TestLines:
    def test_of_a_chat_has_what_an_operator_asks_for(self, gateway: Gateway, model: StandIn) -> None:
        trace = secrets.token_hex(16)
        headers = {**CALLER, "traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}
        response = gateway.http.post(CHAT, json=MESSAGES, headers=headers)
        line = line_with(gateway, f"trace_id={trace}")
        usage = response.json()["usage"]
        expected = {
            "caller": "tests",
            "operation": "chat/completions",
            "deployment": "chat",
            "stream": "false",
            "status": "200",
            "input_tokens": str(usage["prompt_tokens"]),
            "output_tokens": str(usage["completion_tokens"]),
            "attempts": "1",
            "endpoint": "1",
            "apim_request_id": response.headers["apim-request-id"],
            "request_id": response.headers["x-request-id"],
            "trace_id": trace,
        }
        duration = line.pop("duration_ms")
        assert 0 <= int(duration) < 60_000
        assert line == expected

    def test_of_a_finished_stream_reaches_the_output(self, gateway: Gateway, model: StandIn) -> None:
        body = {**MESSAGES, "stream": True, "stream_options": {"include_usage": True}}
        response = gateway.http.post(CHAT, json=body, headers=CALLER)
        line = line_with(gateway, f"apim_request_id={response.headers['apim-request-id']}")
        (entry,) = model.journal(ended=1)
        assert (line["stream"], line["status"]) == ("true", "200")
        assert (line["input_tokens"], line["output_tokens"]) == (
            str(entry.usage["prompt_tokens"]),
            str(entry.usage["completion_tokens"]),
        )
        assert int(line["first_chunk_ms"]) <= int(line["duration_ms"])
        assert "error" not in line

    def test_of_an_abandoned_stream_reaches_the_output(self, gateway: Gateway, model: StandIn) -> None:
        model.script({"reply": "one and two and three", "step": True})
        with gateway.http.stream("POST", CHAT, json={**MESSAGES, "stream": True}, headers=CALLER) as response:
            next(response.iter_bytes())
        line = line_with(gateway, f"apim_request_id={response.headers['apim-request-id']}")
        assert (line["status"], line["error"]) == ("200", "caller_gone")
        assert "input_tokens" not in line

    def test_no_header_of_azures_can_forge_one(self, gateway: Gateway, model: StandIn) -> None:
        model.script({"status": 200, "raw": "{}", "headers": {"apim-request-id": "forged status=999 caller=nobody"}})
        gateway.http.post(CHAT, json=MESSAGES, headers=CALLER)
        assert line_with(gateway, "apim_request_id=forgedstatus999callernobody")["status"] == "200"


def line_with(gateway: Gateway, text: str) -> dict[str, str]:
    """The fields of the line that has `text`, as soon as it is there."""
    gateway.app.wait_for(text)
    (line,) = (line for line in gateway.app.output.splitlines() if text in line and "Call " in line)
    return dict(re.findall(r"(\w+)=(\S+)", line))


def event(data: str, end: str) -> bytes:
    return f"data: {data}{end}".encode()


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r"])
def test_the_usage_nobody_asked_for_is_taken_out_wherever_the_stream_is_split(end: str) -> None:
    chunks = ['{"choices":[],"usage":null,"model":"m"}', '{"choices":[{"delta":{"content":"\\"usage\\":{"}}],"usage":null}']
    last = '{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}'
    usage = '{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}'
    kept = [event(data, end) for data in (*chunks, last)]
    raw = b"".join([*kept, event(usage, end), event("[DONE]", end)])
    expected = b"".join([*kept, event("[DONE]", end)])
    for at, further in itertools.product(range(len(raw) + 1), (0, 3)):
        pieces = [piece for piece in (raw[:at], raw[at : at + further], raw[at + further :]) if piece]
        record = CallRecord("chat/completions", "chat", "tests", {}, stream=True)
        events = WithoutUsage(record)
        seen = [*map(events.feed, pieces), events.end()]
        assert b"".join(seen) == expected
        assert record.told.usage
        assert record.told.usage.completion_tokens == 4


class TestStreamUsage:
    @pytest.fixture(params=["2025-04-01-preview", "v1"])
    def asking(self, request: pytest.FixtureRequest, gateway: Gateway, model: StandIn) -> StandIn:
        gateway.configure(model.address, STREAM_USAGE="true", AZURE_OPENAI_API_VERSION=request.param)
        return model

    @pytest.mark.parametrize(
        ("given", "sent"),
        [
            (None, {"include_usage": True}),
            ({"include_usage": False}, {"include_usage": True}),
            ({"include_obfuscation": False}, {"include_obfuscation": False, "include_usage": True}),
        ],
    )
    def test_azure_is_asked_and_the_caller_sees_nothing_of_it(
        self, gateway: Gateway, asking: StandIn, given: Json | None, sent: Json
    ) -> None:
        response = gateway.http.post(
            CHAT, json={**MESSAGES, "temperature": 0.5, "stream": True, "stream_options": given}, headers=CALLER
        )
        (entry,) = asking.journal(ended=1)
        body = msgspec.json.decode(entry.body)
        assert (body["stream_options"], body["temperature"], body["messages"]) == (sent, 0.5, MESSAGES["messages"])
        assert entry.usage
        assert b'"usage": {' not in response.content
        assert response.content.endswith(b"data: [DONE]\n\n")
        assert b'"finish_reason": "stop"' in response.content

    @pytest.mark.parametrize("options", [{"include_usage": True}, {"include_usage": "yes"}, [1], "nonsense"])
    def test_options_of_the_callers_are_left_alone(self, gateway: Gateway, asking: StandIn, options: Any) -> None:
        asking.script({"raw": "data: {}\n\n", "headers": {"content-type": "text/event-stream"}})
        body = {**MESSAGES, "stream": True, "stream_options": options}
        gateway.http.post(CHAT, json=body, headers=CALLER)
        assert msgspec.json.decode(asking.journal()[0].body)["stream_options"] == options

    def test_who_asks_gets_it(self, gateway: Gateway, asking: StandIn) -> None:
        body = {**MESSAGES, "stream": True, "stream_options": {"include_usage": True}}
        assert b'"usage": {' in gateway.http.post(CHAT, json=body, headers=CALLER).content

    @pytest.mark.parametrize(
        ("path", "body"),
        [(CHAT, MESSAGES), ("/api/v1/embeddings", {"input": "a"}), ("/api/v1/responses", {"input": "a", "stream": True})],
    )
    def test_other_calls_are_as_they_were(self, gateway: Gateway, asking: StandIn, path: str, body: Json) -> None:
        gateway.http.post(path, json=body, headers=CALLER).raise_for_status()
        assert b"stream_options" not in asking.journal()[0].body

    def test_versions_that_do_not_know_it_are_not_asked(self, gateway: Gateway, model: StandIn) -> None:
        gateway.configure(model.address, STREAM_USAGE="true", AZURE_OPENAI_API_VERSION="2024-06-01")
        gateway.http.post(CHAT, json={**MESSAGES, "stream": True}, headers=CALLER).raise_for_status()
        assert b"stream_options" not in model.journal()[0].body

    @pytest.mark.parametrize("split", [1, 2, 3, 5, 7, 11, 0])
    def test_the_caller_misses_nothing_however_the_bytes_come(self, gateway: Gateway, asking: StandIn, split: int) -> None:
        begin = 'data: {"choices":[{"delta":{"content":"é"}}],"usage":null}\r\n\r\n: note\n\n'
        usage = 'data: {"choices":[],"usage":{"prompt_tokens":3}}\n\n'
        raw = f"{begin}{usage}data: [DONE]\n\n"
        asking.script({"raw": raw, "split": split, "headers": {"content-type": "text/event-stream"}})
        response = gateway.http.post(CHAT, json={**MESSAGES, "stream": True}, headers=CALLER)
        assert response.text == f"{begin}data: [DONE]\n\n"
