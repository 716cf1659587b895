"""Serve the host's own endpoints below /admin."""

import asyncio
import json
import secrets
import time
from collections.abc import Collection, Mapping
from importlib.metadata import version

from aiohttp import web

from local.host.invocations import HOST_API_REASON
from local.host.keys import ADMIN, ANONYMOUS, Keys
from local.host.timers import Timer


class Admin:
    """Report the status of the host, and run functions on demand."""

    def __init__(self, timers: Mapping[str, Timer], http_functions: Collection[str], keys: Keys | None) -> None:
        self.timers = {name.lower(): timer for name, timer in timers.items()}
        self.http_functions = {name.lower() for name in http_functions}
        self.keys = keys
        self.started = time.monotonic()
        self.id = secrets.token_hex(10)
        self.running: set[asyncio.Task[None]] = set()

    def add_routes(self, application: web.Application) -> None:
        application.router.add_route("*", "/admin/host/ping", self.ping)
        application.router.add_get("/admin/host/status", self.status)
        application.router.add_post("/admin/functions/{name}", self.run)

    def check_key(self, request: web.Request) -> web.Response | None:
        """Return an error response if the request lacks the master key."""
        level = self.keys.level(request) if self.keys else ADMIN
        if level == ANONYMOUS:
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        return None if level == ADMIN else web.Response(status=403)

    async def ping(self, _: web.Request) -> web.Response:
        return web.Response(headers={"Cache-Control": "no-store,no-cache", "Pragma": "no-cache"})

    async def status(self, request: web.Request) -> web.Response:
        uptime = int((time.monotonic() - self.started) * 1000)
        status = {"id": self.id, "state": "Running", "version": version("azure-functions-runtime"), "processUptime": uptime}
        return self.check_key(request) or web.json_response(status)

    async def run(self, request: web.Request) -> web.Response:
        """Start a function and respond at once. If it fails, only the log says so."""
        if error := self.check_key(request):
            return error
        name = request.match_info["name"].lower()
        timer = self.timers.get(name)
        if not timer and name not in self.http_functions:
            return web.Response(status=404)
        if request.content_type != "application/json":
            return web.Response(status=415)
        try:
            if not isinstance(json.loads(await request.read()), dict):
                return web.Response(status=400)
        except ValueError:
            return web.Response(status=400)
        if timer:
            task = asyncio.create_task(timer.fire(HOST_API_REASON))
            self.running.add(task)
            task.add_done_callback(self.running.discard)
        return web.Response(status=202)
