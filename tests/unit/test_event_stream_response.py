"""Streams in silence, and failures in mid-stream, with a real answer of the simulator."""

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.types import Message

from local.simulator.azure_openai import AzureOpenAISimulator
from shared.errors import ClientDisconnected
from shared.openai_api.simple_chat import ChatDeltas
from shared.streaming import event_stream, sse
from shared.streaming.disconnects import cancel_on_disconnect
from shared.streaming.event_stream import EventStreamResponse
from shared.streaming.filters import WholeEvents
from shared.telemetry.call_record import DISCONNECTED, SUCCEEDED, Outcome
from shared.upstream.failover import Failover
from shared.upstream.response import UpstreamResponse
from tests.support.calls import chat_call

pytestmark = pytest.mark.anyio

CALL = chat_call(b'{"messages":[{"role":"user","content":"Hi"}],"stream":true}', stream=True)


@pytest.fixture
async def answer(resource: AzureOpenAISimulator, failover: Failover) -> AsyncIterator[UpstreamResponse]:
    """A stream of two pieces, each sent when the test permits it."""
    resource.journal.scripts.append({"reply": "one and two", "step": True})
    answer = await failover.send(CALL)
    yield answer
    await answer.aclose(DISCONNECTED)


class Caller:
    """Stands where the server has the caller's connection: takes what is sent, hangs up when it is told to."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.is_over = False
        self.changed = asyncio.Condition()
        self.left = asyncio.Event()
        self.takes = asyncio.Event()
        self.takes.set()
        self.offered = asyncio.Event()

    async def send(self, message: Message) -> None:
        self.offered.set()
        await self.takes.wait()
        async with self.changed:
            self.taken.append(message.get("body", b""))
            self.is_over = message["type"] == "http.response.body" and not message["more_body"]
            self.changed.notify_all()

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def taking(self, response: EventStreamResponse) -> None:
        await response({"type": "http"}, self.receive, self.send)

    async def until(self, text: bytes) -> None:
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(lambda: text in b"".join(self.taken)), 60)


@pytest.fixture
def caller(monkeypatch: pytest.MonkeyPatch) -> Caller:
    monkeypatch.setattr(event_stream, "KEEP_ALIVE_INTERVAL", 0.05)
    return Caller()


def outcome_of(answer: UpstreamResponse) -> Outcome:
    assert answer.record.outcome
    return answer.record.outcome


def streamed(answer: UpstreamResponse, idle: float = 60) -> EventStreamResponse:
    return EventStreamResponse(answer, ChatDeltas(answer.record), idle, sse.CONTENT_TYPE)


async def test_a_comment_comes_for_each_silence_and_pieces_between_them(
    resource: AzureOpenAISimulator, failover: Failover, answer: UpstreamResponse, caller: Caller
) -> None:
    taking = asyncio.create_task(caller.taking(streamed(answer)))
    await caller.until(sse.COMMENT * 2)
    resource.journal.permits.release()
    await caller.until(b'"one and"')
    await caller.until(b'"one and"}\n\n' + sse.COMMENT)
    resource.journal.permits.release()
    await taking
    assert caller.is_over
    text = b"".join(caller.taken)
    assert text.endswith(b"data: [DONE]\n\n")
    assert sse.EventParser().feed(text)[0] == b'{"delta":"one and"}'


async def test_too_long_a_silence_is_a_failure(answer: UpstreamResponse, caller: Caller) -> None:
    await caller.taking(streamed(answer, idle=0.2))
    assert b"stream_broken" in caller.taken[-1]
    assert caller.is_over
    assert outcome_of(answer).cause == "TimeoutError"


async def test_leaving_a_stream_in_a_silence_leaves_no_task_behind(answer: UpstreamResponse, caller: Caller) -> None:
    before = asyncio.all_tasks()
    taking = asyncio.create_task(caller.taking(streamed(answer)))
    await caller.until(sse.COMMENT)
    caller.left.set()
    await taking
    assert not caller.is_over
    assert outcome_of(answer) == DISCONNECTED
    assert asyncio.all_tasks() <= before


FINISHED = '{"type":"response.completed","response":{"id":"r","model":"m","status":"completed"}}'
INCOMPLETE = '{"type":"response.incomplete","response":{"id":"r","status":"incomplete","error":null,"usage":null}}'


@pytest.mark.parametrize("last", ["[DONE]", FINISHED, INCOMPLETE])
async def test_silence_after_the_end_is_no_failure(
    resource: AzureOpenAISimulator, failover: Failover, caller: Caller, last: str
) -> None:
    raw = f'data: {{"model":"m"}}\n\ndata: {last}\n\n'
    headers = {"content-type": "text/event-stream"}
    resource.journal.scripts.append({"raw": raw, "pace": 60, "headers": headers})
    answer = await failover.send(CALL)
    await caller.taking(EventStreamResponse(answer, WholeEvents(answer.record), 0.2, sse.CONTENT_TYPE))
    assert b"".join(caller.taken).replace(sse.COMMENT, b"") == raw.encode()
    assert caller.is_over
    assert outcome_of(answer) == SUCCEEDED


async def test_a_comment_that_waits_does_not_come_after_the_end(
    resource: AzureOpenAISimulator, failover: Failover, answer: UpstreamResponse, caller: Caller
) -> None:
    taking = asyncio.create_task(caller.taking(streamed(answer)))
    await caller.until(sse.COMMENT)
    caller.takes.clear()
    caller.offered.clear()
    # The next comment, which now waits to be taken, while the stream comes to its end behind it.
    await caller.offered.wait()
    resource.journal.permits.release()
    resource.journal.permits.release()
    async with resource.journal.changed:
        await resource.journal.changed.wait_for(lambda: resource.journal.entries[0].ended is not None)
    caller.takes.set()
    await taking
    assert caller.taken[-1] == b""
    assert caller.is_over
    assert outcome_of(answer) == SUCCEEDED


async def test_carriage_returns_alone_end_events_too(answer: UpstreamResponse) -> None:
    deltas = ChatDeltas(answer.record)
    seen = deltas.feed(b'data: {"choices":[{"delta":{"content":"a"}}]}\r\rdata: [DONE]\r\r')
    assert (seen + deltas.end()).endswith(b"data: [DONE]\n\n")


async def test_one_who_takes_nothing_is_given_up(answer: UpstreamResponse, caller: Caller) -> None:
    caller.takes.clear()
    await caller.taking(streamed(answer, idle=0.2))
    assert caller.taken == []
    assert outcome_of(answer) == Outcome("caller_gone", cause="ClientStalled")


async def test_a_closed_answer_frees_its_place(
    resource: AzureOpenAISimulator, failover: Failover, answer: UpstreamResponse
) -> None:
    assert failover.slots.taken == 1
    await answer.aclose(DISCONNECTED)
    await answer.aclose(DISCONNECTED)
    assert failover.slots.taken == 0


async def test_a_stream_read_to_its_end_leaves_its_connection_for_the_next(
    resource: AzureOpenAISimulator, failover: Failover, caller: Caller
) -> None:
    for _ in range(2):
        await caller.taking(streamed(await failover.send(CALL)))
        assert caller.taken[-2].endswith(b"data: [DONE]\n\n")
    assert len({entry.client for entry in resource.journal.entries}) == 1


async def test_an_unexpected_failure_in_a_stream_keeps_its_text_to_itself(
    resource: AzureOpenAISimulator,
    failover: Failover,
    answer: UpstreamResponse,
    caller: Caller,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Failing(ChatDeltas):
        def feed(self, chunk: bytes) -> bytes:
            if b"one and" in chunk:
                raise RuntimeError("the reply itself")
            return b"data: 1\n\n"

    resource.journal.permits.release()
    await caller.taking(EventStreamResponse(answer, Failing(answer.record), 60, sse.CONTENT_TYPE))
    assert caller.taken[1] == b"data: 1\n\n"
    assert b"internal_error" in caller.taken[-1]
    assert b"the reply itself" not in b"".join(caller.taken)
    output = capsys.readouterr().out
    # The lines of code, the innermost first.
    assert re.search(
        r" error=internal_error cause=RuntimeError<test_event_stream_response.py:\d+<event_stream.py:\d+", output
    )
    assert "the reply itself" not in output


class TestHangingUp:
    async def test_a_caller_who_stays_gets_the_result(self, caller: Caller) -> None:
        async def work() -> str:
            await asyncio.sleep(0.01)
            return "done"

        assert await cancel_on_disconnect(Request({"type": "http"}, caller.receive), work()) == "done"

    async def test_one_who_leaves_ends_the_work(self, caller: Caller) -> None:
        ended = []

        async def work() -> None:
            try:
                caller.left.set()
                await asyncio.sleep(60)
            finally:
                ended.append(True)

        with pytest.raises(ClientDisconnected):
            await cancel_on_disconnect(Request({"type": "http"}, caller.receive), work())
        assert ended
        current = asyncio.current_task()
        assert current
        assert not current.cancelling()

    async def test_being_cancelled_from_elsewhere_stays_that(self, caller: Caller) -> None:
        task = asyncio.create_task(cancel_on_disconnect(Request({"type": "http"}, caller.receive), asyncio.sleep(60)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
