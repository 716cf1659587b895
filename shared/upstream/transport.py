"""Carry the SDK's requests on pooled connections of aiohttp, and replace those that the server has closed.

httpx2, which the SDK is built on, has a pool of its own, but it costs more CPU with every open connection.

The SDK accepts any httpx2 client and calls two of its methods. Both do only what the SDK asks for: they merge no
defaults, follow no redirects (which would carry the credentials elsewhere), keep no cookies and decode nothing.
"""

import asyncio
import functools
import os
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2
from aiohttp.tracing import Trace

from shared.upstream.request import FormBody
from shared.upstream.response_body import ResponseBody

# Seconds.
CONNECT_TIMEOUT = 10.0
# Shorter than the idle time-out of Azure's load balancers, 4 minutes, so that this side closes idle connections first.
# https://learn.microsoft.com/azure/load-balancer/load-balancer-tcp-idle-timeout
KEEPALIVE_EXPIRY = 30.0
# Longer than a distant server takes to reset a connection that it has closed.
STALE_SHOWS_WITHIN = 1.0
PROXYS_ERRORS = (aiohttp.ClientProxyConnectionError, aiohttp.ClientConnectorDNSError)
# Parsing is expensive. A deployment's URL is always the same; those of stored responses vary.
parsed = functools.lru_cache(maxsize=512)(httpx2.URL)
# Creating one takes 40 ms.
tls = functools.cache(httpx2.create_ssl_context)


class Proxy(NamedTuple):
    """The URL of a proxy, which may have a password, and the environment variable that it is in."""

    url: str
    variable: str


class ProxyError(aiohttp.ClientError):
    """The proxy fails, so the request has not reached Azure. The text names the proxy by its variable."""

    def __init__(self, variable: str, problem: str) -> None:
        super().__init__(f"the proxy in {variable} {problem}")


@functools.cache
def proxy_for(scheme: str, host: str) -> Proxy | None:
    """Return the proxy that the environment names, as curl does. Raise `ProxyError` if aiohttp does not support it.

    aiohttp itself would read .netrc as well, and send its passwords.
    """
    proxies = getproxies()
    kind = next((kind for kind in (scheme, "all") if proxies.get(kind)), None)
    if kind is None or proxy_bypass(host):
        return None
    # Like getproxies, prefer lowercase names, which sort last. Other systems than Linux have settings of their own.
    names = [name for name, value in os.environ.items() if value and name.lower() == f"{kind}_proxy"]
    variable = max(names, default="the system's settings")
    url = proxies[kind] if "://" in proxies[kind] else f"http://{proxies[kind]}"
    if url.lower().startswith("socks"):
        raise ProxyError(variable, "is a SOCKS proxy, and those are not supported; give the URL of an HTTP proxy")
    if not url.lower().startswith(("http://", "https://")):
        raise ProxyError(variable, "is not supported; give the URL of an HTTP proxy")
    return Proxy(url, variable)


def proxy_problem(exc: aiohttp.ClientError) -> str | None:
    """Return the problem that the proxy has, if `exc` shows one: that of a request without a connection to Azure."""
    if isinstance(exc, aiohttp.ClientHttpProxyError):
        return f"responded with {exc.status}"
    # Only the proxy's name is resolved here. What else fails to connect is TLS, at the other end of the tunnel.
    if isinstance(exc, aiohttp.ClientConnectorError) and not isinstance(exc, PROXYS_ERRORS):
        return None
    # The texts of these exceptions have the proxy's URL.
    cause = exc.os_error if isinstance(exc, PROXYS_ERRORS) else exc
    return None if was_sent() else f"cannot be reached ({type(cause).__name__})"


class Connector(aiohttp.TCPConnector):
    """Discard a pooled connection that has received unsolicited bytes.

    aiohttp would take them for the response to the next request. Each later response would then go to the wrong request.
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
    """Note whether aiohttp took a request's connection from the pool, and classify its failure.

    `form` is the request's body if it is a form, which can take long to send.
    """

    def __init__(self, form: FormBody | None) -> None:
        self.form = form

    has_connection = False
    """Whether the request has a connection, on which aiohttp sends it at once."""
    reused_at: float | None = None
    """When it was taken from the pool, by the loop's clock; None for a new connection."""

    def is_stale(self, exc: aiohttp.ClientError) -> bool:
        """Return whether `exc` shows a stale connection: the server had closed it in the pool, so the request fails at once,
        before any response.

        Azure may have worked on a request that fails later, and charged for it.
        """
        # `message` is a string unless a response has begun; then aiohttp puts its beginning there.
        has_begun = not isinstance(getattr(exc, "message", ""), str)
        if self.reused_at is None or has_begun:
            return False
        return asyncio.get_running_loop().time() - self.reused_at < STALE_SHOWS_WITHIN


