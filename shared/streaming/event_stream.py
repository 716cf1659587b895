"""Send a stream of events to the client: keep it alive, end it in time, and report interruptions."""

import asyncio
from contextlib import suppress

from azurefunctions.extensions.http.fastapi import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from shared.error_responses import as_gateway_error
from shared.errors import ClientDisconnected, GatewayError, StreamInterrupted
from shared.streaming import sse
from shared.streaming.disconnects import wait_for_disconnect
from shared.streaming.filters import Progress, StreamFilter
from shared.telemetry.call_record import DISCONNECTED, SUCCEEDED, Outcome, interrupted
from shared.upstream.endpoint import TRANSPORT_ERRORS
from shared.upstream.response import UpstreamResponse

# Seconds. Azure's load balancer closes a connection on which nothing is sent for about 230 s.
# https://learn.microsoft.com/azure/azure-functions/functions-scale#timeout
KEEP_ALIVE_INTERVAL = 15.0
# Seconds that Azure's stream may take to end after its last event.
DRAIN_TIMEOUT = 1.0


class EventStreamResponse(StreamingResponse):
    """Stream Azure's response through the filter `events`, and close that response however the stream ends.

    Send a comment after every `KEEP_ALIVE_INTERVAL` of silence. End the stream with an error event, and without
    `[DONE]`, when it fails or Azure sends nothing for `idle` seconds. Give up on a client that reads nothing for `idle`
    seconds. `StreamingResponse` contributes the headers, which have no content length.
    """

    def __init__(self, upstream: UpstreamResponse, events: StreamFilter, idle: float, content_type: str) -> None:
        self.upstream = upstream
        self.events = events
        self.idle = idle
        self.clock = asyncio.get_running_loop().time
        self.last_chunk = self.last_sent = self.clock()
        # Two tasks send: one forwards the stream, the other sends comments and errors.
        self.sending = asyncio.Lock()
        headers = {
            **upstream.headers,
            "content-type": content_type,
            "cache-control": "no-cache",
            # Keeps proxies such as nginx from buffering the events.
            "x-accel-buffering": "no",
        }
        super().__init__(iter(()), 200, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        forwarding = asyncio.create_task(self.forward(send))
        disconnected = asyncio.create_task(wait_for_disconnect(receive))
        outcome = DISCONNECTED
        try:
            while not (forwarding.done() or disconnected.done()):
                # Time is checked here and not for every chunk, which would cost a timer each.
                timeout = self.seconds_until_check()
                await asyncio.wait({forwarding, disconnected}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                if not (forwarding.done() or disconnected.done()):
                    await self.check_time(send)
            if forwarding.done():
                forwarding.result()
        except ClientStalled as exc:
            # Returning before the last message makes the server close the connection.
            outcome = interrupted(ClientDisconnected.code, exc)
        except Exception as exc:
            await cancel(forwarding)
            outcome = await self.send_error(exc, send)
        finally:
            await cancel(forwarding, disconnected)
            await self.upstream.aclose(SUCCEEDED if self.events.is_complete else outcome)
            # The traceback of a failed task refers to this frame; dropping the tasks breaks the cycle.
            del forwarding, disconnected

    async def forward(self, send: Send) -> None:
        """Send the status, and the filter's output for Azure's chunks."""
        await self.send(send, {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        events = self.events
        try:
            while chunk := await self.upstream.next_chunk():
                self.last_chunk = self.clock()
                self.upstream.record.chunk_received()
                if output := events.feed(chunk):
                    await self.send(send, body_message(output))
                if events.progress is Progress.FINISHED:
                    await self.drain()
                    break
                if events.progress is Progress.INVALID:
                    raise StreamInterrupted
        except TRANSPORT_ERRORS:
            if not events.is_complete:
                raise
        await self.send(send, body_message(events.end(), more=False))

    async def send(self, send: Send, message: Message) -> None:
        async with self.sending:
            self.last_sent = self.clock()
            await send(message)

    def seconds_until_check(self) -> float:
        """Return the seconds until a comment or a time-out may be due."""
        now = self.clock()
        if self.sending.locked():
            # Silence may begin as soon as the client has taken the message.
            return min(max(self.last_sent + self.idle - now, 0), KEEP_ALIVE_INTERVAL)
        return max(min(self.last_chunk + self.idle, self.last_sent + KEEP_ALIVE_INTERVAL) - now, 0)

    async def check_time(self, send: Send) -> None:
        """Send a comment if one is due. Raise `TimeoutError` if Azure is too slow, `ClientStalled` if the client is."""
        now = self.clock()
        if self.sending.locked():
            # Azure's silence does not count while the client is slow.
            self.last_chunk = now
            if now >= self.last_sent + self.idle:
                raise ClientStalled
        elif now >= self.last_chunk + self.idle:
            raise TimeoutError
        elif now >= self.last_sent + KEEP_ALIVE_INTERVAL:
            await self.send_in_time(send, body_message(sse.COMMENT))

    async def send_in_time(self, send: Send, message: Message) -> None:
        try:
            async with asyncio.timeout(self.idle):
                await self.send(send, message)
        except TimeoutError:
            raise ClientStalled from None

    async def send_error(self, exc: Exception, send: Send) -> Outcome:
        """End the stream with an error event for `exc`, unless its content is complete. Return the call's outcome."""
        outcome, event = SUCCEEDED, b""
        if not self.events.is_complete:
            is_interruption = isinstance(exc, (*TRANSPORT_ERRORS, TimeoutError))
            error: GatewayError = StreamInterrupted() if is_interruption else as_gateway_error(exc)
            outcome = interrupted(str(error.code), exc)
            event = sse.event(error.body())
        with suppress(ClientStalled):
            await self.send_in_time(send, body_message(event, more=False))
        return outcome

    async def drain(self) -> None:
        """Read the end of a complete stream, for at most `DRAIN_TIMEOUT`, so that its connection can be used again."""
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT):
                while await self.upstream.next_chunk():
                    pass
        except (*TRANSPORT_ERRORS, TimeoutError):
            pass


class ClientStalled(Exception):
    """Report that the client has taken nothing for too long."""


def body_message(content: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


async def cancel(*tasks: asyncio.Task[None]) -> None:
    """Cancel `tasks`, wait for them, and ignore their exceptions, which asyncio would log otherwise."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
