"""Test how a stream reaches the client, through silence, failures and disconnects, with a simulator of Azure OpenAI."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from local.simulator.azure_openai import AzureOpenAISimulator
from shared.errors import ClientDisconnected
from shared.openai_api.simple_chat import ChatDeltas
from shared.streaming import event_stream, sse
from shared.streaming.connections import reset
from shared.streaming.disconnects import cancel_on_disconnect
from shared.streaming.event_stream import EventStreamResponse
from shared.streaming.filters import StreamFilter, WholeEvents
from shared.streaming.whole_response import CHUNK_SIZE, whole_response
from shared.telemetry.call_record import DISCONNECTED, SUCCEEDED, Outcome
from shared.upstream.failover import Failover
from shared.upstream.response import UpstreamResponse
from tests.support.calls import chat_call

pytestmark = pytest.mark.anyio

CALL = chat_call(b'{"messages":[{"role":"user","content":"Hi"}],"stream":true}', stream=True)


@pytest.fixture
async def upstream(resource: AzureOpenAISimulator, failover: Failover) -> AsyncIterator[UpstreamResponse]:
    """Start a stream of two chunks, each sent when the test permits it."""
    resource.journal.scripts.append({"reply": "one and two", "step": True})
    upstream = await failover.send(CALL)
    yield upstream
    await upstream.aclose(DISCONNECTED)


class Client:
    """Take the place of the client's connection in the ASGI server: read what is sent, and disconnect on demand."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.is_complete = False
        self.changed = asyncio.Condition()
        self.disconnected = asyncio.Event()
        self.reading = asyncio.Event()
        """Set while the client reads what is sent."""
        self.reading.set()
        self.transport: asyncio.Transport | None = None
        """The connection, which the app finds as it does in uvicorn."""
        self.offered = asyncio.Event()
        """Set when a message has been offered to the client, read or not."""

    async def send(self, message: Message) -> None:
        self.offered.set()
        await self.reading.wait()
        async with self.changed:
            self.received.append(message.get("body", b""))
            self.is_complete = message["type"] == "http.response.body" and not message["more_body"]
            self.changed.notify_all()

    async def receive(self) -> Message:
        await self.disconnected.wait()
        return {"type": "http.disconnect"}

    async def read(self, response: EventStreamResponse) -> None:
        """Read `response` until it ends or the client disconnects."""
        await response({"type": "http"}, self.receive, self.send)

    async def wait_for(self, text: bytes) -> None:
        """Wait until the client has received `text`."""
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(lambda: text in b"".join(self.received)), 60)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    """Return a client whose streams have a short keep-alive interval."""
    monkeypatch.setattr(event_stream, "KEEP_ALIVE_INTERVAL", 0.05)
    return Client()


def outcome_of(upstream: UpstreamResponse) -> Outcome:
    assert upstream.record.outcome
    return upstream.record.outcome


def stream_of(
    upstream: UpstreamResponse, events: StreamFilter | None = None, *, idle: float = 60, seconds: float = 60
) -> EventStreamResponse:
    ends = asyncio.get_running_loop().time() + seconds
    return EventStreamResponse(upstream, events or ChatDeltas(upstream.record), sse.CONTENT_TYPE, idle=idle, ends=ends)


async def test_an_empty_line_is_sent_for_each_silence_between_chunks(
    resource: AzureOpenAISimulator, failover: Failover, upstream: UpstreamResponse, client: Client
) -> None:
    reading = asyncio.create_task(client.read(stream_of(upstream)))
    await client.wait_for(sse.KEEP_ALIVE * 2)
    assert b"".join(client.received).strip() == b""
    resource.journal.permits.release()
    await client.wait_for(b'"one and"')
    await client.wait_for(b'"one and"}\n\n' + sse.KEEP_ALIVE)
    resource.journal.permits.release()
    await reading
    assert client.is_complete
    text = b"".join(client.received)
    assert text.endswith(b"data: [DONE]\n\n")
    assert sse.EventParser().feed(text)[0] == b'{"delta":"one and"}'