# The latest use of a connection in the current task.
latest_use: ContextVar[ConnectionUse | None] = ContextVar("latest_use", default=None)


def clear_use() -> None:
    """Forget the current task's latest request, before another one."""
    latest_use.set(None)


def was_sent() -> bool:
    """Return whether the current task's latest request was sent, so that Azure may have worked on it.

    One with a connection counts as sent, and a form only with its end.
    """
    use = latest_use.get()
    return use is not None and use.has_connection and (use.form is None or use.form.is_sent)


async def note_reuse(_: aiohttp.ClientSession, context: Any, __: aiohttp.TraceConnectionReuseconnParams) -> None:
    context.trace_request_ctx.reused_at = asyncio.get_running_loop().time()
    context.trace_request_ctx.has_connection = True


async def note_connection(_: aiohttp.ClientSession, context: Any, __: aiohttp.TraceConnectionCreateEndParams) -> None:
    context.trace_request_ctx.has_connection = True


class HttpClient(httpx2.AsyncClient):
    """Send the SDK's requests, on at most `connections` connections. Requests raise aiohttp's exceptions.

    A connection attempt takes at most `CONNECT_TIMEOUT` and is made `connects` times. The code that sends a request sets
    its deadline and its idle time-out. A pooled connection that the server has closed is replaced with a new one.
    """

    def __init__(self, connections: int, connects: int = 1) -> None:
        # Both are unused, but without them httpx2 would create its own.
        super().__init__(transport=httpx2.AsyncBaseTransport(), timeout=None)
        self.connections = connections
        self.connects = connects
        self.pooled: aiohttp.ClientSession | None = None
        self.fresh: aiohttp.ClientSession | None = None
        """Uses each connection once."""

    def build_request(self, method: str, url: httpx2.URL | str, **parts: Any) -> httpx2.Request:
        """Return a request of those `parts` that this app uses."""
        content, headers = parts.get("content"), parts.get("headers")
        if isinstance(content, FormBody):
            # With these headers, the SDK would encode a form itself.
            headers = httpx2.Headers(headers)
            headers.update(content.headers)
            return httpx2.Request(method, parsed(url), headers=headers, stream=content)
        return httpx2.Request(method, parsed(url), headers=headers, content=content)

    async def send(self, request: httpx2.Request, *, stream: bool = False, **_: object) -> httpx2.Response:
        """Return the response to `request`, with `stream` before its body is read. Raise `aiohttp.ClientError`."""
        proxy = proxy_for(request.url.scheme, request.url.host)
        try:
            raw = await self.raw_response(request, proxy)
        except aiohttp.ClientError as exc:
            if proxy and (problem := proxy_problem(exc)):
                raise ProxyError(proxy.variable, problem) from None
            raise
        if proxy and raw.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            raw.close()
            clear_use()
            raise ProxyError(proxy.variable, f"responded with {raw.status}")
        response = httpx2.Response(raw.status, headers=list(raw.raw_headers), stream=ResponseBody(raw), request=request)
        if not stream:
            try:
                await response.aread()
            except BaseException:
                await response.aclose()
                raise
        return response

    async def raw_response(self, request: httpx2.Request, proxy: Proxy | None) -> aiohttp.ClientResponse:
        # Created on first use, because sessions belong to the running event loop.
        session = self.pooled = self.pooled or self.session()
        connects = 0
        form = request.stream if isinstance(request.stream, FormBody) else None
        while True:
            use = ConnectionUse(form)
            latest_use.set(use)
            try:
                return await session.request(
                    request.method,
                    str(request.url),
                    headers=request.headers,
                    data=form or request.content or None,
                    allow_redirects=False,
                    proxy=proxy.url if proxy else None,
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
        tracing.on_connection_create_end.append(note_connection)
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
        # aiohttp would repeat a GET or a DELETE by itself, even after a failure on a new connection.
        session._retry_connection = False
        return session

    async def aclose(self) -> None:
        for session in (self.pooled, self.fresh):
            if session:
                await session.close()
