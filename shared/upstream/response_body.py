"""The body of an answer of aiohttp's, whose connection may break while it comes, and afterwards."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import aiohttp
import httpx2

from shared.wire import LARGEST


class AnswerBody(httpx2.AsyncByteStream):
    """The body, as it comes."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer
        # After bytes that are no HTTP, aiohttp closes the connection and leaves the reader waiting.
        protocol = answer.connection.protocol if answer.connection else None
        self.closed = None if protocol is None else protocol.closed
        if self.closed:
            # Once for a connection, which may break while it idles as well: asyncio reports failures that nobody has read.
            self.closed.remove_done_callback(mark_as_seen)
            self.closed.add_done_callback(mark_as_seen)
            self.closed.add_done_callback(self.end)

    def end(self, _: asyncio.Future[None]) -> None:
        content = self.answer.content
        if not content.is_eof() and content.exception() is None:
            content.set_exception(connection_ended())

    async def read(self) -> bytes:
        """What has come and was not read yet, or what comes next; empty at the end. Raises `aiohttp.ClientError`."""
        content = self.answer.content
        try:
            return await content.readany()
        except aiohttp.ClientError as exc:
            # aiohttp's reader tells of a break before it hands out what came ahead of that; without an exception, it does.
            content.set_exception(cast(BaseException, None))
            rest = content.read_nowait()
            # Another one, and this one without the frames that lead back to it: else they keep the stream in memory.
            content.set_exception(connection_ended())
            if not rest:
                raise exc.with_traceback(None) from None
            return rest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """For those who read it as a whole: the SDK where it is a refusal, httpx2 where it is compressed."""
        size = 0
        while chunk := await self.read():
            size += len(chunk)
            if size > LARGEST:
                raise aiohttp.ClientPayloadError("The body is too large.")
            yield chunk

    async def aclose(self) -> None:
        if self.closed:
            self.closed.remove_done_callback(self.end)
        # Closes the connection, unless the body was read to its end.
        self.answer.release()
        await self.answer.wait_for_close()


def mark_as_seen(closed: asyncio.Future[None]) -> None:
    if not closed.cancelled():
        closed.exception()


def connection_ended() -> aiohttp.ClientPayloadError:
    return aiohttp.ClientPayloadError("The connection has ended.")
