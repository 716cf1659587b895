"""The host's part: takes HTTP requests, invokes functions, and forwards the requests to the runtime."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

from local.routes import Route, routes_of
from local.worker import Worker, http_data

logger = logging.getLogger(__name__)

INVOCATION_ID = "x-ms-invocation-id"
# What the host's proxy (YARP) drops in both directions, beside what concerns one connection alone.
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "alt-svc", "proxy-connection"}
CONNECT_TRIES = 10
CONNECT_PAUSE = 0.05


class Host:
    """Serves the functions of `worker` below `/{prefix}/`."""

    def __init__(self, worker: Worker, prefix: str) -> None:
        self.worker = worker
        self.routes: list[Route] = routes_of(worker.functions, prefix)
        self.session: aiohttp.ClientSession | None = None

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self.answer)
        application.cleanup_ctx.append(self.client_session)
        return application

    async def client_session(self, application: web.Application) -> AsyncIterator[None]:
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_read=240),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("accept", "accept-encoding", "content-type", "user-agent"),
        )
        async with self.session:
            yield

    async def answer(self, request: web.Request) -> web.StreamResponse:
        for route in self.routes:
            parameters = route.match(request.method, request.rel_url.raw_path)
            if parameters is not None:
                return await self.invoke(route, parameters, request)
        return web.Response(status=404)

    async def invoke(self, route: Route, parameters: dict[str, str], request: web.Request) -> web.StreamResponse:
        """One invocation, which lasts until the answer has been forwarded to its end."""
        name, invocation_id, started = route.function.name, str(uuid.uuid4()), time.monotonic()
        logger.info(
            "Executing 'Functions.%s' (Reason='This function was programmatically called via the host APIs.', Id=%s)",
            name,
            invocation_id,
        )
        traceparent = request.headers.get("traceparent", "")
        data = http_data(parameters)
        invocation = asyncio.create_task(self.worker.invoke(route.function, invocation_id, data, traceparent))
        outcome = "Failed"
        try:
            response = await self.forward(request, invocation_id)
            failure = await invocation
            outcome = "Failed" if failure else "Succeeded"
            if failure:
                logger.error("%s", failure)
            return response
        finally:
            duration = int((time.monotonic() - started) * 1000)
            logger.info("Executed 'Functions.%s' (%s, Id=%s, Duration=%dms)", name, outcome, invocation_id, duration)

    async def forward(self, request: web.Request, invocation_id: str) -> web.StreamResponse:
        """Sends the request on to the runtime, and its answer back piece by piece."""
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP | {"host"}}
        headers |= {
            INVOCATION_ID: invocation_id,
            "X-Forwarded-For": request.remote or "",
            "X-Forwarded-Host": request.host,
            "X-Forwarded-Proto": request.scheme,
        }
        async with await self.connect(request, headers) as answer:
            response = web.StreamResponse(status=answer.status, reason=answer.reason)
            for name, value in answer.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    response.headers.add(name, value)
            await response.prepare(request)
            try:
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
            except aiohttp.ClientError:
                # The stream broke: the caller must not take what has come for all there is.
                if request.transport:
                    request.transport.abort()
        return response

    async def connect(self, request: web.Request, headers: dict[str, str]) -> aiohttp.ClientResponse:
        assert self.session is not None
        url = self.worker.http_uri + request.raw_path
        body = request.content if request.body_exists else None
        for tries_left in reversed(range(CONNECT_TRIES)):
            try:
                return await self.session.request(request.method, url, headers=headers, data=body, allow_redirects=False)
            except aiohttp.ClientConnectorError:
                # Right after the start, the runtime may not listen yet.
                if not tries_left:
                    raise
                await asyncio.sleep(CONNECT_PAUSE)
        raise AssertionError("unreachable")