async def test_a_silence_that_is_too_long_interrupts_the_stream(upstream: UpstreamResponse, client: Client) -> None:
    await client.read(stream_of(upstream, idle=0.2))
    (event,) = sse.data_of(client.received[-1])
    error = json.loads(event)["error"]
    assert error["code"] == "stream_broken"
    # Advice to try again would double the bill.
    assert error["message"].startswith("The model sent nothing for 0.2 seconds")
    assert "billed" in error["message"]
    assert "ry again" not in error["message"]
    assert not client.is_complete
    assert outcome_of(upstream).cause == "TimeoutError"


async def test_a_disconnect_during_a_silence_leaves_no_task_behind(upstream: UpstreamResponse, client: Client) -> None:
    before = asyncio.all_tasks()
    reading = asyncio.create_task(client.read(stream_of(upstream)))
    await client.wait_for(sse.KEEP_ALIVE)
    client.disconnected.set()
    await reading
    assert not client.is_complete
    assert outcome_of(upstream) == DISCONNECTED
    assert asyncio.all_tasks() <= before


FINISHED = '{"type":"response.completed","response":{"id":"r","model":"m","status":"completed"}}'
INCOMPLETE = '{"type":"response.incomplete","response":{"id":"r","status":"incomplete","error":null,"usage":null}}'


@pytest.mark.parametrize("last", ["[DONE]", FINISHED, INCOMPLETE])
async def test_silence_after_the_last_event_is_harmless(
    resource: AzureOpenAISimulator, failover: Failover, client: Client, last: str
) -> None:
    raw = f'data: {{"model":"m"}}\n\ndata: {last}\n\n'
    headers = {"content-type": "text/event-stream"}
    resource.journal.scripts.append({"raw": raw, "pace": 60, "headers": headers})
    upstream = await failover.send(CALL)
    await client.read(stream_of(upstream, WholeEvents(upstream.record), idle=0.2))
    assert [message for message in client.received[1:-1] if message != sse.KEEP_ALIVE] == [raw.encode()]
    assert client.is_complete
    assert outcome_of(upstream) == SUCCEEDED


async def test_a_delayed_empty_line_is_not_sent_after_the_end(
    resource: AzureOpenAISimulator, failover: Failover, upstream: UpstreamResponse, client: Client
) -> None:
    reading = asyncio.create_task(client.read(stream_of(upstream)))
    await client.wait_for(sse.KEEP_ALIVE)
    client.reading.clear()
    client.offered.clear()
    # The next empty line now waits for the client, while the stream ends behind it.
    await client.offered.wait()
    resource.journal.permits.release()
    resource.journal.permits.release()
    async with resource.journal.changed:
        await resource.journal.changed.wait_for(lambda: resource.journal.entries[0].ended is not None)
    client.reading.set()
    await reading
    assert client.received[-1] == b""
    assert client.is_complete
    assert outcome_of(upstream) == SUCCEEDED


async def test_carriage_returns_alone_end_events(upstream: UpstreamResponse) -> None:
    deltas = ChatDeltas(upstream.record)
    events = deltas.feed(b'data: {"choices":[{"delta":{"content":"a"}}]}\r\rdata: [DONE]\r\r')
    assert (events + deltas.end()).endswith(b"data: [DONE]\n\n")


async def test_a_client_that_stops_reading_counts_as_disconnected(upstream: UpstreamResponse, client: Client) -> None:
    client.reading.clear()
    await client.read(stream_of(upstream, idle=0.2))
    assert client.received == []
    assert outcome_of(upstream) == Outcome("caller_gone", cause="ClientStalled")


async def test_a_stream_ends_when_its_time_is_up(upstream: UpstreamResponse, client: Client) -> None:
    await client.read(stream_of(upstream, seconds=0.2))
    assert b'"code":"stream_too_long"' in client.received[-1]
    assert not client.is_complete
    assert outcome_of(upstream) == Outcome("stream_too_long", cause="StreamTooLong")


async def test_a_model_that_trickles_does_not_extend_the_time(
    resource: AzureOpenAISimulator, failover: Failover, client: Client
) -> None:
    resource.journal.scripts.append({"reply": "word " * 2000, "pace": 0.05})
    upstream = await failover.send(CALL)
    await client.read(stream_of(upstream, idle=60, seconds=0.4))
    assert b'"delta":"word' in b"".join(client.received)
    assert b'"code":"stream_too_long"' in client.received[-1]


