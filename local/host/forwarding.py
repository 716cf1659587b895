"""Forward HTTP requests to the runtime's own HTTP server, and stream its responses back."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from urllib.parse import quote

import aiohttp
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import PayloadAccessError
from multidict import CIMultiDict
from yarl import URL

from local.serving import reset_connection

INVOCATION_ID = "x-ms-invocation-id"
# The headers that the host's proxy (YARP) drops in both directions, along with all that begin with `proxy-`. It passes on
# `connection` and `upgrade` of a request for a WebSocket.
DROPPED = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "alt-svc"}
# The headers of a request that the host also drops, or replaces.
DROPPED_FROM_REQUESTS = {"host", "forwarded"}
# The characters of a path that it does not encode, besides letters, digits and `-._~`. So `%2F` becomes `%252F`.
PATH_CHARACTERS = "/!$&'()*+,;=:@"
BODY_LIMIT = 104_857_600
# Seconds without a byte from the runtime, after which the host gives up.
ACTIVITY_TIMEOUT = 240.0
# Seconds. Shorter than the 5 s after which the runtime's server (uvicorn) closes an idle connection, so that no request
# is sent on a connection that is about to close.
KEEP_ALIVE_TIMEOUT = 2.0
CONNECT_TRIES = 10
# Seconds by which the delay between two tries grows, and its maximum.
CONNECT_DELAY_STEP = 0.05
MAX_CONNECT_DELAY = 0.25
# The real host's message when the client disconnects.
REQUEST_CANCELED = "Failed to proxy request with ForwarderError: RequestCanceled"


class Forwarder:
    """Keep the connections to the runtime at `origin`. Use it as an async context."""

    def __init__(self, origin: str, activity_timeout: float = ACTIVITY_TIMEOUT) -> None:
        self.origin = origin
        self.activity_timeout = activity_timeout

    async def __aenter__(self) -> "Forwarder":
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_TIMEOUT),
            timeout=aiohttp.ClientTimeout(total=None, sock_read=self.activity_timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("accept", "accept-encoding", "content-type", "user-agent"),
            trace_configs=[trace_sent_headers()],
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def forward(self, request: web.Request, path: str, invocation_id: str, sent: asyncio.Event) -> web.StreamResponse:
        """Forward the request, with the decoded `path`, and send the runtime's response to the client.

        Set `sent` as soon as the runtime gets the headers. Raise `ForwardingFailed` before the response, and
        `StreamInterrupted` in the middle of it.
        """
        if (request.content_length or 0) > BODY_LIMIT:
            raise ForwardingFailed
        try:
            runtime_response = await self.connect(request, path, invocation_id, sent)
        except (aiohttp.ClientError, TimeoutError):
            raise ForwardingFailed from None
        async with runtime_response:
            response = web.StreamResponse(status=runtime_response.status, reason=runtime_response.reason)
            for name, value in runtime_response.headers.items():
                if not is_dropped(name):
                    response.headers.add(name, value)
            try:
                await response.prepare(request)
                async for chunk in runtime_response.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
            except (aiohttp.ClientPayloadError, aiohttp.ServerTimeoutError):
                # So that the client does not take the response for complete.
                reset_connection(request)
                raise StreamInterrupted("Failed to proxy request: the response was interrupted") from None
            except ConnectionError:
                raise StreamInterrupted(REQUEST_CANCELED) from None
        return response

    async def connect(
        self, request: web.Request, path: str, invocation_id: str, sent: asyncio.Event
    ) -> aiohttp.ClientResponse:
        """Send the request to the runtime, and return its response as soon as the headers have arrived."""
        headers = CIMultiDict(
            (name, value)
            for name, value in request.headers.items()
            if not is_dropped(name) and name.lower() not in DROPPED_FROM_REQUESTS
        )
        headers[INVOCATION_ID] = invocation_id
        headers["X-Forwarded-For"] = request.remote or ""
        headers["X-Forwarded-Host"] = request.host
        headers["X-Forwarded-Proto"] = request.scheme
        method = request.method
        if asks_for_websocket(request):
            headers.update({"connection": "Upgrade", "upgrade": "websocket"})
            method = hdrs.METH_GET
        query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
        url = URL(self.origin + quote(path, safe=PATH_CHARACTERS) + query, encoded=True)
        tries = 0
        while True:
            try:
                return await self.session.request(
                    method,
                    url,
                    headers=headers,
                    data=body_chunks(request) if request.can_read_body else None,
                    allow_redirects=False,
                    trace_request_ctx=sent,
                )
            except aiohttp.ClientConnectorError:
                # Just after the start, the runtime may not be listening yet.
                tries += 1
                if tries == CONNECT_TRIES:
                    raise
                await asyncio.sleep(min(CONNECT_DELAY_STEP * tries, MAX_CONNECT_DELAY))


class StreamInterrupted(Exception):
    """Report that the runtime or the client closed its connection before the response was complete."""


class ForwardingFailed(Exception):
    """Report that the runtime sent no response. The client gets an empty 500, also if its own request is the reason."""

    def __init__(self) -> None:
        super().__init__("Failed to proxy request: status 500")


async def body_chunks(request: web.Request) -> AsyncIterator[bytes]:
    """Stream the body of `request`. Raise `ForwardingFailed` if it is too long or malformed."""
    # Make aiohttp send the headers at once, as the real host does, and not with the first bytes.
    yield b""
    size = 0
    try:
        async for chunk in request.content.iter_any():
            size += len(chunk)
            if size > BODY_LIMIT:
                raise ForwardingFailed
            yield chunk
    except (PayloadAccessError, HttpProcessingError):
        raise ForwardingFailed from None


def trace_sent_headers() -> aiohttp.TraceConfig:
    """Return a trace that sets the event of a request when its headers are sent."""

    async def set_event(_: object, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.set()

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(set_event)
    return trace


def asks_for_websocket(request: web.Request) -> bool:
    """Return whether the client asks for a WebSocket. The host ignores that in a request with a body.

    The runtime's server would take the body for the next request of the connection.
    """
    tokens = [token.strip().lower() for value in request.headers.getall("connection", []) for token in value.split(",")]
    upgrade = request.headers.get("upgrade", "").lower()
    return "upgrade" in tokens and upgrade == "websocket" and not request.can_read_body


def is_dropped(header: str) -> bool:
    return header.lower() in DROPPED or header.lower().startswith("proxy-")
