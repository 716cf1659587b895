"""Forward HTTP requests to the runtime's own HTTP server, and stream its responses back."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import PayloadAccessError
from multidict import CIMultiDict
from yarl import URL

INVOCATION_ID = "x-ms-invocation-id"
# The headers that the host's proxy (YARP) drops in both directions, along with all that begin with `proxy-`. It passes on
# `connection` and `upgrade` of a request for a WebSocket.
DROPPED = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "alt-svc"}
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
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def forward(self, request: web.Request, invocation_id: str) -> web.StreamResponse:
        """Forward the request and send the runtime's response to the client.

        Raise `ForwardingFailed` before the response, and `StreamInterrupted` in the middle of it.
        """
        body = Body(request)
        if body.error_status:
            raise ForwardingFailed(body.error_status)
        try:
            runtime_response = await self.connect(request, body, invocation_id)
        except (aiohttp.ClientError, TimeoutError, ForwardingFailed):
            raise ForwardingFailed(body.error_status or 500) from None
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
                # Abort, so that the client does not take the response for complete.
                if request.transport:
                    request.transport.abort()
                raise StreamInterrupted("Failed to proxy request: the response was interrupted") from None
            except ConnectionError:
                raise StreamInterrupted(REQUEST_CANCELED) from None
        return response

    async def connect(self, request: web.Request, body: "Body", invocation_id: str) -> aiohttp.ClientResponse:
        """Send the request to the runtime, and return its response as soon as the headers have arrived."""
        headers = CIMultiDict(
            (name, value) for name, value in request.headers.items() if not is_dropped(name) and name.lower() != "host"
        )
        if asks_for_websocket(request):
            headers.update({"connection": "Upgrade", "upgrade": "websocket"})
        headers[INVOCATION_ID] = invocation_id
        headers["X-Forwarded-For"] = request.remote or ""
        headers["X-Forwarded-Host"] = request.host
        headers["X-Forwarded-Proto"] = request.scheme
        tries = 0
        while True:
            try:
                return await self.session.request(
                    request.method,
                    URL(self.origin + request.rel_url.raw_path_qs, encoded=True),
                    headers=headers,
                    data=body.chunks() if request.can_read_body else None,
                    allow_redirects=False,
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
    """Report that the runtime sent no response. The client gets an empty response with `status`."""

    def __init__(self, status: int) -> None:
        super().__init__(f"Failed to proxy request: status {status}")
        self.status = status


class Body:
    """Stream the request body to the runtime."""

    def __init__(self, request: web.Request) -> None:
        self.request = request
        self.error_status = 413 if (request.content_length or 0) > BODY_LIMIT else None
        """The status with which the host rejects the body."""

    async def chunks(self) -> AsyncIterator[bytes]:
        # Make aiohttp send the headers at once, as the real host does, and not with the first bytes.
        yield b""
        size = 0
        try:
            async for chunk in self.request.content.iter_any():
                size += len(chunk)
                if size > BODY_LIMIT:
                    self.error_status = 413
                    raise ForwardingFailed(413)
                yield chunk
        except (PayloadAccessError, HttpProcessingError):
            self.error_status = 400
            raise ForwardingFailed(400) from None


def asks_for_websocket(request: web.Request) -> bool:
    """Return whether the client asks for a WebSocket. The host ignores that in a request with a body.

    The runtime's server would take the body for the next request of the connection.
    """
    tokens = [token.strip().lower() for value in request.headers.getall("connection", []) for token in value.split(",")]
    upgrade = request.headers.get("upgrade", "").lower()
    return "upgrade" in tokens and upgrade == "websocket" and not request.can_read_body


def is_dropped(header: str) -> bool:
    return header.lower() in DROPPED or header.lower().startswith("proxy-")
