"""Azure's answer to a call, while it is being read."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx2

from shared.errors import DeadlineExceeded, UpstreamFailure, UpstreamUnreachable
from shared.telemetry.call_record import CallRecord
from shared.upstream.endpoint import TRANSPORT_ERRORS
from shared.upstream.response_body import AnswerBody
from shared.wire import LARGEST, content_type, returned_headers


class Answer:
    """Azure's answer to a call, its headers read and its body not; `end` is called when the call has ended.

    Whoever has it closes it, or uses it as an async context, which also records how that went.
    """

    def __init__(self, response: httpx2.Response, deadline: float, end: Callable[[], None], record: CallRecord) -> None:
        self.response = response
        self.deadline = deadline
        self.end = end
        self.record = record
        self.headers = returned_headers(response)
        self.content_type = content_type(response)
        self.next_chunk = reader_of(response)
        """Reads the body as it comes; empty at its end. Raises `TRANSPORT_ERRORS` when it breaks off."""

    @property
    def is_event_stream(self) -> bool:
        is_unread = not self.response.is_stream_consumed and self.response.status_code == 200
        return is_unread and self.content_type.partition(";")[0].strip().lower() == "text/event-stream"

    async def __aenter__(self) -> "Answer":
        return self

    async def __aexit__(self, _: object, exc: BaseException | None, __: object) -> None:
        if exc:
            self.record.failed(exc)
        else:
            self.record.completed()
        await self.aclose()

    async def read(self) -> bytes:
        """The whole body.

        Raises `DeadlineExceeded`, `UpstreamUnreachable` when it breaks off, and `UpstreamFailure` when it is too large.
        """
        body = bytearray()
        try:
            async with asyncio.timeout_at(self.deadline):
                while chunk := await self.next_chunk():
                    body += chunk
                    if len(body) > LARGEST:
                        raise UpstreamFailure(502, self.headers)
        except TimeoutError:
            raise DeadlineExceeded from None
        except TRANSPORT_ERRORS:
            raise UpstreamUnreachable from None
        content = bytes(body)
        self.record.read(content)
        return content

    async def aclose(self) -> None:
        """Ends the call, closing its connection unless the answer was read to its end. May be repeated."""
        try:
            await self.response.aclose()
        finally:
            self.end()


def reader_of(response: httpx2.Response) -> Callable[[], Awaitable[bytes]]:
    if response.is_stream_consumed or "content-encoding" in response.headers:
        # Compressed against our wish, it would be without the header that says so.
        decoded = response.aiter_bytes()
        return lambda: anext(decoded, b"")
    # Without httpx2's own layers on top.
    assert isinstance(response.stream, AnswerBody)
    return response.stream.read
