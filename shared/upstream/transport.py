"""The connections under the SDK: aiohttp's, since httpx2's own pool costs more CPU with every open connection.

The SDK takes any httpx2 client and calls two methods of it. Both do here what the SDK has asked for and no more: no
merging of defaults, no redirects (which would carry the credentials elsewhere), no cookies kept, no decoding.
"""

import asyncio
import functools
from typing import Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2
from aiohttp.tracing import Trace

from shared.upstream.response_body import AnswerBody

# Seconds.
CONNECT_TIMEOUT = 10.0
# Shorter than what Azure's front ends keep an idle connection for, so that ours end first.
KEEPALIVE_EXPIRY = 30.0
# Longer than a server far away takes to refuse what comes on a connection that it has closed.
STALE_SHOWS_WITHIN = 1.0
# Parsing is dear. A deployment's address is always the same; those of stored responses come and go.
parsed = functools.lru_cache(maxsize=512)(httpx2.URL)
# It takes 40 ms to make one.
tls = functools.cache(httpx2.create_ssl_context)


@functools.cache
def proxy_for(scheme: str, host: str) -> str | None:
    """The proxy that the environment names. aiohttp would look into .netrc as well, and send what it finds there."""
    return None if proxy_bypass(host) else getproxies().get(scheme)


class Connector(aiohttp.TCPConnector):
    """Hands out no connection on which something has come that nobody had asked for.

    On one from the pool, aiohttp would take it for the answer to the next request, and that one's answer for the answer to
    its successor.
    """

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109, aiohttp's own
    ) -> aiohttp.connector.Connection:
        connection = await super().connect(req, traces, timeout)
        if connection.protocol and connection.protocol.should_close:
            connection.close()
            raise aiohttp.ServerDisconnectedError
        return connection


class ConnectionUse:
    """What aiohttp tells of the connection that a request goes out on."""

    reused_at: float | None = None
    """When it was taken from the pool, by the loop's clock; None for a new one."""

    def is_stale(self, exc: aiohttp.ClientError) -> bool:
        """Whether `exc` shows that the server had closed it meanwhile: at once, and before any answer.

        What breaks later may have been worked on, and paid for.
        """
        # Where an answer had begun, aiohttp puts what it had read of it there.
        has_begun = not isinstance(getattr(exc, "message", ""), str)
        if self.reused_at is None or has_begun:
            return False
        return asyncio.get_running_loop().time() - self.reused_at < STALE_SHOWS_WITHIN


async def note_reuse(_: aiohttp.ClientSession, context: Any, __: aiohttp.TraceConnectionReuseconnParams) -> None:
    context.trace_request_ctx.reused_at = asyncio.get_running_loop().time()


class HttpClient(httpx2.AsyncClient):
    """What the SDK sends with. Connections are limited to `connections`; a connect takes at most `CONNECT_TIMEOUT`.

    Nothing else ends by time here: deadlines and idle limits do that from outside. Failures are those of aiohttp. A
    connection that cannot be made is tried `connects` times. One from the pool that the server has closed, as it may in
    the moment in which it is taken again, is replaced by a new one.
    """

    def __init__(self, connections: int, connects: int = 1) -> None:
        # Neither the transport nor the timeout is used; without them httpx2 would make its own.
        super().__init__(transport=httpx2.AsyncBaseTransport(), timeout=None)
        self.connections = connections
        self.connects = connects
        self.pooled: aiohttp.ClientSession | None = None
        self.fresh: aiohttp.ClientSession | None = None
        """Takes no connection from a pool."""

    def build_request(self, method: str, url: httpx2.URL | str, **parts: Any) -> httpx2.Request:
        """A request of just these parts; of them, those that this app sends with."""
        params = parts.get("params")
        return httpx2.Request(
            method,
            httpx2.URL(url, params=params) if params else parsed(url),
            headers=parts.get("headers"),
            content=parts.get("content"),
        )

    async def send(self, request: httpx2.Request, *, stream: bool = False, **_: object) -> httpx2.Response:
        """The answer to `request`; with `stream`, its body is still to be read. Raises `aiohttp.ClientError`."""
        answer = await self.ask(request)
        response = httpx2.Response(
            answer.status, headers=list(answer.raw_headers), stream=AnswerBody(answer), request=request
        )
        if not stream:
            try:
                await response.aread()
            except BaseException:
                await response.aclose()
                raise
        return response

    async def ask(self, request: httpx2.Request) -> aiohttp.ClientResponse:
        # On first use, because they belong to the running event loop.
        session = self.pooled = self.pooled or self.session()
        connects = 0
        while True:
            use = ConnectionUse()
            try:
                return await session.request(
                    request.method,
                    str(request.url),
                    headers=request.headers,
                    data=request.content or None,
                    allow_redirects=False,
                    proxy=proxy_for(request.url.scheme, request.url.host),
                    trace_request_ctx=use,
                )
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                connects += 1
                if connects >= self.connects:
                    raise
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as exc:
                if not use.is_stale(exc):
                    raise
                session = self.fresh = self.fresh or self.session(force_close=True)

    def session(self, *, force_close: bool = False) -> aiohttp.ClientSession:
        tracing = aiohttp.TraceConfig()
        tracing.on_connection_reuseconn.append(note_reuse)
        session = aiohttp.ClientSession(
            connector=Connector(
                limit=self.connections,
                keepalive_timeout=None if force_close else KEEPALIVE_EXPIRY,
                force_close=force_close,
                ssl=tls(),
            ),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trace_configs=[tracing],
        )
        # aiohttp would send a GET or a DELETE again by itself, on a new connection as well.
        session._retry_connection = False
        return session

    async def aclose(self) -> None:
        for session in (self.pooled, self.fresh):
            if session:
                await session.close()
