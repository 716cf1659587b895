"""Test how the SDK's HTTP client handles connections that break, during a request or between two."""

import asyncio
import contextlib
import gc
import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from shared.upstream import response_body, transport
from shared.upstream.transport import HttpClient

pytestmark = pytest.mark.anyio

RESPONSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"

type Serve = Callable[["Server", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def read_request(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0))


def reset(writer: asyncio.StreamWriter) -> None:
    # With a linger time of zero, closing the socket sends RST instead of FIN.
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Server:
    """Serve connections with `serve`, keep their writers, and let `serve` count the requests."""

    def __init__(self, serve: Serve) -> None:
        self.serve = serve
        self.requests = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.repeated = asyncio.Event()
        """Set when a response has been sent a second time."""

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
        """Start the server, and yield a function that sends it a request and returns the response's body."""
        server = await asyncio.start_server(self.handle, "127.0.0.1", 0)
        url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        client = HttpClient(10, connects)

        async def send(method: str = "POST") -> bytes:
            content = b"{}" if method == "POST" else None
            response = await client.send(client.build_request(method, url, content=content), stream=True)
            try:
                return await response.aread()
            finally:
                await response.aclose()

        try:
            yield send
        finally:
            await client.aclose()
            server.close()
            await server.wait_closed()


async def respond_then_reset(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Respond to the first request of a connection, and reset it at the second."""
    await respond_once(server, reader, writer)
    await reader.readexactly(1)
    reset(writer)


async def respond_once(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    server.requests += 1
    writer.write(RESPONSE_HEAD + b"{}")
    await writer.drain()


async def reset_at_request(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    server.requests += 1
    reset(writer)


async def respond_in_parts(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await read_request(reader)
        writer.write(RESPONSE_HEAD)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(b"{}")


async def test_a_broken_pooled_connection_is_replaced() -> None:
    server = Server(respond_then_reset)
    async with server.running() as send:
        assert [await send() for _ in range(4)] == [b"{}"] * 4
    assert server.requests == 4


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_a_request_that_fails_on_a_new_connection_is_not_repeated(method: str) -> None:
    server = Server(reset_at_request)
    async with server.running(connects=2) as send:
        with pytest.raises(aiohttp.ClientError):
            await send(method)
    assert server.requests == 1


async def close_late(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await respond_once(server, reader, writer)
    await read_request(reader)
    server.requests += 1
    await asyncio.sleep(0.3)


async def close_within_headers(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await respond_once(server, reader, writer)
    await read_request(reader)
    server.requests += 1
    writer.write(RESPONSE_HEAD[:20])
    await writer.drain()


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize("serve", [close_late, close_within_headers])
async def test_a_request_that_the_server_may_have_processed_is_not_repeated(
    serve: Serve, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "STALE_SHOWS_WITHIN", 0.2)
    server = Server(serve)
    async with server.running() as send:
        assert await send() == b"{}"
        with pytest.raises(aiohttp.ClientError):
            await send(method)
    assert server.requests == 2


async def test_many_broken_pooled_connections_are_replaced_by_one_new_connection() -> None:
    server = Server(respond_then_reset)
    async with server.running() as send:
        assert await asyncio.gather(*(send() for _ in range(8)))
        assert len(server.writers) == 8
        assert await send() == b"{}"
        # The client has not tried the other broken ones.
        assert [writer.is_closing() for writer in server.writers].count(True) == 1
    assert len(server.writers) == 9


async def respond_twice(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Respond with the number of the request, and send the same response again."""
    while True:
        await read_request(reader)
        server.requests += 1
        response = RESPONSE_HEAD + b"%02d" % server.requests
        writer.write(response)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(response)
        server.repeated.set()


async def test_no_request_gets_the_response_to_another() -> None:
    server = Server(respond_twice)
    async with server.running() as send:
        for number in range(1, 4):
            assert await send() == b"%02d" % number
            await server.repeated.wait()
            server.repeated.clear()
            # Give it time to arrive.
            await asyncio.sleep(0.1)


async def greet(server: Server, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-x\r\n")
    await writer.drain()


async def test_a_server_that_sends_data_before_it_gets_a_request_causes_an_error() -> None:
    server = Server(greet)
    async with server.running() as send:
        with pytest.raises(aiohttp.ClientError):
            await send()
    assert len(server.writers) == 1


async def close_at_once(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    pass


@pytest.mark.parametrize("connects", [1, 2])
async def test_a_failing_connection_is_attempted_as_often_as_configured(connects: int) -> None:
    # The client starts TLS, which the server does not speak.
    server = Server(close_at_once)
    async with server.running(connects, scheme="https") as send:
        with pytest.raises(aiohttp.ClientConnectorError):
            await send()
    assert len(server.writers) == connects


async def test_a_broken_idle_connection_leaves_nothing_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(respond_in_parts)
    with caplog.at_level(logging.WARNING):
        async with server.running() as send:
            assert await send() == b"{}"
            reset(server.writers[0])
            # The client has noticed it if the next request uses another connection.
            assert await send() == b"{}"
            assert len(server.writers) == 2
        gc.collect()
        await asyncio.sleep(0)
    assert caplog.records == []


async def test_a_connection_that_times_out_is_attempted_as_often_as_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "CONNECT_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as held:
        port = full.getsockname()[1]
        for _ in range(4):
            # With a full backlog, the server neither accepts nor refuses connections.
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        client = HttpClient(10, connects=2)
        started = asyncio.get_running_loop().time()
        with pytest.raises(aiohttp.ConnectionTimeoutError):
            await client.send(client.build_request("POST", f"http://127.0.0.1:{port}/", content=b"{}"))
        assert asyncio.get_running_loop().time() - started >= 0.4
        await client.aclose()


async def test_a_body_above_the_limit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response_body, "MAX_BODY_SIZE", 1)
    server = Server(respond_once)
    async with server.running() as send:
        with pytest.raises(aiohttp.ClientPayloadError):
            await send()


async def test_a_read_right_after_the_connection_was_lost_is_a_client_error() -> None:
    async def respond_with_malformed_chunk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
        await writer.drain()
        await first_chunk_read.wait()
        writer.write(b"zz\r\n")
        writer.close()

    first_chunk_read = asyncio.Event()
    server = await asyncio.start_server(respond_with_malformed_chunk, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with contextlib.aclosing(HttpClient(1)) as client:
        response = await client.send(client.build_request("POST", url, content=b"{}"), stream=True)
        body = response.stream
        assert isinstance(body, response_body.ResponseBody)
        assert await body.read() == b"a"
        assert body.response.connection
        protocol = body.response.connection.protocol
        assert protocol is not None
        first_chunk_read.set()
        # Poll, so that the next read runs before the callbacks that handle the lost connection.
        while protocol.connected:  # noqa: ASYNC110
            await asyncio.sleep(0)
        with pytest.raises(aiohttp.ClientPayloadError):
            await body.read()
        await response.aclose()
    server.close()
