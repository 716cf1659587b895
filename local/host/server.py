"""The host's part: takes HTTP requests, decides whose they are, and invokes functions."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping

from aiohttp import web
from aiohttp.http import SERVER_SOFTWARE

from local.host import cors, invocations
from local.host.admin import Admin
from local.host.forwarding import CALLER_LEFT, Forwarder, NotForwarded, StreamBroken
from local.host.keys import ADMIN, Keys
from local.host.routes import Route, routes_of
from local.host.timers import Timer
from local.host.worker import FunctionFailed, Worker, http_data

logger = logging.getLogger(__name__)

HOMEPAGE = "<!doctype html><title>Functions</title><p>Your Functions app is up and running, on your own machine."
# What the real host's answers say; those of functions come with the runtime's own.
SERVER = "Kestrel"
# Seconds.
WORKER_PATIENCE = 5.0


class Host:
    """Serves the functions of `worker` below `/{prefix}/`, and fires their timers.

    Without `keys`, none is asked for, as under `func start`. `environ` is where the host's own settings are.
    """

    def __init__(self, worker: Worker, prefix: str, environ: Mapping[str, str], keys: Keys | None = None) -> None:
        self.worker = worker
        self.environ = environ
        self.keys = keys
        self.routes, self.in_error = routes_of(worker.functions, prefix)
        self.timers: dict[str, Timer] = {}
        for function in worker.functions:
            if function.trigger["type"] == "timerTrigger":
                try:
                    self.timers[function.name] = Timer(worker, function, environ)
                except ValueError as exc:
                    self.in_error[function.name] = str(exc)
        self.admin = Admin(self.timers, {route.function.name for route in self.routes}, keys)

    def application(self, allowed: cors.Allowed | None = None) -> web.Application:
        application = web.Application()
        if allowed:
            cors.add(application, allowed)
        self.admin.add_routes(application)
        application.router.add_route("*", "/", self.homepage)
        application.router.add_route("*", r"/{path:[\s\S]*}", self.answer)
        application.on_response_prepare.append(name_server)
        application.cleanup_ctx.append(self.forwarding)
        application.cleanup_ctx.append(self.ticking)
        return application

    async def forwarding(self, _: web.Application) -> AsyncIterator[None]:
        async with Forwarder(self.worker.http_uri) as self.forwarder:
            yield

    async def ticking(self, _: web.Application) -> AsyncIterator[None]:
        ticking = [
            asyncio.create_task(timer.run()) for timer in self.timers.values() if not self.is_disabled(timer.function.name)
        ]
        yield
        for task in ticking:
            task.cancel()
        await asyncio.gather(*ticking, return_exceptions=True)

    async def homepage(self, _: web.Request) -> web.Response:
        if self.environ.get("AzureWebJobsDisableHomepage", "").lower() == "true":
            return web.Response(status=204)
        return web.Response(text=HOMEPAGE, content_type="text/html")

    async def answer(self, request: web.Request) -> web.StreamResponse:
        for route in self.routes:
            parameters = route.match(request.method, request.rel_url.raw_path)
            if parameters is None:
                continue
            if self.is_disabled(route.function.name) and not (self.keys and self.keys.level(request) == ADMIN):
                break
            if self.keys and not self.keys.open(request, route.function):
                return empty(401)
            return await self.invoke(route, parameters, request)
        return empty(404)

    def template(self, name: str) -> str | None:
        """Where the function of that name is, with the route prefix; None when it has no route."""
        return next((route.template for route in self.routes if route.function.name == name), None)

    def is_disabled(self, name: str) -> bool:
        return self.environ.get(f"AzureWebJobs.{name}.Disabled", "").lower() in ("true", "1")

    async def invoke(self, route: Route, parameters: dict[str, str], request: web.Request) -> web.StreamResponse:
        """One invocation, which lasts until the answer has been forwarded to its end."""
        trace = invocations.traceparent(request.headers.get("traceparent", ""))
        response = empty(500)
        try:
            with invocations.invocation(route.function.name, invocations.CALLED) as invocation_id:
                running = asyncio.create_task(
                    self.worker.invoke(route.function, invocation_id, http_data(parameters), trace)
                )
                try:
                    response = await self.forwarder.forward(request, invocation_id)
                    # Done by now, unless the runtime's server has refused the request by itself.
                    await asyncio.wait_for(running, WORKER_PATIENCE)
                except (NotForwarded, TimeoutError):
                    # The runtime waits for a request that will not come.
                    running.cancel()
                    raise
        except FunctionFailed as exc:
            logger.error("%s", exc)
            request.protocol.force_close()
        except NotForwarded as exc:
            logger.error("%s", exc)
            response = empty(exc.status)
        except StreamBroken as exc:
            logger.error("%s", exc)
        except TimeoutError:
            logger.error("The runtime answered by itself; the function has not run")
        except asyncio.CancelledError:
            logger.error(CALLER_LEFT)
            raise
        return response


def empty(status: int) -> web.StreamResponse:
    """An answer of the host's own."""
    return web.Response(status=status, headers={"Content-Length": "0"})


async def name_server(_: web.Request, response: web.StreamResponse) -> None:
    """Puts the real host's name where aiohttp puts its own."""
    if response.headers.get("Server") == SERVER_SOFTWARE:
        response.headers["Server"] = SERVER
