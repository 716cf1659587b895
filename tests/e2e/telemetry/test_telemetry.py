"""What calls add up to, the traces that they belong to, and their lines in the log."""

import re
import secrets
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from tests.support.gateway_calls import CALLER, CHAT, MESSAGES
from tests.support.processes import Json, Simulator
from tests.support.recorder import DURATION, TOKENS, collect_telemetry, wait_for_telemetry
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
    def test_azure_gets_the_span_in_the_callers_trace(self, gateway: Gateway, model: Simulator) -> None:
        trace, parent = secrets.token_hex(16), secrets.token_hex(8)
        headers = {**CALLER, "traceparent": f"00-{trace}-{parent}-01", "tracestate": "vendor=1"}
        gateway.http.post(CHAT, json=MESSAGES, headers=headers).raise_for_status()
        (span,) = collect_telemetry(gateway)["spans"]
        (seen,) = model.journal()
        assert (span["trace_id"], span["parent"]) == (trace, parent)
        assert seen.headers["traceparent"] == f"00-{trace}-{span['span_id']}-01"
        assert seen.headers["tracestate"] == "vendor=1"

    @pytest.mark.parametrize("traceparent", ["00-nonsense", "", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
    def test_nonsense_begins_a_trace_of_the_apps_own(self, gateway: Gateway, model: Simulator, traceparent: str) -> None:
        headers = {**CALLER, "traceparent": traceparent}
        gateway.http.post(CHAT, json=MESSAGES, headers=headers).raise_for_status()
        (span,) = collect_telemetry(gateway)["spans"]
        assert span["parent"] is None
        assert span["span_id"] in model.journal()[0].headers["traceparent"]

    def test_a_caller_who_is_not_sampled_is_not_recorded(self, gateway: Gateway, model: Simulator) -> None:
        headers = {**CALLER, "traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"}
        gateway.http.post(CHAT, json=MESSAGES, headers=headers).raise_for_status()
        found = collect_telemetry(gateway)
        assert found["spans"] == []
        assert len(found["points"]) == 3
        assert model.journal()[0].headers["traceparent"].endswith("-00")


class TestLines:
    def test_of_a_chat_has_what_an_operator_asks_for(self, gateway: Gateway, model: Simulator) -> None:
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

    def test_of_a_finished_stream_reaches_the_output(self, gateway: Gateway, model: Simulator) -> None:
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

    def test_of_an_abandoned_stream_reaches_the_output(self, gateway: Gateway, model: Simulator) -> None:
        model.script({"reply": "one and two and three", "step": True})
        with gateway.http.stream("POST", CHAT, json={**MESSAGES, "stream": True}, headers=CALLER) as response:
            next(response.iter_bytes())
        line = line_with(gateway, f"apim_request_id={response.headers['apim-request-id']}")
        assert (line["status"], line["error"]) == ("200", "caller_gone")
        assert "input_tokens" not in line

    def test_no_header_of_azures_can_forge_one(self, gateway: Gateway, model: Simulator) -> None:
        model.script({"status": 200, "raw": "{}", "headers": {"apim-request-id": "forged status=999 caller=nobody"}})
        gateway.http.post(CHAT, json=MESSAGES, headers=CALLER)
        assert line_with(gateway, "apim_request_id=forgedstatus999callernobody")["status"] == "200"


def line_with(gateway: Gateway, text: str) -> dict[str, str]:
    """The fields of the line that has `text`, as soon as it is there."""
    gateway.app.wait_for(text)
    (line,) = (line for line in gateway.app.output.splitlines() if text in line and "Call " in line)
    return dict(re.findall(r"(\w+)=(\S+)", line))
