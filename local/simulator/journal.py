"""What a stand-in has seen, and what it shall do next: the part of its control route that all of them share."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Entry:
    """One request that a stand-in received. Times are seconds of the machine's monotonic clock."""

    method: str
    path: str
    query: dict[str, str]
    headers: list[tuple[str, str]]
    caller: str
    """Address and port the request came from: one for each connection."""
    body: str
    """In base64, so that every byte can be compared."""
    started: float = field(default_factory=time.monotonic)
    status: int | None = None
    pieces: int = 0
    """How many pieces of a stream have been sent."""
    usage: dict[str, Any] | None = None
    """The tokens that the answer told of."""
    ended: float | None = None
    hung_up: bool = False
    """Whether the caller left before the answer's end."""


class Cut(Exception):
    """A script has had the connection broken off."""


class Journal:
    """Keeps an entry per request, and the scripts that tests have queued: one is used up per request, in order."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.scripts: list[dict[str, Any]] = []
        self.permits = asyncio.Semaphore(0)
        self.changed = asyncio.Condition()

    @asynccontextmanager
    async def recording(self, request: web.Request) -> AsyncIterator[Entry]:
        """An entry for `request`, which ends, or notes that the caller hung up, as the context does.

        Nobody is left to see the failure when the connection is gone, so the context goes on after its end.
        """
        host, port = request.transport.get_extra_info("peername")[:2] if request.transport else ("", 0)
        entry = Entry(
            method=request.method,
            path=request.path,
            query=dict(request.query),
            headers=[(name.lower(), value) for name, value in request.headers.items()],
            caller=f"{host}:{port}",
            body=base64.b64encode(await request.read()).decode(),
        )
        self.entries.append(entry)
        await self.announce()
        try:
            yield entry
        except asyncio.CancelledError:
            entry.hung_up = True
            raise
        except Cut:
            pass
        except ConnectionError:
            entry.hung_up = True
        finally:
            entry.ended = time.monotonic()
            await self.announce()

    async def announce(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    def next_script(self) -> dict[str, Any]:
        if not self.scripts:
            return {}
        script = self.scripts[0]
        script["times"] = script.get("times", 1) - 1
        if script["times"] <= 0:
            self.scripts.pop(0)
        return script

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/control/journal", self.show),
            web.delete("/control/journal", self.clear),
            web.post("/control/scripts", self.add_scripts),
            web.post("/control/next", self.permit),
        ]

    async def show(self, request: web.Request) -> web.Response:
        """The entries; with `?requests=N` or `?ended=N`, as soon as that many have come or have ended."""
        requests, ended = (int(request.query.get(name, 0)) for name in ("requests", "ended"))

        def complete() -> bool:
            return len(self.entries) >= requests and sum(entry.ended is not None for entry in self.entries) >= ended

        async with self.changed:
            await self.changed.wait_for(complete)
        return web.json_response([asdict(entry) for entry in self.entries])

    async def clear(self, request: web.Request) -> web.Response:
        """Forgets entries, scripts and permits."""
        self.entries.clear()
        self.scripts.clear()
        self.permits = asyncio.Semaphore(0)
        return web.Response(status=204)

    async def add_scripts(self, request: web.Request) -> web.Response:
        """Queues what the next requests get, a JSON list of objects."""
        self.scripts += await request.json()
        return web.Response(status=204)

    async def permit(self, request: web.Request) -> web.Response:
        """Lets streams that go step by step send one more piece, or `?pieces=N`."""
        for _ in range(int(request.query.get("pieces", 1))):
            self.permits.release()
        return web.Response(status=204)
