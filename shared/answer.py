"""Azure's answer to a call, while it is being read."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import cast

import httpx2

from shared.endpoint import TRANSPORT_ERRORS
from shared.errors import DeadlineExceeded, UpstreamUnreachable
from shared.http_client import Body
from shared.telemetry import CallRecord
from shared.wire import content_type, returned_headers


class Answer:
    """Azure's answer to a call, its headers read and its body not. Whoever has it must `aclose` it."""

    def __init__(self, response: httpx2.Response, deadline: float, release: Callable[[], None], record: CallRecord) -> None:
        self.response = response
        self.deadline = deadline
        self.release = release
        self.record = record
        self.headers = returned_headers(response)
        self.content_type = content_type(response)

    @property
    def is_event_stream(self) -> bool:
        is_unread = not self.response.is_stream_consumed
        return is_unread and self.content_type.partition(";")[0].strip().lower() == "text/event-stream"

    async def read(self, edit: Callable[[bytes], bytes] = bytes) -> bytes:
        """What `edit` makes of the whole body; then closes.

        Raises `DeadlineExceeded`, `UpstreamUnreachable` when the body breaks off, and what `edit` raises.
        """
        try:
            body = await self.read_in_time()
            self.record.read(body)
            edited = edit(body)
            self.record.completed()
        except BaseException as exc:
            self.record.failed(exc)
            raise
        finally:
            await self.aclose()
        return edited

    async def read_in_time(self) -> bytes:
        try:
            async with asyncio.timeout_at(self.deadline):
                chunks = []
                while chunk := await self.next_chunk():
                    chunks.append(chunk)
                return b"".join(chunks)
        except TimeoutError:
            raise DeadlineExceeded from None
        except TRANSPORT_ERRORS:
            raise UpstreamUnreachable from None

    @functools.cached_property
    def next_chunk(self) -> Callable[[], Awaitable[bytes]]:
        """Reads the body as it comes; empty at its end. Raises `TRANSPORT_ERRORS` when it breaks off."""
        if self.response.is_stream_consumed or "content-encoding" in self.response.headers:
            # Compressed against our wish, it would be without the header that says so.
            decoded = self.response.aiter_bytes()
            return lambda: anext(decoded, b"")
        # Without httpx2's own layers on top.
        return cast(Body, self.response.stream).read

    async def aclose(self) -> None:
        """Ends the call, closing its connection unless the answer was read to its end. May be repeated."""
        release, self.release = self.release, nothing
        try:
            await self.response.aclose()
        finally:
            release()


def nothing() -> None:
    pass
