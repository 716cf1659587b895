"""From Azure's answer to the caller's response: streams, silence, breaks and callers who hang up."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Any

import anyio
from azurefunctions.extensions.http.fastapi import Request, Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from shared import sse
from shared.clients import TRANSPORT_ERRORS, InferenceCall
from shared.errors import CallerGone, StreamBroken, as_gateway_error
from shared.failover import Answer, Failover
from shared.telemetry import CallRecord, is_usage_alone

# Seconds. Azure's load balancer cuts a connection that is silent for about 230 s.
KEEP_ALIVE_INTERVAL = 15.0
DRAIN_LIMIT = 1.0
SILENCE = b""
# Chunks, of at most 64 KiB or so.
READ_AHEAD = 16

# Makes the caller's events of Azure's chunks.
type Events = Callable[[AsyncGenerator[bytes], CallRecord], AsyncGenerator[bytes]]


async def respond(failover: Failover, call: InferenceCall) -> Response:
    """Sends the call, and passes Azure's answer on: its status, its bytes, and the headers that callers may see."""
    answer = await failover.send(call)
    if not answer.is_event_stream:
        headers = {**answer.headers, "content-type": answer.content_type}
        return Response(await answer.read(), answer.response.status_code, headers)
    events = without_usage if call.adds_usage else whole_events
    return EventStreamResponse(answer, events, failover.settings.stream_idle, answer.content_type)


async def unless_hung_up[T](request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the caller hangs up first; then raises `CallerGone`.

    The request's body must have been read. The Functions worker by itself lets a function run on for nobody.
    """
    working = asyncio.create_task(work)
    gone = asyncio.create_task(disconnect(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # Has no effect on what is done already: work that ended in time counts.
        gone.cancel()
        working.cancel()
    try:
        return await working
    except asyncio.CancelledError:
        raise CallerGone from None
    finally:
        # The task holds its exception, whose traceback leads to this frame: a cycle, with the caller's body in it.
        del working


async def disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def chunks_or_silence(answer: Answer, interval: float, idle: float) -> AsyncGenerator[bytes]:
    """The chunks of `answer` as they come, and `SILENCE` for every `interval` seconds without one.

    Raises `TimeoutError` after `idle` seconds without one, and what reading raises.
    """
    now = asyncio.get_running_loop().time
    chunks: asyncio.Queue[bytes] = asyncio.Queue(READ_AHEAD)
    # Reads ahead: when a connection breaks, aiohttp drops what has come and has not been read.
    reading = asyncio.create_task(read_into(chunks, answer))
    reading.add_done_callback(lambda _: chunks.shutdown())
    last = now()
    try:
        while True:
            try:
                if chunks.empty():
                    async with asyncio.timeout(min(interval, last + idle - now())):
                        chunk = await chunks.get()
                else:
                    chunk = chunks.get_nowait()
            except asyncio.QueueShutDown:
                await reading
                return
            except TimeoutError:
                if now() >= last + idle:
                    raise
                chunk = SILENCE
            yield chunk
            if chunk != SILENCE:
                # Not before: a caller who takes long is no silence of Azure's.
                last = now()
    finally:
        reading.cancel()
        # Its failure, if it had one that nobody waits for any more, is seen with that.
        await asyncio.gather(reading, return_exceptions=True)


async def read_into(chunks: asyncio.Queue[bytes], answer: Answer) -> None:
    async for chunk in answer.chunks():
        answer.record.chunk_came()
        await chunks.put(chunk)


async def drain(chunks: AsyncIterator[bytes]) -> None:
    """Reads what is left of an answer that has told all, for a moment: its connection can then serve another call."""
    try:
        async with asyncio.timeout(DRAIN_LIMIT):
            async for _ in chunks:
                pass
    except (*TRANSPORT_ERRORS, TimeoutError):
        pass


class EventStreamResponse(StreamingResponse):
    """Streams what `events` makes of the chunks of `answer`, and closes the answer however the stream ends.

    A silence of more than `idle` seconds is a failure. A failure becomes one last event in OpenAI's error shape,
    without `[DONE]`. A caller who takes nothing for that long is held to be gone.
    """

    def __init__(self, answer: Answer, events: Events, idle: float, content_type: str) -> None:
        self.answer = answer
        self.idle = idle
        chunks = chunks_or_silence(answer, KEEP_ALIVE_INTERVAL, idle)
        self.guarded_events = failure_as_event(events(chunks, answer.record), answer.record)
        # The last header keeps proxies such as nginx from collecting the events.
        headers = {
            **answer.headers,
            "content-type": content_type,
            "cache-control": "no-cache",
            "x-accel-buffering": "no",
        }
        super().__init__(self.guarded_events, answer.response.status_code, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(self.idle):
                await send(message)

        try:
            await super().__call__(scope, receive, send_in_time)
        except TimeoutError as exc:
            # Returning before the end has the server cut the connection.
            self.answer.record.broke_off(CallerGone.code, exc)
        finally:
            # Shielded, because a caller who hangs up cancels all that is awaited here.
            with anyio.CancelScope(shield=True):
                try:
                    await self.guarded_events.aclose()
                finally:
                    await self.answer.aclose()


async def whole_events(chunks: AsyncGenerator[bytes], record: CallRecord) -> AsyncGenerator[bytes]:
    """The bytes of `chunks`, all of them and no others, but no event in parts; and a comment for each silence.

    So what follows, a comment or the news of a failure, never stands inside an event. A failure after `[DONE]` is none.
    """
    rest = bytearray()
    is_done = False
    async with aclosing(chunks):
        try:
            async for chunk in chunks:
                if chunk == SILENCE:
                    yield sse.COMMENT
                    continue
                known = len(rest)
                rest += chunk
                if end := sse.last_end(rest, known):
                    events = bytes(rest[:end])
                    record.read_events(events)
                    if is_done := events.rstrip().endswith(sse.DONE):
                        record.completed()
                    yield events
                    del rest[:end]
        except (*TRANSPORT_ERRORS, TimeoutError):
            if not is_done:
                raise
    if rest:
        yield bytes(rest)


async def without_usage(chunks: AsyncGenerator[bytes], record: CallRecord) -> AsyncGenerator[bytes]:
    """The same without the event that brings nothing but the usage."""
    async with aclosing(whole_events(chunks, record)) as blocks:
        async for block in blocks:
            events = [event for event in sse.split(block) if not any(map(is_usage_alone, sse.data_of(event)))]
            if events:
                yield b"".join(events)


async def failure_as_event(events: AsyncGenerator[bytes], record: CallRecord) -> AsyncGenerator[bytes]:
    """`events`, and in place of a failure one more event that tells of it; `record` gets to know how they ended."""
    async with aclosing(events):
        try:
            async for event in events:
                yield event
            record.completed()
        except Exception as exc:
            broken = isinstance(exc, (*TRANSPORT_ERRORS, TimeoutError, StreamBroken))
            error = StreamBroken() if broken else as_gateway_error(exc)
            record.broke_off(str(error.code), exc)
            yield sse.event(error.body())
