"""Forwards the caller's HTTP request to the runtime's own HTTP server, and its answer back, piece by piece."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import PayloadAccessError
from multidict import CIMultiDict
from yarl import URL

INVOCATION_ID = "x-ms-invocation-id"
# What the host's proxy (YARP) drops in both directions, besides all that begins with `proxy-`.
DROPPED = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "alt-svc"}
BODY_LIMIT = 104_857_600
# Seconds.
SILENCE_LIMIT = 240.0
# Less than what the runtime's server keeps an idle connection for (uvicorn: 5 s), which it then closes on a request.
KEEPALIVE = 2.0
CONNECT_TRIES = 10
# In the real host's words.
CALLER_LEFT = "Failed to proxy request with ForwarderError: RequestCanceled"
CONNECT_PAUSES = (0.05, 0.25)


class Forwarder:
    """Holds the connections to the runtime at `origin`; an async context."""

    def __init__(self, origin: str, silence_limit: float = SILENCE_LIMIT) -> None:
        self.origin = origin
        self.silence_limit = silence_limit

    async def __aenter__(self) -> "Forwarder":
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE),
            timeout=aiohttp.ClientTimeout(total=None, sock_read=self.silence_limit),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("accept", "accept-encoding", "content-type", "user-agent"),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def forward(self, request: web.Request, invocation_id: str) -> web.StreamResponse:
        """The runtime's answer, sent on. Raises `NotForwarded` when there is none, and `StreamBroken`."""
        body = Body(request)
        if body.refusal:
            raise NotForwarded(body.refusal)
        try:
            answer = await self.connect(request, body, invocation_id)
        except (aiohttp.ClientError, TimeoutError, NotForwarded):
            raise NotForwarded(body.refusal or 500) from None
        async with answer:
            response = web.StreamResponse(status=answer.status, reason=answer.reason)
            for name, value in answer.headers.items():
                if not is_dropped(name):
                    response.headers.add(name, value)
            try:
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
            except (aiohttp.ClientPayloadError, aiohttp.ServerTimeoutError):
                # The caller must not take what has come for all there is.
                if request.transport:
                    request.transport.abort()
                raise StreamBroken("Failed to proxy request: the answer broke off") from None
            except ConnectionError:
                raise StreamBroken(CALLER_LEFT) from None
        return response

    async def connect(self, request: web.Request, body: "Body", invocation_id: str) -> aiohttp.ClientResponse:
        headers = CIMultiDict(
            (name, value) for name, value in request.headers.items() if not is_dropped(name) and name.lower() != "host"
        )
        headers[INVOCATION_ID] = invocation_id
        headers["X-Forwarded-For"] = request.remote or ""
        headers["X-Forwarded-Host"] = request.host
        headers["X-Forwarded-Proto"] = request.scheme
        for attempt in range(CONNECT_TRIES):
            try:
                return await self.session.request(
                    request.method,
                    URL(self.origin + request.rel_url.raw_path_qs, encoded=True),
                    headers=headers,
                    data=body.chunks() if request.can_read_body else None,
                    allow_redirects=False,
                )
            except aiohttp.ClientConnectorError:
                # Right after the start, the runtime may not listen yet.
                if attempt == CONNECT_TRIES - 1:
                    raise
                await asyncio.sleep(min(CONNECT_PAUSES[0] * (attempt + 1), CONNECT_PAUSES[1]))
        raise AssertionError("unreachable")


class StreamBroken(Exception):
    """One side broke off in mid-answer; the caller's connection is gone."""


class NotForwarded(Exception):
    """There is no answer of the runtime; the caller gets an empty one with `status`."""

    def __init__(self, status: int) -> None:
        super().__init__(f"Failed to proxy request: {status}")
        self.status = status


class Body:
    """The request's body on its way to the runtime."""

    def __init__(self, request: web.Request) -> None:
        self.request = request
        self.refusal = 413 if (request.content_length or 0) > BODY_LIMIT else None
        """The status that the host refuses the body with."""

    async def chunks(self) -> AsyncIterator[bytes]:
        # Sends the headers on at once, as the real host does; aiohttp keeps them back for the first bytes.
        yield b""
        size = 0
        try:
            async for chunk in self.request.content.iter_any():
                size += len(chunk)
                if size > BODY_LIMIT:
                    self.refusal = 413
                    raise NotForwarded(413)
                yield chunk
        except (PayloadAccessError, HttpProcessingError):
            self.refusal = 400
            raise NotForwarded(400) from None


def is_dropped(header: str) -> bool:
    return header.lower() in DROPPED or header.lower().startswith("proxy-")
