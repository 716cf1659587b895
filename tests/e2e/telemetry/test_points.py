"""Test which metrics each kind of call records, and what its span contains."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.support.gateway_calls import CALLER, CHAT, MESSAGES
from tests.support.processes import Json, Simulator, eventually
from tests.support.recorder import DURATION, FIRST_CHUNK, TOKENS, collect_telemetry, wait_for_telemetry
from tests.support.streams import read_unfinished
from tests.support.upstreams import CALLER_KEY, Gateway, Upstreams


@pytest.fixture
def second(upstreams: Upstreams) -> Iterator[Simulator]:
    model = upstreams.azure()
    yield model
    model.http.close()


def common_attributes(model: Simulator, endpoint: int = 1, **more: Any) -> Json:
    """Return the attributes common to all points of a call, and `more`; two underscores in a name become a dot."""
    host, port = model.url.removeprefix("http://").split(":")
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
    """Assert that `found` has exactly the points of one call."""
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


def assert_span(found: Json, name: str, attributes: Json, *, error: str | None = None) -> None:
    (span,) = found["spans"]
    first_chunk = span["attributes"].pop("gen_ai.response.time_to_first_chunk", None)
    assert first_chunk is None or 0 < first_chunk < 60
    assert span["attributes"] == attributes | ({"error.type": error} if error else {})
    assert (span["name"], span["kind"], span["failed"]) == (name, "CLIENT", error is not None)
    # A status's description or an event could contain the text of an exception.
    assert (span["description"], span["events"]) == (None, 0)


def span_attributes(response_id: str, reason: str, used: Json, *, stream: bool) -> Json:
    """Return what the span of a chat has besides the points' attributes, if the first attempt succeeded.

    The simulator reports no cached tokens and no reasoning.
    """
    return {
        "gen_ai.request.stream": stream,
        "gen_ai.response.id": response_id,
        "gen_ai.response.finish_reasons": [reason],
        "gen_ai.usage.input_tokens": used["input"],
        "gen_ai.usage.output_tokens": used["output"],
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.reasoning.output_tokens": 0,
        "gateway.attempts": 1,
    }


class TestPoints:
    def test_a_chat_records_its_duration_its_tokens_and_one_span(self, gateway: Gateway, model: Simulator) -> None:
        body = gateway.http.post(CHAT, json=MESSAGES, headers=CALLER).json()
        found = collect_telemetry(gateway)
        attributes = common_attributes(model, gen_ai__response__model=body["model"])
        used = {"input": body["usage"]["prompt_tokens"], "output": body["usage"]["completion_tokens"]}
        assert_points(found, attributes, attempts=1, error=None, tokens=used, is_stream=False)
        assert_span(found, "chat chat", attributes | span_attributes(body["id"], "stop", used, stream=False))

    @pytest.mark.parametrize("path", ["/api/chat", CHAT])
    def test_a_stream_also_records_the_time_to_its_first_chunk(self, gateway: Gateway, model: Simulator, path: str) -> None:
        body = {**MESSAGES, "stream": True, "stream_options": {"include_usage": True}}
        gateway.http.post(path, json=body, headers=CALLER).raise_for_status()
        found = wait_for_telemetry(gateway)
        (entry,) = model.journal(ended=1)
        used = {"input": entry.usage["prompt_tokens"], "output": entry.usage["completion_tokens"]}
        caller = {"gateway.caller": "(chat)"} if path == "/api/chat" else {}
        name = found["spans"][0]["attributes"]["gen_ai.response.model"]
        assert name.endswith("-2026-11-01")
        attributes = common_attributes(model, gen_ai__response__model=name) | caller
        assert_points(found, attributes, attempts=1, error=None, tokens=used, is_stream=True)
        response_id = found["spans"][0]["attributes"]["gen_ai.response.id"]
        assert response_id.startswith("chatcmpl-")
        assert_span(found, "chat chat", attributes | span_attributes(response_id, "stop", used, stream=True))

    def test_embeddings_record_only_input_tokens(self, gateway: Gateway, model: Simulator) -> None:
        body = gateway.http.post("/api/v1/embeddings", json={"input": "Hello", "model": "other"}, headers=CALLER).json()
        found = collect_telemetry(gateway)
        attributes = common_attributes(
            model,
            gen_ai__operation__name="embeddings",
            gen_ai__request__model="other",
            gen_ai__response__model=body["model"],
        )
        used = {"input": body["usage"]["prompt_tokens"]}
        assert_points(found, attributes, attempts=1, error=None, tokens=used, is_stream=False)
        more = {"gen_ai.request.stream": False, "gen_ai.usage.input_tokens": used["input"], "gateway.attempts": 1}
        assert_span(found, "embeddings other", attributes | more)

    def test_a_streamed_response_records_the_usage_in_its_last_event(self, gateway: Gateway, model: Simulator) -> None:
        gateway.http.post("/api/v1/responses", json={"input": "Hello", "stream": True}, headers=CALLER).raise_for_status()
        found = wait_for_telemetry(gateway)
        (entry,) = model.journal(ended=1)
        used = {"input": entry.usage["input_tokens"], "output": entry.usage["output_tokens"]}
        seen = found["spans"][0]["attributes"]
        attributes = common_attributes(model, gen_ai__response__model=seen["gen_ai.response.model"])
        assert_points(found, attributes, attempts=1, error=None, tokens=used, is_stream=True)
        assert seen["gen_ai.response.id"].startswith("resp_")
        assert_span(
            found, "chat chat", attributes | span_attributes(seen["gen_ai.response.id"], "completed", used, stream=True)
        )

    def test_an_error_of_the_content_filter_has_its_own_type(self, gateway: Gateway, model: Simulator) -> None:
        body = {"error": {"code": "content_filter", "message": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}
        model.script({"status": 400, "body": body})
        assert gateway.http.post(CHAT, json=MESSAGES, headers=CALLER).status_code == 400
        found = collect_telemetry(gateway)
        attributes = common_attributes(model)
        assert_points(found, attributes, attempts=1, error="content_filter", tokens={}, is_stream=False)
        more = {"gen_ai.request.stream": False, "gateway.attempts": 1}
        assert_span(found, "chat chat", attributes | more, error="content_filter")

    def test_failover_records_its_attempts_and_the_endpoint_that_responded(
        self, gateway: Gateway, model: Simulator, second: Simulator
    ) -> None:
        gateway.configure(model.url, second.url)
        model.script({"status": 429})
        body = gateway.http.post(CHAT, json=MESSAGES, headers=CALLER).json()
        found = collect_telemetry(gateway)
        attributes = common_attributes(second, endpoint=2, gen_ai__response__model=body["model"])
        used = {"input": body["usage"]["prompt_tokens"], "output": body["usage"]["completion_tokens"]}
        assert_points(found, attributes, attempts=2, error=None, tokens=used, is_stream=False)

    def test_a_429_from_every_endpoint_is_one_failed_call(
        self, gateway: Gateway, model: Simulator, second: Simulator
    ) -> None:
        gateway.configure(model.url, second.url)
        model.script({"status": 429})
        second.script({"status": 429})
        assert gateway.http.post(CHAT, json=MESSAGES, headers=CALLER).status_code == 429
        found, attributes = collect_telemetry(gateway), common_attributes(second, endpoint=2)
        assert_points(found, attributes, attempts=2, error="429", tokens={}, is_stream=False)

    @pytest.mark.parametrize("path", ["/api/chat", CHAT, "/api/v1/responses"])
    def test_a_disconnect_during_a_stream_is_recorded(self, gateway: Gateway, model: Simulator, path: str) -> None:
        model.script({"reply": "one and two and three", "step": True})
        model.permit()
        fields = {"input": "Hello"} if path.endswith("responses") else MESSAGES
        with gateway.http.stream("POST", path, json={**fields, "stream": True}, headers=CALLER) as response:
            for text in response.iter_text():
                if "one and" in text:
                    break
        found = wait_for_telemetry(gateway)
        seen = found["spans"][0]["attributes"]
        caller = {"gateway.caller": "(chat)"} if path == "/api/chat" else {}
        attributes = common_attributes(model, gen_ai__response__model=seen["gen_ai.response.model"]) | caller
        assert_points(found, attributes, attempts=1, error="caller_gone", tokens={}, is_stream=True)
        assert seen["gen_ai.response.id"]
        assert "gen_ai.response.finish_reasons" not in seen

    def test_an_interrupted_stream_is_recorded_as_an_error(self, gateway: Gateway, model: Simulator) -> None:
        model.script({"reply": "one and two and three", "cut": 1})
        with gateway.http.stream("POST", CHAT, json={**MESSAGES, "stream": True}, headers=CALLER) as response:
            read_unfinished(response)
        (point,) = (p for p in wait_for_telemetry(gateway)["points"] if p["metric"] == DURATION)
        assert point["attributes"]["error.type"] == "stream_broken"

    def test_a_stream_that_takes_too_long_is_recorded_as_an_error(self, gateway: Gateway, model: Simulator) -> None:
        gateway.configure(model.url, STREAM_SECONDS="0.5")
        model.script({"reply": "one and two and three", "pace": 0.4})
        with gateway.http.stream("POST", CHAT, json={**MESSAGES, "stream": True}, headers=CALLER) as response:
            read_unfinished(response)
        (point,) = (p for p in wait_for_telemetry(gateway)["points"] if p["metric"] == DURATION)
        assert point["attributes"]["error.type"] == "stream_too_long"

    @pytest.mark.parametrize(
        ("path", "event"),
        [
            (CHAT, '{"error":{"code":"x","message":"y"}}'),
            ("/api/v1/responses", '{"type":"error","code":"x","message":"y","param":null,"sequence_number":3}'),
        ],
    )
    def test_an_error_event_from_azure_is_recorded_as_an_error(
        self, gateway: Gateway, model: Simulator, path: str, event: str
    ) -> None:
        output = '{"choices":[{"delta":{"content":"a"}}],"type":"response.output_text.delta","model":"a"}'
        raw = f"data: {output}\n\ndata: {event}\n\n"
        model.script({"raw": raw, "headers": {"content-type": "text/event-stream"}})
        body = {**MESSAGES, "input": "Hello", "stream": True}
        with gateway.http.stream("POST", path, json=body, headers=CALLER) as response:
            read_unfinished(response)
        (point,) = (p for p in wait_for_telemetry(gateway)["points"] if p["metric"] == DURATION)
        assert point["attributes"]["error.type"] == "upstream_error"

    def test_an_exceeded_deadline_is_recorded(self, gateway: Gateway, model: Simulator) -> None:
        gateway.configure(model.url, REQUEST_TIMEOUT_SECONDS="0.3")
        model.script({"hang": True})
        assert gateway.http.post(CHAT, json=MESSAGES, headers=CALLER).status_code == 504
        model.permit()
        found, attributes = collect_telemetry(gateway), common_attributes(model)
        assert_points(found, attributes, attempts=1, error="deadline_exceeded", tokens={}, is_stream=False)

    def test_a_disconnect_before_the_response_is_recorded(self, gateway: Gateway, model: Simulator) -> None:
        model.script({"hang": True})
        body = msgspec.json.encode(MESSAGES)
        with gateway.app.send_raw("POST", CHAT, body, api_key=CALLER_KEY):
            model.journal(requests=1)
        found = wait_for_telemetry(gateway)
        assert_points(found, common_attributes(model), attempts=1, error="caller_gone", tokens={}, is_stream=False)

    def test_a_call_above_the_limit_is_recorded_with_no_attempts(self, gateway: Gateway, model: Simulator) -> None:
        gateway.configure(model.url, MAX_CONCURRENT_CALLS="1")
        model.script({"hang": True})
        with gateway.app.send_raw("POST", CHAT, msgspec.json.encode(MESSAGES), api_key=CALLER_KEY):
            model.journal(requests=1)
            assert gateway.http.post(CHAT, json=MESSAGES, headers=CALLER).status_code == 503
            (point,) = (p for p in collect_telemetry(gateway)["points"] if p["metric"] == DURATION)
        assert (point["attributes"]["error.type"], point["attributes"]["gateway.attempts"]) == ("too_many_calls", 0)
        assert "gateway.endpoint" not in point["attributes"]
        wait_for_telemetry(gateway)

    def test_a_response_without_a_completion_is_recorded_as_an_error(self, gateway: Gateway, model: Simulator) -> None:
        model.script({"status": 200, "raw": "<html>", "headers": {"content-type": "text/html"}})
        assert gateway.http.post("/api/chat", json=MESSAGES).status_code == 502
        (point,) = (p for p in collect_telemetry(gateway)["points"] if p["metric"] == DURATION)
        assert point["attributes"]["error.type"] == "upstream_error"

    def test_reading_a_stored_response_does_not_count_its_tokens_again(self, gateway: Gateway, model: Simulator) -> None:
        body = gateway.http.post("/api/v1/responses", json={"input": "Hello"}, headers=CALLER).json()
        collect_telemetry(gateway)
        again = gateway.http.get(f"/api/v1/responses/{body['id']}", headers=CALLER).json()
        assert again["usage"] == body["usage"]
        found = collect_telemetry(gateway)
        assert [point["metric"] for point in found["points"]] == [DURATION]
        assert found["spans"][0]["name"] == "stored_response"

    def test_reading_a_failed_stored_response_is_not_an_error(self, gateway: Gateway, model: Simulator) -> None:
        failed = {"id": "resp_1", "object": "response", "status": "failed", "error": {"code": "x", "message": "y"}}
        model.script({"status": 200, "body": failed})
        assert gateway.http.get("/api/v1/responses/resp_1", headers=CALLER).json() == failed
        (point,) = collect_telemetry(gateway)["points"]
        assert "error.type" not in point["attributes"]

    def test_the_timer_records_which_endpoints_are_healthy(
        self, gateway: Gateway, model: Simulator, second: Simulator
    ) -> None:
        gateway.configure(model.url, second.url)
        second.script({"status": 503})
        gateway.http.post("/admin/functions/health_probe", json={"input": ""}).raise_for_status()

        def found() -> dict[int, int]:
            points = [point for point in collect_telemetry(gateway)["points"] if point["value"] is not None]
            return {point["attributes"]["gateway.endpoint"]: point["value"] for point in points}

        assert eventually(found, bool) == {1: 1, 2: 0}
