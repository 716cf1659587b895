"""Send a stream of events to the client: keep it alive, end it in time, and report interruptions."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

from azurefunctions.extensions.http.fastapi import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from shared.error_responses import as_gateway_error
from shared.errors import ClientDisconnected, GatewayError, StreamInterrupted, StreamTooLong
from shared.streaming.connections import limit_send_buffer, reset
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
# Seconds between an error event and the end of the connection. The Functions host resets the client's connection as soon as
# the app's ends; without a pause, the event was lost in 10 to 15 % of the streams on the real host, with it in none of 240.
PAUSE_BEFORE_END = 0.1
# Seconds that a client has to take an error event if the stream has no time left.
LAST_EVENT_TIMEOUT = 5.0


class EventStreamResponse(StreamingResponse):
    """Stream Azure's response through the filter `events`, and close that response however the stream ends.

    Send an empty line after every `KEEP_ALIVE_INTERVAL` of silence. The stream fails if Azure's does, if Azure sends
    nothing for `idle` seconds, and at the time `ends` of the loop's clock. Then send an error event, and leave the response
    without its last part: clients that ignore the event must not take it for complete. Reset the connection to a client
    that reads nothing for `idle` seconds. `StreamingResponse` contributes the headers, which have no content length.
    """

    def __init__(
        self, upstream: UpstreamResponse, events: StreamFilter, content_type: str, *, idle: float, ends: float
    ) -> None:
        self.upstream = upstream
        self.upstream.record.ends_after_invocation = True
        self.events = events
        self.idle = idle
        self.ends = ends
        self.clock = asyncio.get_running_loop().time
        self.last_chunk = self.last_sent = self.clock()
        # Two tasks send: one forwards the stream, the other sends empty lines.
        self.sending = asyncio.Lock()
        headers = {
            **upstream.headers,
            "content-type": content_type,
            "cache-control": "no-cache, no-transform",
            # Keeps proxies such as nginx from buffering the events.
            "x-accel-buffering": "no",
        }
        super().__init__(iter(()), upstream.response.status_code if events.keeps_status else 200, headers)
        self.files: AsyncExitStack | None = None
        """The files of the request's form. Azure may respond before it has read them, so they are closed at the end."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        limit_send_buffer(receive)
        forwarding = asyncio.create_task(self.forward(send))
        disconnected = asyncio.create_task(wait_for_disconnect(receive))
        ending = Ending(DISCONNECTED)
        try:
            while not (forwarding.done() or disconnected.done()):
                # Time is checked here and not for every chunk, which would cost a timer each.
                timeout = self.seconds_until_check()
                await asyncio.wait({forwarding, disconnected}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                if not (forwarding.done() or disconnected.done()):
                    await self.check_time(send)
            if forwarding.done():
                forwarding.result()
            if self.events.is_complete:
                ending = Ending(SUCCEEDED)
            elif self.events.progress is Progress.FAILED:
                # Many clients disconnect as soon as they have the error.
                ending = Ending(self.upstream.record.reported_error(), is_unfinished=True)
        except Exception as exc:
            # Cancelling drops the output that still waits for the client.
            is_blocked = self.sending.locked()
            await cancel(forwarding)
            ending = self.ending_after(exc, is_blocked)
        finally:
            await cancel(forwarding, disconnected)
            await self.upstream.aclose(ending.outcome)
            if self.files:
                await self.files.aclose()
            # The traceback of a failed task refers to this frame; dropping the tasks breaks the cycle.
            del forwarding, disconnected
        await self.finish(ending, receive, send)

    async def forward(self, send: Send) -> None:
        """Send the status, and the filter's output for Azure's chunks; the last part only if the content is complete."""
        await self.send(send, {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        events = self.events
        try:
            while chunk := await self.upstream.next_chunk():
                self.last_chunk = self.clock()
                self.upstream.record.chunk_received(len(chunk))
                if output := events.feed(chunk):
                    await self.send(send, body_message(output))
                if events.progress in (Progress.FINISHED, Progress.FAILED):
                    if output := await self.drain():
                        await self.send(send, body_message(output))
                    break
                if events.progress is Progress.INVALID:
                    raise StreamInterrupted
        except TRANSPORT_ERRORS:
            if events.progress is Progress.OPEN:
                raise
        output = events.end()
        await self.send(send, body_message(output, more=not events.is_complete))

    async def drain(self) -> bytes:
        """Read the end of a stream, for at most `DRAIN_TIMEOUT`, so that its connection can be used again.

        Return the filter's output: the Responses API may send its final event after an error.
        """
        output = bytearray()
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT):
                while chunk := await self.upstream.next_chunk():
                    self.upstream.record.chunk_received(len(chunk))
                    output += self.events.feed(chunk)
        except (*TRANSPORT_ERRORS, TimeoutError):
            pass
        return bytes(output)

    async def send(self, send: Send, message: Message) -> None:
        async with self.sending:
            self.last_sent = self.clock()
            await send(message)

    def seconds_until_check(self) -> float:
        """Return the seconds until an empty line or a time-out may be due."""
        now = self.clock()
        if self.sending.locked():
            # Silence may begin as soon as the client has taken the message.
            due = min(self.last_sent + self.idle, now + KEEP_ALIVE_INTERVAL)
        else:
            due = min(self.last_chunk + self.idle, self.last_sent + KEEP_ALIVE_INTERVAL)
        return max(min(due, self.ends) - now, 0)

    async def check_time(self, send: Send) -> None:
        """Send an empty line if one is due.

        Raise `TimeoutError` if Azure is too slow, `ClientStalled` if the client is, `StreamTooLong` if no time is left.
        """
        now = self.clock()
        if now >= self.ends:
            raise StreamTooLong
        if self.sending.locked():
            # Azure's silence does not count while the client is slow.
            self.last_chunk = now
            if now >= self.last_sent + self.idle:
                raise ClientStalled
        elif now >= self.last_chunk + self.idle:
            raise TimeoutError
        elif now >= self.last_sent + KEEP_ALIVE_INTERVAL:
            try:
                async with asyncio.timeout_at(min(now + self.idle, self.ends)):
                    await self.send(send, body_message(self.events.keep_alive))
            except TimeoutError:
                raise (ClientStalled if self.clock() < self.ends else StreamTooLong) from None

    def ending_after(self, exc: Exception, is_blocked: bool) -> "Ending":
        """Return how the stream ends after `exc`. It is complete if all its content went out before."""
        if isinstance(exc, ClientStalled):
            return Ending(interrupted(ClientDisconnected.code, exc), is_unfinished=True, resets=True)
        if self.events.is_complete and not is_blocked:
            return Ending(SUCCEEDED, body_message(b"", more=False))
        error = self.error_for(exc)
        cause = ClientStalled() if is_blocked else exc
        return Ending(
            interrupted(str(error.code), cause),
            body_message(self.events.error_event(error)),
            is_unfinished=True,
            # If the client is slow, the server would go on sending to it.
            resets=isinstance(error, StreamTooLong),
        )

    def error_for(self, exc: Exception) -> GatewayError:
        if isinstance(exc, TRANSPORT_ERRORS):
            return StreamInterrupted()
        if isinstance(exc, TimeoutError):
            return StreamInterrupted(
                f"The model sent nothing for {self.idle:g} seconds, so this app ended the stream. The request may be billed "
                "all the same."
            )
        return as_gateway_error(exc)

    async def finish(self, ending: "Ending", receive: Receive, send: Send) -> None:
        """Send the last message, and end the connection if the response is unfinished. Nothing else is held by now."""
        if ending.message:
            now = self.clock()
            try:
                async with asyncio.timeout_at(min(now + self.idle, max(now + LAST_EVENT_TIMEOUT, self.ends))):
                    await self.send(send, ending.message)
            except TimeoutError:
                reset(receive)
                return
        if ending.is_unfinished:
            # Returning before the last part makes the server close the connection.
            await asyncio.sleep(PAUSE_BEFORE_END)
        if ending.resets:
            reset(receive)


@dataclass(frozen=True)
class Ending:
    """How a stream ends: the call's outcome, and what is left to do with the client."""

    outcome: Outcome
    message: Message | None = None
    """The last message, unless it went out before."""
    is_unfinished: bool = False
    """Whether the response is left without its last part."""
    resets: bool = False
    """Whether the connection is reset, because closing it would wait for the client."""


class ClientStalled(Exception):
    """Report that the client has taken nothing for too long."""


def body_message(content: bytes | memoryview, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


async def cancel(*tasks: asyncio.Task[None]) -> None:
    """Cancel `tasks`, wait for them, and ignore their exceptions, which asyncio would log otherwise."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
