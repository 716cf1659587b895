"""What callers get of a stream's bytes, chunk by chunk."""

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
PIECE = b'data: {"choices":[{"delta":{"content":"piece"}}]}\n\n'


@pytest.fixture(params=[WholeEvents, ChatDeltas])
def made(request: pytest.FixtureRequest) -> StreamFilter:
    made: StreamFilter = request.param(chat_record())
    return made


@pytest.fixture
def whole() -> WholeEvents:
    return WholeEvents(chat_record())


@pytest.fixture
def deltas() -> ChatDeltas:
    return ChatDeltas(chat_record())


@pytest.mark.parametrize("cut", [b'data: {"choi', b"event: response.output_te", b"event: x\ndat", b"event: x\n"])
def test_an_event_that_is_cut_is_broken_and_not_passed_on(made: StreamFilter, cut: bytes) -> None:
    assert b"piece" in made.feed(PIECE)
    assert made.feed(cut) == b""
    with pytest.raises(StreamInterrupted):
        made.end()


@pytest.mark.parametrize("rest", [b"", b"\n", b": a comment", b'data: {"choices":[]}', b"data: [DONE]\n"])
def test_an_event_that_lacks_nothing_but_its_end_is_passed_on(whole: WholeEvents, rest: bytes) -> None:
    assert whole.feed(PIECE + rest) + whole.end() == PIECE + rest


@pytest.mark.parametrize("line", [b"a" * 100, b"data: x\n" * 10])
def test_an_event_without_end_is_broken_before_it_fills_the_memory(
    made: StreamFilter, line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "MAX_EVENT_SIZE", 1000)
    monkeypatch.setattr(simple_chat, "MAX_EVENT_SIZE", 1000)
    fed = 0
    while made.progress is not Progress.INVALID:
        made.feed(line)
        fed += len(line)
        assert fed < 3000
    assert fed > 900


@pytest.mark.anyio
async def test_an_answer_without_end_is_a_failure_before_it_fills_the_memory(
    resource: AzureOpenAISimulator, failover: Failover, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response, "MAX_BODY_SIZE", 1000)
    resource.journal.scripts.append({"raw": "{" + " " * 2000})
    with pytest.raises(UpstreamFailure):
        async with await failover.send(CALL) as received:
            await received.read()
    assert failover.slots.taken == 0


@pytest.mark.parametrize("odd", [{"id": None}, {"model": None}, {"created": "x"}, {"choices": [{"delta": None}]}])
def test_fields_that_nobody_reads_break_nothing(deltas: ChatDeltas, odd: dict[str, object]) -> None:
    deltas.feed(b"data: " + json.dumps({"choices": [], **odd}).encode() + b"\n\n")
    assert deltas.progress is not Progress.INVALID
    assert deltas.feed(PIECE) == b'data: {"delta":"piece"}\n\n'


def test_what_comes_in_several_lines_goes_out_in_one(deltas: ChatDeltas) -> None:
    told = deltas.feed(b'data: {"choices":[],"usage":{\ndata: "prompt_tokens":1}}\n\ndata: [DONE]\n\n')
    assert told == b'data: {"finish_reason":null,"usage":{"prompt_tokens":1}}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize("end", ["", "\n", "\r"])
def test_the_end_may_lack_its_own(deltas: ChatDeltas, end: str) -> None:
    assert (deltas.feed(f"data: [DONE]{end}".encode()) + deltas.end()).endswith(b"data: [DONE]\n\n")


def test_nothing_follows_the_end(deltas: ChatDeltas) -> None:
    assert deltas.feed(b"data: [DONE]\n\n" + PIECE[:-1]).endswith(b"data: [DONE]\n\n")
    assert deltas.end() == b""
