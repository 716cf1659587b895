"""Test what the client gets of a stream's bytes, chunk by chunk."""

import json

import pytest

from local.simulator.azure_openai import AzureOpenAISimulator
from shared.errors import StreamInterrupted, UpstreamFailure
from shared.openai_api import simple_chat
from shared.openai_api.simple_chat import ChatDeltas
from shared.streaming import filters
from shared.streaming.filters import Progress, StreamFilter, WholeEvents
from shared.upstream import response
from shared.upstream.failover import Failover
from tests.support.calls import chat_call, chat_record

CALL = chat_call(b'{"messages":[{"role":"user","content":"Hi"}]}')
CHUNK = b'data: {"choices":[{"delta":{"content":"text"}}]}\n\n'


@pytest.fixture(params=[WholeEvents, ChatDeltas])
def stream_filter(request: pytest.FixtureRequest) -> StreamFilter:
    stream_filter: StreamFilter = request.param(chat_record())
    return stream_filter


@pytest.fixture
def whole_events() -> WholeEvents:
    return WholeEvents(chat_record())


@pytest.fixture
def chat_deltas() -> ChatDeltas:
    return ChatDeltas(chat_record())


@pytest.mark.parametrize("truncated", [b'data: {"choi', b"event: response.output_te", b"event: x\ndat", b"event: x\n"])
def test_a_truncated_event_is_not_passed_on(stream_filter: StreamFilter, truncated: bytes) -> None:
    assert b"text" in stream_filter.feed(CHUNK)
    assert stream_filter.feed(truncated) == b""
    with pytest.raises(StreamInterrupted):
        stream_filter.end()


@pytest.mark.parametrize("rest", [b"", b"\n", b": a comment", b'data: {"choices":[]}', b"data: [DONE]\n"])
def test_an_event_that_lacks_only_its_end_is_passed_on(whole_events: WholeEvents, rest: bytes) -> None:
    assert whole_events.feed(CHUNK + rest) + whole_events.end() == CHUNK + rest


@pytest.mark.parametrize("line", [b"a" * 100, b"data: x\n" * 10])
def test_an_endless_event_is_invalid_before_it_fills_the_memory(
    stream_filter: StreamFilter, line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "MAX_EVENT_SIZE", 1000)
    monkeypatch.setattr(simple_chat, "MAX_EVENT_SIZE", 1000)
    size = 0
    while stream_filter.progress is not Progress.INVALID:
        stream_filter.feed(line)
        size += len(line)
        assert size < 3000
    assert size > 900


@pytest.mark.anyio
async def test_an_endless_response_fails_before_it_fills_the_memory(
    resource: AzureOpenAISimulator, failover: Failover, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response, "MAX_BODY_SIZE", 1000)
    resource.journal.scripts.append({"raw": "{" + " " * 2000})
    with pytest.raises(UpstreamFailure):
        async with await failover.send(CALL) as upstream:
            await upstream.read()
    assert failover.slots.taken == 0


@pytest.mark.parametrize("fields", [{"id": None}, {"model": None}, {"created": "x"}, {"choices": [{"delta": None}]}])
def test_unusual_field_values_do_not_invalidate_the_stream(chat_deltas: ChatDeltas, fields: dict[str, object]) -> None:
    chat_deltas.feed(b"data: " + json.dumps({"choices": [], **fields}).encode() + b"\n\n")
    assert chat_deltas.progress is not Progress.INVALID
    assert chat_deltas.feed(CHUNK) == b'data: {"delta":"text"}\n\n'


def test_data_on_several_lines_is_sent_on_one(chat_deltas: ChatDeltas) -> None:
    events = chat_deltas.feed(b'data: {"choices":[],"usage":{\ndata: "prompt_tokens":1}}\n\ndata: [DONE]\n\n')
    assert events == b'data: {"finish_reason":null,"usage":{"prompt_tokens":1}}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize("end", ["", "\n", "\r"])
def test_done_may_lack_its_line_ends(chat_deltas: ChatDeltas, end: str) -> None:
    assert (chat_deltas.feed(f"data: [DONE]{end}".encode()) + chat_deltas.end()).endswith(b"data: [DONE]\n\n")


def test_nothing_is_sent_after_done(chat_deltas: ChatDeltas) -> None:
    assert chat_deltas.feed(b"data: [DONE]\n\n" + CHUNK[:-1]).endswith(b"data: [DONE]\n\n")
    assert chat_deltas.end() == b""
