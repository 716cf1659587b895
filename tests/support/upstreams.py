"""Serve endpoints in a thread of the test's process, and start an app that tests can point at them."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

from local.serving import Servers
from local.simulator.azure_openai import AzureOpenAISimulator
from local.simulator.entra import EntraSimulator
from local.simulator.identity_endpoint import IdentityEndpointSimulator
from local.simulator.tokens import TokenIssuer
from tests.support.processes import Json, LocalApp, Simulator, eventually, local_app
from tests.support.simulators import Entra

KEY = "key-of-the-simulators"
DEPLOYMENTS = ("chat", "other")
CALLER_KEY = "a-caller-key-of-these-tests"
# The client id of an identity.
USER_ASSIGNED = "11111111-2222-3333-4444-555555555555"

type ConfigureIdentity = Callable[..., LocalApp]
type Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

# Appended to a copy of the app: routes that change the settings of the process and report its state.
CONTROLS = """

import asyncio
from pathlib import Path

from shared.gateway import reset
from shared.streaming import event_stream
from shared.upstream import transport

ENVIRON = dict(os.environ)


@app.route(route="test/settings", methods=["PUT"], auth_level=OPEN)
async def test_settings(req: Request) -> Response:
    await reset()
    settings = await req.json()
    event_stream.KEEP_ALIVE_INTERVAL = settings.pop("KEEP_ALIVE_INTERVAL", 15.0)
    os.environ.clear()
    os.environ.update(ENVIRON | settings)
    transport.proxy_for.cache_clear()
    return JSONResponse({})


@app.route(route="test/state", methods=["GET"], auth_level=OPEN)
async def test_state(req: Request) -> Response:
    gateway = shared_gateway()
    session = gateway.clients.http.pooled
    connections = len(session.connector._acquired) if session else 0
    return JSONResponse(
        {
            "calls_in_flight": gateway.failover.slots.taken,
            "connections": connections,
            "cooldowns": [len(endpoint.cooldowns) for endpoint in gateway.clients.endpoints],
            "tasks": len(asyncio.all_tasks()),
            "sockets": sum(path.is_socket() for path in Path("/proc/self/fd").iterdir()),
        }
    )
"""


class Upstreams:
    """Run servers on an event loop of its own, until the context ends."""

    def __enter__(self) -> "Upstreams":
        self.loop = asyncio.new_event_loop()
        self.thread = Thread(target=self.loop.run_forever)
        self.thread.start()
        self.servers = Servers()
        self.streams = AsyncExitStack()
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    async def close(self) -> None:
        await self.streams.aclose()
        await self.servers.aclose()
        # Handlers that are still waiting.
        handlers = asyncio.all_tasks() - {asyncio.current_task()}
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)

    def run[T](self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def azure(self) -> Simulator:
        """Start a simulator of an Azure OpenAI resource."""
        model = AzureOpenAISimulator(DEPLOYMENTS, keys=[KEY])
        return Simulator(self.run(self.servers.start(model.application())))

    def entra(self, issuer: TokenIssuer | None = None) -> tuple[Entra, dict[str, str]]:
        """Start a simulator of Entra ID; return it, and settings that make the app accept its tokens."""
        issuer = issuer or TokenIssuer()
        return Entra(self.run(EntraSimulator(issuer).start(self.servers))), issuer.caller_settings()

    def identity(self, issuer: TokenIssuer | None = None) -> tuple[Simulator, Simulator, dict[str, str]]:
        """Start simulators of a resource without keys and of the identity endpoint; return both, and settings for them."""
        issuer = issuer or TokenIssuer()
        model = AzureOpenAISimulator(DEPLOYMENTS, issuer=issuer)
        endpoint = IdentityEndpointSimulator(issuer, [USER_ASSIGNED])
        model_url, identity_url = (self.run(self.servers.start(part.application())) for part in (model, endpoint))
        settings = {
            "AUTHENTICATION": "AZURE",
            "IDENTITY_ENDPOINT": f"{identity_url}/msi/token",
            "IDENTITY_HEADER": endpoint.header,
        }
        return Simulator(model_url), Simulator(identity_url), settings

    def serve(self, handle: Handler) -> int:
        """Serve connections with `handle`, and return the port."""
        return self.run(self.start_server(handle))

    async def start_server(self, handle: Handler) -> int:
        server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=1024)
        self.streams.callback(server.close)
        port: int = server.sockets[0].getsockname()[1]
        return port


class Gateway:
    """Control a running app whose settings tests can change."""

    def __init__(self, app: LocalApp) -> None:
        self.app = app
        self.http = app.http

    def configure(self, *endpoints: str, **settings: Any) -> None:
        """Give the app these endpoints, in this order, and make it forget all earlier calls and output."""
        defaults = {
            "AZURE_OPENAI_ENDPOINT": ",".join(endpoints),
            "AZURE_OPENAI_KEY": ",".join([KEY] * len(endpoints)),
            "AZURE_OPENAI_API_VERSION": "2025-04-01-preview",
            "AZURE_OPENAI_CHATGPT_DEPLOYMENT": DEPLOYMENTS[0],
            "AZURE_OPENAI_DEPLOYMENTS": DEPLOYMENTS[1],
            "CALLER_KEYS": f"tests={CALLER_KEY}",
            "ATTEMPT_TIMEOUT_SECONDS": "20",
            "REQUEST_TIMEOUT_SECONDS": "40",
            "STREAM_IDLE_SECONDS": "20",
            "MAX_CONCURRENT_CALLS": "1000",
        }
        self.http.put("/api/test/settings", json=defaults | settings).raise_for_status()
        self.app.forget_output()

    def state(self) -> Json:
        """Return what the app's process holds at this moment."""
        state: Json = self.http.get("/api/test/state").json()
        return state

    def wait_for_state(self, expected: Callable[[Json], bool]) -> Json:
        """Return the state of the process as soon as it is as `expected`."""
        return eventually(self.state, expected)


@contextmanager
def gateway_app(folder: Path, extra_code: str = "", **environ: str) -> Iterator[Gateway]:
    """Run the app with these controls, and with `extra_code` appended to its function_app.py."""
    with local_app(folder, "--no-simulator", extra_code=CONTROLS + extra_code, **environ) as app:
        yield Gateway(app)
