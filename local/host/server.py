"""Serve HTTP requests as the Functions host does: find the function for each of them and invoke it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping

from aiohttp import web

from local.host import invocations
from local.host.admin import Admin
from local.host.cors import CorsPolicy
from local.host.forwarding import REQUEST_CANCELED, Forwarder, ForwardingFailed, StreamInterrupted
from local.host.kestrel import decoded_path, empty_response, rejected, set_host_headers
from local.host.keys import ADMIN, Keys
from local.host.routes import Route, build_routes
from local.host.timers import Timer
from local.host.worker import FunctionFailed, Worker, http_trigger_data

logger = logging.getLogger(__name__)

HOMEPAGE = "<!doctype html><title>Functions</title><p>Your Functions app is up and running, on your own machine."
# Seconds that an invocation may last after the response was forwarded.
INVOCATION_TIMEOUT = 5.0


class Host:
    """Serve the functions of `worker` below `/{prefix}/`, and run their timers.

    Without `keys`, every request is allowed, as under `func start`. `environ` has the host's own settings.
    """

    def __init__(self, worker: Worker, prefix: str, environ: Mapping[str, str], keys: Keys | None = None) -> None:
        self.worker = worker
        self.environ = environ
        self.keys = keys
        self.routes, self.function_errors = build_routes(worker.functions, prefix)
        self.timers: dict[str, Timer] = {}
        for function in worker.functions:
            if function.trigger["type"] == "timerTrigger":
                try:
                    self.timers[function.name] = Timer(worker, function, environ)
                except ValueError as exc:
                    self.function_errors[function.name] = str(exc)
        self.admin = Admin(self.timers, [route.function.name for route in self.routes], keys)

    def application(self, cors: CorsPolicy | None = None) -> web.Application:
        application = web.Application()
        if cors:
            cors.add_to(application)
        self.admin.add_routes(application)
        application.router.add_route("*", "/", self.homepage)
        application.router.add_route("*", r"/{path:[\s\S]*}", self.handle)
        application.on_response_prepare.append(set_host_headers)
        application.cleanup_ctx.append(self.open_forwarder)
        application.cleanup_ctx.append(self.run_timers)
        return application

    async def open_forwarder(self, _: web.Application) -> AsyncIterator[None]:
        async with Forwarder(self.worker.http_uri) as self.forwarder:
            yield

    async def run_timers(self, _: web.Application) -> AsyncIterator[None]:
        enabled = (timer for timer in self.timers.values() if not self.is_disabled(timer.function.name))
        tasks = [asyncio.create_task(timer.run()) for timer in enabled]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def homepage(self, _: web.Request) -> web.Response:
        if self.environ.get("AzureWebJobsDisableHomepage", "").lower() == "true":
            return web.Response(status=204)
        return web.Response(body=HOMEPAGE.encode(), content_type="text/html")

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if rejection := rejected(request):
            return rejection
        path = decoded_path(request.rel_url.raw_path)
        for route in self.routes:
            parameters = route.match(request.method, path)
            if parameters is None:
                continue
            if self.is_disabled(route.function.name) and not (self.keys and self.keys.level(request) == ADMIN):
                break
            if self.keys and not self.keys.allow(request, route.function):
                return empty_response(401)
            return await self.invoke(route, parameters, request, path)
        return empty_response(404)

    def path(self, name: str) -> str | None:
        """Return the path of the HTTP function `name`, including the route prefix, or None if it has no route."""
        return next((route.template for route in self.routes if route.function.name == name), None)

    def is_disabled(self, name: str) -> bool:
        return self.environ.get(f"AzureWebJobs.{name}.Disabled", "").lower() in ("true", "1")

    async def invoke(self, route: Route, parameters: dict[str, str], request: web.Request, path: str) -> web.StreamResponse:
        """Invoke the function and forward its response. The invocation lasts until the response is complete."""
        sent = asyncio.Event()
        traceparent = invocations.new_traceparent(request.headers.get("traceparent", ""))
        response = empty_response(500)
        try:
            with invocations.invocation(route.function.name, invocations.HOST_API_REASON) as invocation_id:
                running = asyncio.create_task(
                    self.worker.invoke(route.function, invocation_id, http_trigger_data(parameters), traceparent)
                )
                try:
                    response = await self.forwarder.forward(request, path, invocation_id, sent)
                    # By now it has ended, unless the runtime's server responded without running the function.
                    await asyncio.wait_for(running, INVOCATION_TIMEOUT)
                except (ForwardingFailed, asyncio.CancelledError):
                    # A function that has its request goes on. Otherwise the runtime would wait for the request forever.
                    if not sent.is_set():
                        running.cancel()
                    raise
        except FunctionFailed as exc:
            logger.error("%s", exc)
            request.protocol.force_close()
        except ForwardingFailed as exc:
            logger.error("%s", exc)
            response = empty_response(500, close=True)
        except StreamInterrupted as exc:
            logger.error("%s", exc)
        except TimeoutError:
            logger.error("The runtime's HTTP server responded without running the function")
        except asyncio.CancelledError:
            logger.error(REQUEST_CANCELED)
            raise
        return response
