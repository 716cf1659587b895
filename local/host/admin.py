"""The host's own endpoints below /admin."""

import asyncio
import json
import secrets
import time
from collections.abc import Collection, Mapping
from importlib.metadata import version

from aiohttp import web

from local.host.invocations import CALLED
from local.host.keys import ADMIN, ANONYMOUS, Keys
from local.host.timers import Timer


class Admin:
    """Answers about the host, and runs functions on demand."""

    def __init__(self, timers: Mapping[str, Timer], others: Collection[str], keys: Keys | None) -> None:
        self.timers = timers
        self.others = others
        self.keys = keys
        self.started = time.monotonic()
        self.id = secrets.token_hex(10)
        self.running: set[asyncio.Task[None]] = set()

    def add_routes(self, application: web.Application) -> None:
        application.router.add_route("*", "/admin/host/ping", self.ping)
        application.router.add_get("/admin/host/status", self.status)
        application.router.add_post("/admin/functions/{name}", self.run)

    def refused(self, request: web.Request) -> web.Response | None:
        level = self.keys.level(request) if self.keys else ADMIN
        return None if level == ADMIN else web.Response(status=401 if level == ANONYMOUS else 403)

    async def ping(self, _: web.Request) -> web.Response:
        return web.Response()

    async def status(self, request: web.Request) -> web.Response:
        uptime = int((time.monotonic() - self.started) * 1000)
        answer = {"id": self.id, "state": "Running", "version": version("azure-functions-runtime"), "processUptime": uptime}
        return self.refused(request) or web.json_response(answer)

    async def run(self, request: web.Request) -> web.Response:
        """Starts a function and answers at once; whether it fails shows only in the log."""
        if refusal := self.refused(request):
            return refusal
        name = request.match_info["name"].lower()
        timer = next((timer for timer in self.timers.values() if timer.function.name.lower() == name), None)
        if not timer and name not in {other.lower() for other in self.others}:
            return web.Response(status=404)
        if request.content_type != "application/json":
            return web.Response(status=415)
        try:
            if not isinstance(json.loads(await request.read()), dict):
                return web.Response(status=400)
        except ValueError:
            return web.Response(status=400)
        if timer:
            task = asyncio.create_task(timer.fire(CALLED))
            self.running.add(task)
            task.add_done_callback(self.running.discard)
        return web.Response(status=202)
