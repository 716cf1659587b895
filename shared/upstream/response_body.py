"""Read the body of one of aiohttp's responses, whose connection may break at any time."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import aiohttp
import httpx2

# Bytes. Azure sends no body as large as this.
MAX_BODY_SIZE = 64 * 1024 * 1024


class ResponseBody(httpx2.AsyncByteStream):
    """Read the body, chunk by chunk as it arrives."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        # After invalid HTTP, aiohttp closes the connection but leaves the reader waiting.
        protocol = response.connection.protocol if response.connection else None
        self.closed = None if protocol is None else protocol.closed
        if self.closed:
            # Register it once per connection and leave it there, since an idle connection may break too: asyncio logs
            # exceptions that are never retrieved.
            self.closed.remove_done_callback(retrieve_exception)
            self.closed.add_done_callback(retrieve_exception)
            self.closed.add_done_callback(self.interrupt)

    def interrupt(self, _: asyncio.Future[None]) -> None:
        content = self.response.content
        if not content.is_eof() and content.exception() is None:
            content.set_exception(connection_closed())

    async def read(self) -> bytes:
        """Return what has arrived since the last read, or wait for more; empty at the end. Raise `aiohttp.ClientError`."""
        content = self.response.content
        try:
            return await content.readany()
        except (aiohttp.ClientError, RuntimeError) as exc:
            # A RuntimeError says that the connection has been lost, and `interrupt` has not run yet.
            # aiohttp's reader raises before it returns the bytes that arrived ahead of the failure; this returns them.
            content.set_exception(cast(BaseException, None))
            rest = content.read_nowait()
            # A new exception: the frames of the first one would keep the stream in memory.
            content.set_exception(connection_closed())
            if not rest:
                raise (connection_closed() if isinstance(exc, RuntimeError) else exc.with_traceback(None)) from None
            return rest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the body's chunks for readers of the whole: the SDK for error responses, httpx2 for compressed ones."""
        size = 0
        while chunk := await self.read():
            size += len(chunk)
            if size > MAX_BODY_SIZE:
                raise aiohttp.ClientPayloadError("The body is too large.")
            yield chunk

    async def aclose(self) -> None:
        if self.closed:
            self.closed.remove_done_callback(self.interrupt)
        # Closes the connection, unless the body was read to its end.
        self.response.release()
        await self.response.wait_for_close()


def retrieve_exception(closed: asyncio.Future[None]) -> None:
    if not closed.cancelled():
        closed.exception()


def connection_closed() -> aiohttp.ClientPayloadError:
    return aiohttp.ClientPayloadError("The connection has been closed.")
