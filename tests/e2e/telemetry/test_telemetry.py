"""Test the totals of many calls, their traces, and their lines in the access log."""

import secrets
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from tests.support.gateway_calls import CALLER, CHAT, MESSAGES
from tests.support.processes import Json, Simulator
from tests.support.recorder import DURATION, TOKENS, collect_telemetry, logged_fields, wait_for_telemetry
from tests.support.upstreams import Gateway


def test_tokens_add_up_over_200_mixed_calls(gateway: Gateway, model: Simulator) -> None:
    gateway.configure(model.url, STREAM_USAGE="true")
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
        ("/api/v1/completions", {**prompt, "model": "chat"}),
        ("/api/v1/images/generations", {**prompt, "model": "chat"}),
        ("/api/v1/images/generations", {**prompt, "model": "chat", "stream": True}),
        ("/api/v1/audio/speech", {"input": "Hello", "voice": "alloy", "model": "chat", "stream_format": "sse"}),
    ]

    def call(number: int) -> None:
        path, body = kinds[number % len(kinds)]
        text = "word " * (number % 17 + 1)
        filled = msgspec.json.decode(msgspec.json.encode(body).replace(b"Hello", text.encode()))
        gateway.http.post(path, json=filled, headers=CALLER).raise_for_status()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(call, range(200)))
    found = wait_for_telemetry(gateway, 200)
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
    def test_the_call_to_azure_continues_the_callers_trace(self, gateway: Gateway, model: Simulator) -> None:
        trace, parent = secrets.token_hex(16), secrets.token_hex(8)
        headers = {**CALLER, "traceparent": f"00-{trace}-{parent}-01", "tracestate": "vendor=1"}
        gateway.http.post(CHAT, json=MESSAGES, headers=headers).raise_for_status()
        (span,) = collect_telemetry(gateway)["spans"]
        (request,) = model.journal()
        assert (span["trace_id"], span["parent"]) == (trace, parent)
        assert request.headers["traceparent"] == f"00-{trace}-{span['span_id']}-01"
        assert request.headers["tracestate"] == "vendor=1"

    @pytest.mark.parametrize("traceparent", ["00-nonsense", "", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
    def test_an_invalid_traceparent_starts_a_new_trace(self, gateway: Gateway, model: Simulator, traceparent: str) -> None:
        headers = {**CALLER, "traceparent": traceparent}
        gateway.http.post(CHAT, json=MESSAGES, headers=headers).raise_for_status()
        (span,) = collect_telemetry(gateway)["spans"]
        assert span["parent"] is None
        assert span["span_id"] in model.journal()[0].headers["traceparent"]

    def test_a_call_in_an_unsampled_trace_records_no_span(self, gateway: Gateway, model: Simulator) -> None:
        headers = {**CALLER, "traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"}
        gateway.http.post(CHAT, json=MESSAGES, headers=headers).raise_for_status()
        found = collect_telemetry(gateway)
        assert found["spans"] == []
        assert len(found["points"]) == 3
        assert model.journal()[0].headers["traceparent"].endswith("-00")


class TestAccessLog:
    def test_a_chat_is_logged_with_its_metadata(self, gateway: Gateway, model: Simulator) -> None:
        trace = secrets.token_hex(16)
        headers = {**CALLER, "traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}
        response = gateway.http.post(CHAT, json=MESSAGES, headers=headers)
        line = logged_fields(gateway, f"trace_id={trace}")
        usage = response.json()["usage"]
        expected = {
            "caller": "tests",
            "operation": "chat/completions",
            "deployment": "chat",
            "stream": "false",
            "status": "200",
            "input_tokens": str(usage["prompt_tokens"]),
            "output_tokens": str(usage["completion_tokens"]),
            "cached_tokens": "0",
            "reasoning_tokens": "0",
            "attempts": "1",
            "endpoint": "1",
            "apim_request_id": response.headers["apim-request-id"],
            "request_id": response.headers["x-request-id"],
            "trace_id": trace,
        }
        duration = line.pop("duration_ms")
        assert 0 <= int(duration) < 60_000
        assert line == expected

    def test_a_finished_stream_is_logged_with_its_usage(self, gateway: Gateway, model: Simulator) -> None:
        body = {**MESSAGES, "stream": True, "stream_options": {"include_usage": True}}
        response = gateway.http.post(CHAT, json=body, headers=CALLER)
        line = logged_fields(gateway, f"apim_request_id={response.headers['apim-request-id']}")
        (entry,) = model.journal(ended=1)
        assert (line["stream"], line["status"]) == ("true", "200")
        assert (line["input_tokens"], line["output_tokens"]) == (
            str(entry.usage["prompt_tokens"]),
            str(entry.usage["completion_tokens"]),
        )
        assert int(line["first_chunk_ms"]) <= int(line["duration_ms"])
        assert "error" not in line

    def test_a_disconnect_during_a_stream_is_logged(self, gateway: Gateway, model: Simulator) -> None:
        model.script({"reply": "one and two and three", "step": True})
        with gateway.http.stream("POST", CHAT, json={**MESSAGES, "stream": True}, headers=CALLER) as response:
            next(response.iter_bytes())
        line = logged_fields(gateway, f"apim_request_id={response.headers['apim-request-id']}")
        assert (line["status"], line["error"]) == ("200", "caller_gone")
        assert "input_tokens" not in line

    def test_a_header_from_azure_cannot_forge_fields(self, gateway: Gateway, model: Simulator) -> None:
        model.script({"status": 200, "raw": "{}", "headers": {"apim-request-id": "forged status=999 caller=nobody"}})
        gateway.http.post(CHAT, json=MESSAGES, headers=CALLER)
        assert logged_fields(gateway, "apim_request_id=forgedstatus999callernobody")["status"] == "200"