async def test_a_stream_whose_content_is_complete_ends_in_order_when_its_time_is_up(
    resource: AzureOpenAISimulator, failover: Failover, client: Client
) -> None:
    headers = {"content-type": "text/event-stream"}
    resource.journal.scripts.append({"raw": "data: [DONE]\n\n", "pace": 60, "headers": headers})
    upstream = await failover.send(CALL)
    await client.read(stream_of(upstream, WholeEvents(upstream.record), seconds=0.3))
    assert client.is_complete
    assert outcome_of(upstream) == SUCCEEDED


@pytest.mark.parametrize("reads_again", [False, True])
async def test_a_slow_client_does_not_take_a_stream_for_complete_when_its_time_is_up(
    resource: AzureOpenAISimulator,
    failover: Failover,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    reads_again: bool,
) -> None:
    monkeypatch.setattr(event_stream, "LAST_EVENT_TIMEOUT", 60 if reads_again else 0.1)
    upstream = await failover.send(CALL)
    client.reading.clear()
    reading = asyncio.create_task(client.read(stream_of(upstream, WholeEvents(upstream.record), seconds=0.3)))
    async with resource.journal.changed:
        await resource.journal.changed.wait_for(lambda: resource.journal.entries[0].ended is not None)
    await ended(upstream)
    # The slot is free before the client has taken the error event, which it may never do.
    assert failover.slots.taken == 0
    assert outcome_of(upstream) == Outcome("stream_too_long", cause="ClientStalled")
    if reads_again:
        client.reading.set()
    await reading
    assert not client.is_complete
    assert (b"stream_too_long" in b"".join(client.received)) == reads_again


async def ended(upstream: UpstreamResponse) -> None:
    """Wait until the call has an outcome."""
    async with asyncio.timeout(60):
        while True:
            if upstream.record.outcome:
                return
            await asyncio.sleep(0.01)


async def test_everything_is_released_before_the_pause(
    failover: Failover, upstream: UpstreamResponse, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "PAUSE_BEFORE_END", 60)
    reading = asyncio.create_task(client.read(stream_of(upstream, idle=0.2)))
    await client.wait_for(b"stream_broken")
    assert failover.slots.taken == 0
    assert upstream.response.is_closed
    assert outcome_of(upstream).error == "stream_broken"
    assert not reading.done()
    reading.cancel()


async def test_a_client_that_disconnects_at_azures_error_event_gets_no_other_outcome(
    resource: AzureOpenAISimulator, failover: Failover, client: Client
) -> None:
    raw = 'data: {"choices":[{}]}\n\ndata: {"error":{"code":"rate_limit_exceeded","message":"slow down"}}\n\n'
    headers = {"content-type": "text/event-stream"}
    resource.journal.scripts.append({"raw": raw, "pace": 60, "headers": headers})
    upstream = await failover.send(CALL)
    reading = asyncio.create_task(client.read(stream_of(upstream, WholeEvents(upstream.record))))
    await client.wait_for(b"slow down")
    client.disconnected.set()
    await reading
    assert outcome_of(upstream) == Outcome("upstream_error", cause="rate_limit_exceeded")


@pytest.mark.parametrize("kind", ["stream", "large response"])
async def test_everything_is_released_if_the_clients_socket_is_closed(
    resource: AzureOpenAISimulator,
    failover: Failover,
    client: Client,
    kind: str,
) -> None:
    if kind == "stream":
        response: Response = stream_of(await failover.send(CALL))
    else:
        resource.journal.scripts.append({"raw": '{"choices":[' + " " * CHUNK_SIZE + "]}"})
        ends = asyncio.get_running_loop().time() + 60
        response = await whole_response(await failover.send(chat_call(CALL.body)), "application/json", idle=60, ends=ends)
    connection, other = socket.socketpair()
    with other:
        client.transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=connection)
        # The transport does not notice.
        connection.close()
        await response({"type": "http"}, client.receive, client.send)
        assert client.is_complete
        assert failover.slots.taken == 0
        reset(client.receive)
        assert client.transport.is_closing()


LIMITED = '{"code":"rate_limit_exceeded","message":"slow down"}'
NOT_SUPPORTED = '{"error":{"code":"OperationNotSupported","message":"not here"}}'


