"""The HTTP client under the SDK: connections that break, before a call and between two."""

import asyncio
import contextlib
import gc
import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import httpx2
import pytest

from shared.upstream import response_body, transport
from shared.upstream.transport import HttpClient

pytestmark = pytest.mark.anyio

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"

type Serve = Callable[["Server", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def read_request(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0))


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
    async def running(self, connects: int = 1, scheme: str = "http") -> AsyncIterator[Callable[..., Awaitable[bytes]]]:
        """What sends a request to it and reads the answer."""
        server = await asyncio.start_server(self.handle, "127.0.0.1", 0)
        url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        client = HttpClient(10, connects)

        async def ask(method: str = "POST") -> bytes:
            content = b"{}" if method == "POST" else None
            response = await client.send(client.build_request(method, url, content=content), stream=True)
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
    await answer_first(server, reader, writer)
    await reader.readexactly(1)
    reset(writer)


async def answer_first(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    server.requests += 1
    writer.write(ANSWER + b"{}")
    await writer.drain()


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


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_what_broke_on_a_new_connection_is_not_sent_again(method: str) -> None:
    server = Server(break_off)
    async with server.running(connects=2) as ask:
        with pytest.raises(aiohttp.ClientError):
            await ask(method)
    assert server.requests == 1


async def break_off_late(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await answer_first(server, reader, writer)
    await read_request(reader)
    server.requests += 1
    await asyncio.sleep(0.3)


async def break_off_within_the_headers(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await answer_first(server, reader, writer)
    await read_request(reader)
    server.requests += 1
    writer.write(ANSWER[:20])
    await writer.drain()


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize("serve", [break_off_late, break_off_within_the_headers])
async def test_what_may_have_been_worked_on_is_not_sent_again(
    serve: Serve, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "STALE_SHOWS_WITHIN", 0.2)
    server = Server(serve)
    async with server.running() as ask:
        assert await ask() == b"{}"
        with pytest.raises(aiohttp.ClientError):
            await ask(method)
    assert server.requests == 2


async def test_many_pooled_connections_that_break_are_replaced_by_one() -> None:
    server = Server(answer_once)
    async with server.running() as ask:
        assert await asyncio.gather(*(ask() for _ in range(8)))
        assert len(server.writers) == 8
        assert await ask() == b"{}"
        # And not by the next of them.
        assert [writer.is_closing() for writer in server.writers].count(True) == 1
    assert len(server.writers) == 9


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


async def test_a_server_that_takes_no_connection_in_time_is_tried_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "CONNECT_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as held:
        port = full.getsockname()[1]
        for _ in range(4):
            # The backlog is full from here on: connections are neither taken nor refused.
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        client = HttpClient(10, connects=2)
        started = asyncio.get_running_loop().time()
        with pytest.raises(aiohttp.ConnectionTimeoutError):
            await client.send(client.build_request("POST", f"http://127.0.0.1:{port}/", content=b"{}"))
        assert asyncio.get_running_loop().time() - started >= 0.4
        await client.aclose()


async def test_a_refusal_without_end_is_a_failure_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response_body, "MAX_BODY_SIZE", 1)
    server = Server(answer_first)
    async with server.running() as ask:
        with pytest.raises(aiohttp.ClientPayloadError):
            await ask()


async def test_a_request_has_the_query_that_it_is_given() -> None:
    client = HttpClient(1)
    request = client.build_request("GET", "http://localhost/x", params={"include": ["a", "b"]})
    assert request.url == httpx2.URL("http://localhost/x?include=a&include=b")
    await client.aclose()
