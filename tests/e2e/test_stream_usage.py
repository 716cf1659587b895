"""Test STREAM_USAGE: the app requests the usage of streams from Azure, and removes it unless the caller requested it too."""

import itertools
from typing import Any

import msgspec
import pytest

from shared.streaming.filters import WithoutUsage
from tests.support.calls import chat_record
from tests.support.gateway_calls import CALLER, CHAT, MESSAGES
from tests.support.processes import Json, Simulator
from tests.support.upstreams import Gateway


def event(data: str, end: str) -> bytes:
    return f"data: {data}{end}".encode()


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r"])
def test_unrequested_usage_is_removed_wherever_the_stream_is_split(end: str) -> None:
    chunks = ['{"choices":[],"usage":null,"model":"m"}', '{"choices":[{"delta":{"content":"\\"usage\\":{"}}],"usage":null}']
    last = '{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}'
    usage = '{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}'
    kept = [event(data, end) for data in (*chunks, last)]
    raw = b"".join([*kept, event(usage, end), event("[DONE]", end)])
    expected = b"".join([*kept, event("[DONE]", end)])
    for start, length in itertools.product(range(len(raw) + 1), (0, 3)):
        parts = [part for part in (raw[:start], raw[start : start + length], raw[start + length :]) if part]
        record = chat_record()
        events = WithoutUsage(record)
        sent = [*map(events.feed, parts), events.end()]
        assert b"".join(sent) == expected
        assert record.metadata.usage
        assert record.metadata.usage.completion_tokens == 4


@pytest.mark.parametrize("end", ["", "\n"])
def test_unrequested_usage_is_removed_from_an_event_that_lacks_its_end(end: str) -> None:
    record = chat_record()
    events = WithoutUsage(record)
    raw = f'data: {{"choices":[],"usage":{{"prompt_tokens":3,"completion_tokens":4}}}}{end}'
    assert events.feed(b"data: 1\n\n" + raw.encode()) + events.end() == b"data: 1\n\n"
    assert record.metadata.usage


class TestStreamUsage:
    @pytest.fixture(params=["2025-04-01-preview", "v1"])
    def usage_model(self, request: pytest.FixtureRequest, gateway: Gateway, model: Simulator) -> Simulator:
        """Return the only endpoint of a gateway that requests the usage of streams."""
        gateway.configure(model.url, STREAM_USAGE="true", AZURE_OPENAI_API_VERSION=request.param)
        return model

    @pytest.mark.parametrize(
        ("options", "sent"),
        [
            (None, {"include_usage": True}),
            ({"include_usage": False}, {"include_usage": True}),
            ({"include_obfuscation": False}, {"include_obfuscation": False, "include_usage": True}),
        ],
    )
    def test_usage_is_requested_from_azure_and_removed_for_the_caller(
        self, gateway: Gateway, usage_model: Simulator, options: Json | None, sent: Json
    ) -> None:
        response = gateway.http.post(
            CHAT, json={**MESSAGES, "temperature": 0.5, "stream": True, "stream_options": options}, headers=CALLER
        )
        (entry,) = usage_model.journal(ended=1)
        body = msgspec.json.decode(entry.body)
        assert (body["stream_options"], body["temperature"], body["messages"]) == (sent, 0.5, MESSAGES["messages"])
        assert entry.usage
        assert b'"usage": {' not in response.content
        assert response.content.endswith(b"data: [DONE]\n\n")
        assert b'"finish_reason": "stop"' in response.content

    @pytest.mark.parametrize("options", [{"include_usage": True}, {"include_usage": "yes"}, [1], "nonsense"])
    def test_options_that_request_usage_or_are_invalid_stay_unchanged(
        self, gateway: Gateway, usage_model: Simulator, options: Any
    ) -> None:
        usage_model.script({"raw": "data: {}\n\n", "headers": {"content-type": "text/event-stream"}})
        body = {**MESSAGES, "stream": True, "stream_options": options}
        gateway.http.post(CHAT, json=body, headers=CALLER)
        assert msgspec.json.decode(usage_model.journal()[0].body)["stream_options"] == options

    def test_a_caller_that_requests_usage_gets_it(self, gateway: Gateway, usage_model: Simulator) -> None:
        body = {**MESSAGES, "stream": True, "stream_options": {"include_usage": True}}
        assert b'"usage": {' in gateway.http.post(CHAT, json=body, headers=CALLER).content

    @pytest.mark.parametrize(
        ("path", "body"),
        [(CHAT, MESSAGES), ("/api/v1/embeddings", {"input": "a"}), ("/api/v1/responses", {"input": "a", "stream": True})],
    )
    def test_other_calls_stay_unchanged(self, gateway: Gateway, usage_model: Simulator, path: str, body: Json) -> None:
        gateway.http.post(path, json=body, headers=CALLER).raise_for_status()
        assert b"stream_options" not in usage_model.journal()[0].body

    @pytest.mark.parametrize("path", [CHAT, "/api/chat"])
    def test_usage_is_not_requested_with_data_sources(self, gateway: Gateway, usage_model: Simulator, path: str) -> None:
        usage_model.script({"raw": "data: [DONE]\n\n", "headers": {"content-type": "text/event-stream"}, "times": 2})
        for sources, is_requested in (([{"type": "azure_search"}], False), (None, True)):
            body = {**MESSAGES, "stream": True, "data_sources": sources}
            gateway.http.post(path, json=body, headers=CALLER).raise_for_status()
            assert ("stream_options" in msgspec.json.decode(usage_model.journal()[-1].body)) == is_requested

    def test_usage_is_not_requested_from_api_versions_without_it(self, gateway: Gateway, model: Simulator) -> None:
        gateway.configure(model.url, STREAM_USAGE="true", AZURE_OPENAI_API_VERSION="2024-06-01")
        gateway.http.post(CHAT, json={**MESSAGES, "stream": True}, headers=CALLER).raise_for_status()
        assert b"stream_options" not in model.journal()[0].body

    @pytest.mark.parametrize("split", [1, 2, 3, 5, 7, 11, 0])
    def test_the_caller_gets_everything_else_however_the_bytes_are_split(
        self, gateway: Gateway, usage_model: Simulator, split: int
    ) -> None:
        begin = 'data: {"choices":[{"delta":{"content":"é"}}],"usage":null}\r\n\r\n: note\n\n'
        usage = 'data: {"choices":[],"usage":{"prompt_tokens":3}}\n\n'
        raw = f"{begin}{usage}data: [DONE]\n\n"
        usage_model.script({"raw": raw, "split": split, "headers": {"content-type": "text/event-stream"}})
        response = gateway.http.post(CHAT, json={**MESSAGES, "stream": True}, headers=CALLER)
        assert response.text == f"{begin}data: [DONE]\n\n"
