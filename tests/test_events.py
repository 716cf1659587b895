"""What callers get of a stream's bytes, chunk by chunk."""

import json

import pytest

from local.simulator.azure_openai import AzureOpenAI
from shared.errors import StreamBroken, UpstreamFailure
from shared.openai_api import chat
from shared.openai_api.chat import Deltas
from shared.streaming import filters
from shared.streaming.filters import Events, WholeEvents
from shared.telemetry.call_record import CallRecord
from shared.upstream import response
from shared.upstream.failover import Failover
from shared.upstream.request import InferenceCall

CALL = InferenceCall("chat/completions", "chat", b'{"messages":[{"role":"user","content":"Hi"}]}', {}, "tests")
PIECE = b'data: {"choices":[{"delta":{"content":"piece"}}]}\n\n'


@pytest.fixture(params=[WholeEvents, Deltas])
def made(request: pytest.FixtureRequest) -> Events:
    made: Events = request.param(CallRecord(CALL))
    return made


@pytest.fixture
def whole() -> WholeEvents:
    return WholeEvents(CallRecord(CALL))


@pytest.fixture
def deltas() -> Deltas:
    return Deltas(CallRecord(CALL))


@pytest.mark.parametrize("cut", [b'data: {"choi', b"event: response.output_te", b"event: x\ndat", b"event: x\n"])
def test_an_event_that_is_cut_is_broken_and_not_passed_on(made: Events, cut: bytes) -> None:
    assert b"piece" in made.feed(PIECE)
    assert made.feed(cut) == b""
    with pytest.raises(StreamBroken):
        made.end()


@pytest.mark.parametrize("rest", [b"", b"\n", b": a comment", b'data: {"choices":[]}', b"data: [DONE]\n"])
def test_an_event_that_lacks_nothing_but_its_end_is_passed_on(whole: WholeEvents, rest: bytes) -> None:
    assert whole.feed(PIECE + rest) + whole.end() == PIECE + rest


@pytest.mark.parametrize("line", [b"a" * 100, b"data: x\n" * 10])
def test_an_event_without_end_is_broken_before_it_fills_the_memory(
    made: Events, line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "LARGEST", 1000)
    monkeypatch.setattr(chat, "LARGEST", 1000)
    fed = 0
    while not made.is_broken:
        made.feed(line)
        fed += len(line)
        assert fed < 3000
    assert fed > 900


@pytest.mark.anyio
async def test_an_answer_without_end_is_a_failure_before_it_fills_the_memory(
    resource: AzureOpenAI, failover: Failover, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response, "LARGEST", 1000)
    resource.journal.scripts.append({"raw": "{" + " " * 2000})
    with pytest.raises(UpstreamFailure):
        async with await failover.send(CALL) as received:
            await received.read()
    assert failover.calls_in_flight == 0


@pytest.mark.parametrize("odd", [{"id": None}, {"model": None}, {"created": "x"}, {"choices": [{"delta": None}]}])
def test_fields_that_nobody_reads_break_nothing(deltas: Deltas, odd: dict[str, object]) -> None:
    deltas.feed(b"data: " + json.dumps({"choices": [], **odd}).encode() + b"\n\n")
    assert not deltas.is_broken
    assert deltas.feed(PIECE) == b'data: {"delta":"piece"}\n\n'


def test_what_comes_in_several_lines_goes_out_in_one(deltas: Deltas) -> None:
    told = deltas.feed(b'data: {"choices":[],"usage":{\ndata: "prompt_tokens":1}}\n\ndata: [DONE]\n\n')
    assert told == b'data: {"finish_reason":null,"usage":{"prompt_tokens":1}}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize("end", ["", "\n", "\r"])
def test_the_end_may_lack_its_own(deltas: Deltas, end: str) -> None:
    assert (deltas.feed(f"data: [DONE]{end}".encode()) + deltas.end()).endswith(b"data: [DONE]\n\n")


def test_nothing_follows_the_end(deltas: Deltas) -> None:
    assert deltas.feed(b"data: [DONE]\n\n" + PIECE[:-1]).endswith(b"data: [DONE]\n\n")
    assert deltas.end() == b""
