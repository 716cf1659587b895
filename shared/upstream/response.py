"""Hold Azure's response to a call while its body is being read."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx2

from shared.errors import DeadlineExceeded, ErrorDetail, UpstreamFailure, UpstreamUnreachable
from shared.telemetry.call_record import CallRecord, Outcome
from shared.upstream.concurrency import Slot
from shared.upstream.endpoint import TRANSPORT_ERRORS, EndpointClient
from shared.upstream.read_ahead import error_in_body, read_preamble
from shared.upstream.response_body import MAX_BODY_SIZE, ResponseBody
from shared.upstream.response_headers import content_type, returned_headers


class UpstreamResponse:
    """Hold Azure's response: the headers have been read, the body has not.

    It holds a connection, the call's slot and its record. `aclose` releases all three, with the call's outcome.
    """

    def __init__(
        self, response: httpx2.Response, endpoint: EndpointClient, deadline: float, slot: Slot, record: CallRecord
    ) -> None:
        self.response = response
        self.endpoint = endpoint
        self.deadline = deadline
        self.slot = slot
        self.record = record
        self.headers = returned_headers(response)
        self.content_type = content_type(response)
        self.next_chunk = chunk_reader(response)
        """Returns the next chunk of the body, empty at its end. Raises `TRANSPORT_ERRORS` if the connection breaks."""
        self.early_error: ErrorDetail | None = None
        """The error that `read_ahead` has found."""

    @property
    def is_event_stream(self) -> bool:
        is_unread = not self.response.is_stream_consumed and self.response.status_code == 200
        return is_unread and self.content_type.partition(";")[0].strip().lower() == "text/event-stream"

    async def read_ahead(self) -> ErrorDetail | None:
        """Read the beginning of a stream, or the whole of another body, and return the error that Azure reports there.

        What was read stays available. Raise `TRANSPORT_ERRORS` from a stream, and from another body what `read` raises.
        """
        if not self.is_event_stream:
            held = await self.read_body()
            error = error_in_body(held)
        elif "content-encoding" in self.response.headers:
            # Its reader does not survive the cancellation at the end of the hold.
            return None
        else:
            held, error = await read_preamble(self.next_chunk)
        self.hold(held)
        self.early_error = error
        return error

    def hold(self, held: bytes) -> None:
        """Return `held` as the next chunk, ahead of the rest of the body."""
        read, pending = self.next_chunk, [held]

        async def next_chunk() -> bytes:
            # A reference to `self` would be a cycle, and keep a response that nobody reads in memory.
            return (pending.pop() if pending else b"") or await read()

        self.next_chunk = next_chunk

    async def read(self) -> bytes:
        """Return the whole body, and record its metadata.

        Raise `DeadlineExceeded`, `UpstreamUnreachable` if the connection breaks, `UpstreamFailure` if it is too large.
        """
        content = await self.read_body()
        self.record.read(content)
        return content

    async def read_body(self) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout_at(self.deadline):
                while chunk := await self.next_chunk():
                    body += chunk
                    if len(body) > MAX_BODY_SIZE:
                        raise UpstreamFailure(502, self.headers)
        except TimeoutError:
            raise DeadlineExceeded from None
        except TRANSPORT_ERRORS:
            raise UpstreamUnreachable from None
        finally:
            self.record.response_bytes = len(body)
        return bytes(body)

    async def aclose(self, outcome: Outcome) -> None:
        """End the call with `outcome`. Close the connection unless the body was read to its end. Repeating is harmless."""
        try:
            await self.response.aclose()
        finally:
            self.slot.release()
            self.endpoint.call_ended(self.record)
            self.record.end(outcome)


def chunk_reader(response: httpx2.Response) -> Callable[[], Awaitable[bytes]]:
    """Return a function that returns the body's next chunk."""
    if response.is_stream_consumed or "content-encoding" in response.headers:
        # Decode it: Azure compressed it although the app asked for identity, and clients do not see Content-Encoding.
        decoded = response.aiter_bytes()
        return lambda: anext(decoded, b"")
    # Skips httpx2's own layers.
    assert isinstance(response.stream, ResponseBody)
    return response.stream.read
