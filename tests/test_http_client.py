"""The HTTP client under the SDK: connections that break, before a call and between two."""

import asyncio
import gc
import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import httpx2
import pytest

from shared.http_client import HttpClient

pytestmark = pytest.mark.anyio

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"

type Serve = Callable[["Server", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def read_request(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))


def reset(writer: asyncio.StreamWriter) -> None:
    # Without lingering, closing sends a reset and not an orderly end.
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Server:
    """Serves connections with `serve`, and counts the connections and the requests that came whole."""

    def __init__(self, serve: Serve) -> None:
        self.serve = serve
        self.requests = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.said = asyncio.Event()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            await self.serve(self, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @asynccontextmanager
    async def running(self, connects: int = 1, scheme: str = "http") -> AsyncIterator[Callable[[], Awaitable[bytes]]]:
        """What sends a request to it and reads the answer."""
        server = await asyncio.start_server(self.handle, "127.0.0.1", 0)
        url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        client = HttpClient(10, connects)

        async def ask() -> bytes:
            response = await client.send(client.build_request("POST", url, content=b"{}"), stream=True)
            try:
                return await response.aread()
            finally:
                await response.aclose()

        try:
            yield ask
        finally:
            await client.aclose()
            server.close()
            await server.wait_closed()


async def answer_once(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers the first request of a connection, and breaks off at the second."""
    await read_request(reader)
    server.requests += 1
    writer.write(ANSWER + b"{}")
    await reader.readexactly(1)
    reset(writer)


async def break_off(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    server.requests += 1
    reset(writer)


async def answer_in_parts(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await read_request(reader)
        writer.write(ANSWER)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(b"{}")


async def test_a_pooled_connection_that_breaks_is_replaced() -> None:
    server = Server(answer_once)
    async with server.running() as ask:
        assert [await ask() for _ in range(4)] == [b"{}"] * 4
    assert server.requests == 4


async def test_what_broke_on_a_new_connection_is_not_sent_again() -> None:
    server = Server(break_off)
    async with server.running(connects=2) as ask:
        with pytest.raises(aiohttp.ClientError):
            await ask()
    assert server.requests == 1


async def answer_twice(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says to which request an answer belongs, and then gives another one for the same."""
    while True:
        await read_request(reader)
        server.requests += 1
        answer = ANSWER + b"%02d" % server.requests
        writer.write(answer)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(answer)
        server.said.set()


async def test_nobody_gets_the_answer_to_anothers_call() -> None:
    server = Server(answer_twice)
    async with server.running() as ask:
        for number in range(1, 4):
            assert await ask() == b"%02d" % number
            await server.said.wait()
            server.said.clear()
            # Time for it to arrive.
            await asyncio.sleep(0.1)


async def greet(server: Server, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-x\r\n")
    await writer.drain()


async def test_what_speaks_before_it_is_asked_is_no_endpoint() -> None:
    server = Server(greet)
    async with server.running() as ask:
        with pytest.raises(aiohttp.ClientError):
            await ask()
    assert len(server.writers) == 1


async def hang_up(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    pass


@pytest.mark.parametrize("connects", [1, 2])
async def test_a_connection_that_cannot_be_made_is_tried_so_often(connects: int) -> None:
    # TLS to what does not speak it.
    server = Server(hang_up)
    async with server.running(connects, scheme="https") as ask:
        with pytest.raises(aiohttp.ClientConnectorError):
            await ask()
    assert len(server.writers) == connects


async def test_an_idle_connection_that_breaks_leaves_nothing_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(answer_in_parts)
    with caplog.at_level(logging.WARNING):
        async with server.running() as ask:
            assert await ask() == b"{}"
            reset(server.writers[0])
            # It has been noticed when the next request goes out on another.
            assert await ask() == b"{}"
            assert len(server.writers) == 2
        gc.collect()
        await asyncio.sleep(0)
    assert caplog.records == []


async def test_a_request_has_the_query_that_it_is_given() -> None:
    client = HttpClient(1)
    request = client.build_request("GET", "http://localhost/x", params={"include": ["a", "b"]})
    assert request.url == httpx2.URL("http://localhost/x?include=a&include=b")
    await client.aclose()