@pytest.mark.parametrize(
    "events",
    [
        [
            '{"type":"response.output_text.delta"}',
            f'{{"type":"response.failed","response":{{"status":"failed","error":{LIMITED}}}}}',
            f'{{"type":"error","error":{LIMITED}}}',
        ],
        ['{"choices":[{}]}', f'{{"error":{LIMITED}}}'],
        [NOT_SUPPORTED],
        None,
    ],
    ids=["two events after output", "after output", "before output", "in a whole body"],
)
async def test_an_error_in_a_body_is_logged_once(
    resource: AzureOpenAISimulator,
    failover: Failover,
    client: Client,
    caplog: pytest.LogCaptureFixture,
    events: list[str] | None,
) -> None:
    if events is None:
        resource.journal.scripts.append({"raw": NOT_SUPPORTED})
    else:
        raw = "".join(f"data: {event}\n\n" for event in events)
        resource.journal.scripts.append({"raw": raw, "headers": {"content-type": "text/event-stream"}})
    upstream = await failover.send(CALL)
    if events is None:
        await upstream.read()
    else:
        await client.read(stream_of(upstream, WholeEvents(upstream.record)))
    assert len([text for text in caplog.messages if "responded with" in text]) == 1


async def test_closing_a_response_twice_releases_its_slot_once(
    resource: AzureOpenAISimulator, failover: Failover, upstream: UpstreamResponse
) -> None:
    assert failover.slots.taken == 1
    await upstream.aclose(DISCONNECTED)
    await upstream.aclose(DISCONNECTED)
    assert failover.slots.taken == 0


async def test_a_stream_read_to_its_end_leaves_its_connection_for_the_next_call(
    resource: AzureOpenAISimulator, failover: Failover, client: Client
) -> None:
    for _ in range(2):
        await client.read(stream_of(await failover.send(CALL)))
        assert client.received[-2].endswith(b"data: [DONE]\n\n")
    assert len({entry.client for entry in resource.journal.entries}) == 1


async def test_the_text_of_an_unexpected_exception_is_neither_sent_nor_logged(
    resource: AzureOpenAISimulator,
    failover: Failover,
    upstream: UpstreamResponse,
    client: Client,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class FailingFilter(ChatDeltas):
        def feed(self, chunk: bytes) -> bytes:
            if b"one and" in chunk:
                raise RuntimeError("the reply itself")
            return b"data: 1\n\n"

    resource.journal.permits.release()
    await client.read(stream_of(upstream, FailingFilter(upstream.record)))
    assert client.received[1] == b"data: 1\n\n"
    assert b"internal_error" in client.received[-1]
    assert not client.is_complete
    assert b"the reply itself" not in b"".join(client.received)
    output = capsys.readouterr().out
    # The log has the lines of code that led to it, the innermost first.
    frames = r"<test_event_stream_response.py:\d+<event_stream.py:\d+"
    assert re.search(" error=internal_error cause=RuntimeError" + frames, output)
    assert "the reply itself" not in output


class TestCancelOnDisconnect:
    async def test_a_client_that_stays_connected_gets_the_result(self, client: Client) -> None:
        async def work() -> str:
            await asyncio.sleep(0.01)
            return "done"

        assert await cancel_on_disconnect(Request({"type": "http"}, client.receive), work()) == "done"

    async def test_a_disconnect_cancels_the_work(self, client: Client) -> None:
        ended = []

        async def work() -> None:
            try:
                client.disconnected.set()
                await asyncio.sleep(60)
            finally:
                ended.append(True)

        with pytest.raises(ClientDisconnected):
            await cancel_on_disconnect(Request({"type": "http"}, client.receive), work())
        assert ended
        current = asyncio.current_task()
        assert current
        assert not current.cancelling()

    async def test_a_cancellation_from_elsewhere_is_not_taken_for_a_disconnect(self, client: Client) -> None:
        task = asyncio.create_task(cancel_on_disconnect(Request({"type": "http"}, client.receive), asyncio.sleep(60)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def test_an_empty_line_is_due_after_15_seconds() -> None:
    # Azure's load balancer closes a connection on which nothing is sent for 230 s; proxies are often set to 30 or 60.
    assert event_stream.KEEP_ALIVE_INTERVAL == 15.0
