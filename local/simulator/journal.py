"""Record the requests that a simulator receives, and queue scripts that change its next responses.

All simulators have the control routes that this module adds.
"""

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from aiohttp import web

from local.simulator.forms import Part, read_form


@dataclass
class Entry:
    """Describe one request that a simulator received. Times are seconds of the monotonic clock."""

    method: str
    path: str
    query: dict[str, str]
    headers: list[tuple[str, str]]
    client: str
    """The client's IP address and port. They identify the connection."""
    body: str
    """The request body in base64, which keeps every byte. It is empty for a form."""
    parts: list[Part] | None = None
    """The parts of the form (multipart/form-data) in the body, or None if there is no valid form."""
    started: float = field(default_factory=time.monotonic)
    status: int | None = None
    chunks: int = 0
    """How many chunks of output have been streamed."""
    usage: dict[str, Any] | None = None
    """The token usage that the response reported."""
    ended: float | None = None
    disconnected: bool = False
    """Whether the client disconnected before the response was complete."""


class ScriptedReset(Exception):
    """Report that a script has reset the connection."""


class Journal:
    """Keep an entry for each request, and the queue of scripts. Each request takes the next script.

    `names` are settings of the simulator. `PUT /control/NAME` gives each of them a JSON value.
    """

    def __init__(self, *names: str) -> None:
        self.names = names
        self.settings: dict[str, Any] = {}
        self.entries: list[Entry] = []
        self.scripts: list[dict[str, Any]] = []
        self.permits = asyncio.Semaphore(0)
        self.changed = asyncio.Condition()

    @asynccontextmanager
    async def recording(self, request: web.Request) -> AsyncIterator[Entry]:
        """Record `request` while the context lasts, and note whether its client disconnects.

        When the connection is lost, the context suppresses the exception: nobody could receive an error response.
        """
        host, port = request.transport.get_extra_info("peername")[:2] if request.transport else ("", 0)
        # A form can be large, so that only its description is kept.
        form = request.content_type == "multipart/form-data"
        parts = await read_form(request) if form else None
        entry = Entry(
            method=request.method,
            path=request.path,
            query=dict(request.query),
            headers=[(name.lower(), value) for name, value in request.headers.items()],
            client=f"{host}:{port}",
            body="" if form else base64.b64encode(await request.read()).decode(),
            parts=parts,
        )
        self.entries.append(entry)
        await self.notify()
        try:
            yield entry
        except asyncio.CancelledError:
            entry.disconnected = True
            raise
        except ScriptedReset:
            pass
        except ConnectionError:
            entry.disconnected = True
        finally:
            entry.ended = time.monotonic()
            await self.notify()

    async def notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def next_script(self) -> dict[str, Any]:
        """Return the script for the next request, or an empty one, after its `delay` and its `hang`."""
        if not self.scripts:
            return {}
        script = self.scripts[0]
        script["times"] = script.get("times", 1) - 1
        if script["times"] <= 0:
            self.scripts.pop(0)
        await asyncio.sleep(script.get("delay", 0))
        if script.get("hang"):
            await self.permits.acquire()
        return script

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/control/journal", self.show),
            web.delete("/control/journal", self.clear),
            web.post("/control/scripts", self.add_scripts),
            web.post("/control/next", self.permit),
            *(web.put(f"/control/{name}", self.change_setting) for name in self.names),
        ]

    async def show(self, request: web.Request) -> web.Response:
        """Return the entries. With `?requests=N` or `?ended=N`, wait until N requests have arrived or ended."""
        requests, ended = (int(request.query.get(name, 0)) for name in ("requests", "ended"))

        def complete() -> bool:
            return len(self.entries) >= requests and sum(entry.ended is not None for entry in self.entries) >= ended

        async with self.changed:
            await self.changed.wait_for(complete)
        return web.json_response([asdict(entry) for entry in self.entries])

    async def clear(self, request: web.Request) -> web.Response:
        """Discard all entries, scripts, permits and settings."""
        self.settings.clear()
        self.entries.clear()
        self.scripts.clear()
        self.permits = asyncio.Semaphore(0)
        return web.Response(status=204)

    async def add_scripts(self, request: web.Request) -> web.Response:
        """Queue the scripts in the request body, a JSON list of objects."""
        self.scripts += await request.json()
        return web.Response(status=204)

    async def permit(self, request: web.Request) -> web.Response:
        """Release one response that hangs or one chunk that waits, or `?chunks=N` of them."""
        for _ in range(int(request.query.get("chunks", 1))):
            self.permits.release()
        return web.Response(status=204)

    async def change_setting(self, request: web.Request) -> web.Response:
        self.settings[request.path.rpartition("/")[2]] = await request.json()
        return web.Response(status=204)
