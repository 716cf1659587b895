"""Test that no client keeps a response going for too long, on the runtime's web server and real sockets."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

from local.serving import reserve
from local.simulator.azure_openai import AzureOpenAISimulator
from shared.error_responses import as_responses
from shared.openai_api import passthrough, simple_chat
from shared.streaming import event_stream
from shared.telemetry import library_loggers
from shared.upstream.failover import Failover
from tests.support.calls import chat_call
from tests.support.processes import PROJECT

pytestmark = pytest.mark.anyio

STREAM = {"raw": "data: {}\n\n" * 3_000_000, "split": 1_000_000, "headers": {"content-type": "text/event-stream"}}
BODY = b'{"messages":[{"role":"user","content":"Hi"}]}'
# Less than the system's own buffers would take.
JSON = {"raw": '{"choices":[' + " " * 1_000_000 + "]}"}
ERROR = {"raw": '{"error":{' + " " * 1_000_000 + "}}", "status": 400}
SCRIPTS: dict[str, dict[str, Any]] = {"stream": STREAM, "json": JSON, "error": ERROR, "error of a chat": ERROR}
# Seconds that are long enough for anything that should happen at once, even on a busy machine.
TIMEOUT = 30


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT):
        while True:
            if holds():
                return
            await asyncio.sleep(0.01)


@dataclass
class Server:
    """Serve Azure's responses as the runtime does: FastAPI passes what a function returns to uvicorn."""

    failover: Failover
    resource: AzureOpenAISimulator
    app: FastAPI = field(default_factory=FastAPI)
    seconds: float = 60
    """How long a response may take."""

    def __post_init__(self) -> None:
        self.app.add_api_route("/{kind}", as_responses(self.endpoint))

    async def endpoint(self, request: Request, kind: str) -> Response:
        ends = asyncio.get_running_loop().time() + self.seconds
        translate = simple_chat.reply if kind.endswith("chat") else passthrough.verbatim
        return await passthrough.respond(self.failover, chat_call(BODY, stream=kind == "stream"), ends, translate)

    @asynccontextmanager
    async def running(self, http: str) -> AsyncIterator[None]:
        self.uvicorn = uvicorn.Server(uvicorn.Config(self.app, http=http))
        with reserve(0) as reserved:
            self.address = reserved.getsockname()
            serving = asyncio.create_task(self.uvicorn.serve([reserved]))
            library_loggers.quiet()
            await eventually(lambda: self.uvicorn.started)
            yield
            self.uvicorn.should_exit = True
            await asyncio.wait_for(serving, TIMEOUT)

    @asynccontextmanager
    async def request(self, kind: str) -> AsyncIterator[socket.socket]:
        """Send a request, and yield the connection of a client that has read nothing yet."""
        self.resource.journal.scripts.append(SCRIPTS[kind])
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, self.address)
            await loop.sock_sendall(client, b"GET /%s HTTP/1.1\r\nhost: a\r\n\r\n" % quote(kind).encode())
            yield client

    async def wait_until_the_call_has_arrived(self) -> None:
        """Wait until the simulator has got the call. Before, the server may not have a connection yet."""
        await eventually(lambda: bool(self.resource.journal.entries))

    async def wait_until_nothing_is_held(self) -> None:
        """Wait until the server has no connection to a client, and the app no slot and no connection to Azure."""
        session = self.failover.clients.http.pooled
        assert session
        assert session.connector
        connector, clients = session.connector, self.uvicorn.server_state.connections
        await eventually(lambda: not (clients or self.failover.slots.taken or connector._acquired))


@pytest.fixture(params=["httptools", "httptools, instrumented", "h11"])
async def server(
    request: pytest.FixtureRequest, resource: AzureOpenAISimulator, failover: Failover, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Server]:
    """Run the server, also with OpenTelemetry's instrumentation, which wraps what the server offers to the app."""
    monkeypatch.setattr(event_stream, "LAST_EVENT_TIMEOUT", 0.2)
    server = Server(failover, resource)
    http, _, is_instrumented = request.param.partition(", ")
    if is_instrumented:
        FastAPIInstrumentor.instrument_app(server.app)
    async with server.running(http):
        yield server


async def read_slowly(client: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with suppress(ConnectionError):
        while True:
            await loop.sock_recv(client, 100)
            await asyncio.sleep(0.01)


async def read_all(client: socket.socket) -> tuple[bytes, bool]:
    """Return what can still be read, and whether the connection was reset."""
    content = bytearray()
    with suppress(ConnectionResetError):
        while chunk := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 1 << 20), TIMEOUT):
            content += chunk
        return bytes(content), False
    return bytes(content), True


@pytest.mark.parametrize("reads", [False, True], ids=["reads nothing", "reads slowly"])
@pytest.mark.parametrize("kind", SCRIPTS)
async def test_a_slow_client_is_reset_when_the_time_is_up(
    server: Server, kind: str, reads: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    server.seconds = 0.5
    async with server.request(kind) as client:
        reading = asyncio.create_task(read_slowly(client) if reads else asyncio.sleep(0))
        await server.wait_until_the_call_has_arrived()
        await server.wait_until_nothing_is_held()
        reading.cancel()
        content, is_reset = await read_all(client)
    assert is_reset
    assert len(content) < 500_000
    output = capfd.readouterr()
    # By then, the log has the line for an error.
    assert "error" in kind or "status=200 error=stream_too_long" in output.out
    assert "without completing" not in output.err


async def test_the_time_of_a_response_is_up_well_before_the_hosts(failover: Failover) -> None:
    hours, minutes, seconds = map(int, json.loads((PROJECT / "host.json").read_text())["functionTimeout"].split(":"))
    # Another 240 s may pass before the host notices that a client reads nothing.
    assert failover.settings.stream_seconds + event_stream.LAST_EVENT_TIMEOUT + 240 < (hours * 60 + minutes) * 60 + seconds


@pytest.mark.parametrize("kind", SCRIPTS)
async def test_a_client_that_stalls_is_reset(server: Server, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    server.failover.settings = replace(server.failover.settings, stream_idle=0.3)
    async with server.request(kind) as client:
        await server.wait_until_the_call_has_arrived()
        await server.wait_until_nothing_is_held()
        _, is_reset = await read_all(client)
    assert is_reset
    assert "error" in kind or "error=caller_gone cause=ClientStalled" in capfd.readouterr().out


@pytest.mark.parametrize("kind", ["json", "error"])
async def test_a_client_that_reads_gets_everything(server: Server, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    script = SCRIPTS[kind]
    expected = str(script["raw"]).encode()
    async with server.request(kind) as client:
        content = bytearray()
        while not content.endswith(expected[-4:]):
            content += await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 1 << 20), TIMEOUT)
    assert content.startswith(b"HTTP/1.1 %d " % script.get("status", 200))
    assert content.partition(b"\r\n\r\n")[2] == expected
    await server.wait_until_nothing_is_held()
    assert "error=" not in capfd.readouterr().out


async def test_a_client_that_leaves_is_not_counted_as_served(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    async with server.request("json") as client:
        await asyncio.get_running_loop().sock_recv(client, 100)
    await server.wait_until_nothing_is_held()
    assert "status=200 error=caller_gone" in capfd.readouterr().out
