"""A stream on its way to the caller: silence, breaks, slow callers and those who hang up."""

import asyncio
from contextlib import suppress

from azurefunctions.extensions.http.fastapi import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from shared.errors import CallerGone, StreamBroken, as_gateway_error
from shared.streaming import sse
from shared.streaming.filters import Events
from shared.upstream.endpoint import TRANSPORT_ERRORS
from shared.upstream.response import Answer

# Seconds. Azure's load balancer cuts a connection that is silent for about 230 s.
KEEP_ALIVE_INTERVAL = 15.0
DRAIN_LIMIT = 1.0


class EventStreamResponse(StreamingResponse):
    """Streams what `events` makes of `answer`, and closes the answer however the stream ends.

    A comment goes out for every `KEEP_ALIVE_INTERVAL` of silence; one of more than `idle` seconds is a failure. A failure
    becomes one last event in OpenAI's error shape, without `[DONE]`. A caller who takes nothing for `idle` seconds is
    held to be gone. What it has of `StreamingResponse` are the headers, without a length.
    """

    def __init__(self, answer: Answer, events: Events, idle: float, content_type: str) -> None:
        self.answer = answer
        self.record = answer.record
        self.events = events
        self.idle = idle
        self.clock = asyncio.get_running_loop().time
        self.last_chunk = self.last_sent = self.clock()
        # Comments are sent from another task than the rest.
        self.sending = asyncio.Lock()
        # The last header keeps proxies such as nginx from collecting the events.
        headers = {
            **answer.headers,
            "content-type": content_type,
            "cache-control": "no-cache",
            "x-accel-buffering": "no",
        }
        super().__init__(iter(()), 200, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        relaying, leaving = asyncio.create_task(self.relay(send)), asyncio.create_task(disconnect(receive))
        try:
            while not (relaying.done() or leaving.done()):
                # Time is looked at here, and not at every chunk.
                await asyncio.wait({relaying, leaving}, timeout=self.due(), return_when=asyncio.FIRST_COMPLETED)
                if not (relaying.done() or leaving.done()):
                    await self.act_on_time(send)
            if relaying.done():
                relaying.result()
        except Stalled as exc:
            # Returning before the end has the server cut the connection.
            self.record.broke_off(CallerGone.code, exc)
        except Exception as exc:
            await end(relaying)
            await self.tell_failure(exc, send)
        finally:
            await end(relaying, leaving)
            await self.answer.aclose()
            # What a task has raised leads to this frame by its traceback.
            del relaying, leaving

    async def relay(self, send: Send) -> None:
        """Sends the status, and what is to be made of all that comes from Azure."""
        await self.send(send, {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        events = self.events
        try:
            while chunk := await self.answer.next_chunk():
                self.last_chunk = self.clock()
                self.record.chunk_came()
                if output := events.feed(chunk):
                    await self.send(send, body_message(output))
                if events.is_over:
                    await self.drain()
                    break
                if events.is_broken:
                    raise StreamBroken
        except TRANSPORT_ERRORS:
            if not events.is_done:
                raise
        output = events.end()
        self.record.completed()
        await self.send(send, body_message(output, more=False))

    async def send(self, send: Send, message: Message) -> None:
        async with self.sending:
            self.last_sent = self.clock()
            await send(message)

    def due(self) -> float:
        """Seconds until the next moment at which time may ask for something."""
        now = self.clock()
        if self.sending.locked():
            # A silence may begin as soon as that is over.
            return min(max(self.last_sent + self.idle - now, 0), KEEP_ALIVE_INTERVAL)
        return max(min(self.last_chunk + self.idle, self.last_sent + KEEP_ALIVE_INTERVAL) - now, 0)

    async def act_on_time(self, send: Send) -> None:
        """Sends a comment when one is due. Raises `TimeoutError` when Azure, and `Stalled` when the caller is too slow."""
        now = self.clock()
        if self.sending.locked():
            # A caller who takes long is no silence of Azure's.
            self.last_chunk = now
            if now >= self.last_sent + self.idle:
                raise Stalled
        elif now >= self.last_chunk + self.idle:
            raise TimeoutError
        elif now >= self.last_sent + KEEP_ALIVE_INTERVAL:
            await self.send_in_time(send, body_message(sse.COMMENT))

    async def send_in_time(self, send: Send, message: Message) -> None:
        try:
            async with asyncio.timeout(self.idle):
                await self.send(send, message)
        except TimeoutError:
            raise Stalled from None

    async def tell_failure(self, exc: Exception, send: Send) -> None:
        """Ends the stream with an event that tells of `exc`, unless the caller has had all of it before."""
        event = b""
        if not self.events.is_done:
            broken = isinstance(exc, (*TRANSPORT_ERRORS, TimeoutError, StreamBroken))
            error = StreamBroken() if broken else as_gateway_error(exc)
            self.record.broke_off(str(error.code), exc)
            event = sse.event(error.body())
        with suppress(Stalled):
            await self.send_in_time(send, body_message(event, more=False))

    async def drain(self) -> None:
        """Reads what is left of an answer that has told all, for a moment: its connection can then serve another call."""
        try:
            async with asyncio.timeout(DRAIN_LIMIT):
                while await self.answer.next_chunk():
                    pass
        except (*TRANSPORT_ERRORS, TimeoutError):
            pass


class Stalled(Exception):
    """The caller takes nothing any more."""


def body_message(content: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


async def end(*tasks: asyncio.Task[None]) -> None:
    """Cancels those that still run. Their failures, if nobody has seen them yet, are seen with that."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
