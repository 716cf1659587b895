"""Serve HTTP as Kestrel does, the web server of the Functions host: its limits, and its responses to bad requests."""

import asyncio
import codecs
import re
from typing import Any
from urllib.parse import unquote

from aiohttp import hdrs, web
from aiohttp.http import SERVER_SOFTWARE, HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

# The Server header of the real host's own responses. Those of functions have the runtime's.
SERVER = "Kestrel"
URL_LIMIT = 8192
# The names, values and separators of all headers together, in bytes, and their number.
HEADERS_LIMIT = 32_768
HEADER_COUNT_LIMIT = 100
# Seconds for which the rest of a body is read and discarded after its response.
LINGERING_TIME = 2.0
ENCODED_SLASH = re.compile("%(2f)", re.IGNORECASE)


class KestrelProtocol(web.RequestHandler):
    """Respond to bad requests as Kestrel does."""

    __slots__ = ()

    def __init__(self, manager: web.Server, *, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        options |= {"max_line_size": URL_LIMIT, "max_field_size": HEADERS_LIMIT, "max_headers": HEADERS_LIMIT}
        super().__init__(manager, loop=loop, lingering_time=LINGERING_TIME, **options)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages and not isinstance(self._messages[-1][0], RawRequestMessage):
            # The parser has failed. Report that to the request whose body is incomplete, which aiohttp would leave waiting.
            incomplete = [body for _, body in self._messages]
            if self._current_request:
                incomplete.append(self._current_request.content)
            for body in incomplete:
                if not body.is_eof():
                    body.set_exception(HttpProcessingError(code=400))
                    body.feed_eof()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the empty response to a request that aiohttp could not parse, or to a defect of the local host."""
        if not isinstance(exc, HttpProcessingError):
            # This logs the defect.
            super().handle_error(request, status, exc, message)
            return empty_response(500)
        # aiohttp would respond to any malformed request in HTTP/1.0.
        request._version = HttpVersion11
        if isinstance(exc, LineTooLong):
            return empty_response(414 if exc.args[1] == URL_LIMIT else 431, close=True)
        # The parser reports a bad chunk here if it arrives along with the headers.
        return empty_response(500 if "chunk" in exc.message.partition(":")[0] else 400, close=True)


def rejected(request: web.Request) -> web.StreamResponse | None:
    """Return the response to a request that Kestrel does not pass to the host, or None."""
    # Each header ends with a line break, and has a separator of two characters.
    size = sum(len(name) + len(value) + 4 for name, value in request.raw_headers)
    if size > HEADERS_LIMIT or len(request.raw_headers) > HEADER_COUNT_LIMIT:
        return empty_response(431, close=True)
    if "%00" in request.rel_url.raw_path:
        return empty_response(400, close=True)
    return None


def decoded_path(raw: str) -> str:
    """Return the path of a request as the host sees it: decoded except for `%2F`, and without `.` and `..` segments."""
    decoded = unquote(ENCODED_SLASH.sub(r"%25\1", raw), errors=KEEP_ENCODED)
    segments: list[str] = []
    for segment in decoded.removeprefix("/").split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment != ".":
            segments.append(segment)
    if decoded.endswith(("/.", "/..")):
        segments.append("")
    return "/" + "/".join(segments)


def keep_encoded(error: UnicodeError) -> tuple[str, int]:
    """Keep bytes that are not UTF-8 encoded in a path, as an error handler of a codec."""
    assert isinstance(error, UnicodeDecodeError)
    return "".join(f"%{byte:02X}" for byte in error.object[error.start : error.end]), error.end


KEEP_ENCODED = "keep_encoded"
codecs.register_error(KEEP_ENCODED, keep_encoded)


def empty_response(status: int, *, close: bool = False) -> web.StreamResponse:
    """Return a response of the host itself, which may close the connection."""
    response = web.Response(status=status, headers={hdrs.CONTENT_LENGTH: "0", hdrs.SERVER: SERVER})
    if close:
        response.force_close()
    return response


async def set_host_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Make the headers of the host's own responses those of the real host."""
    if response.headers.get(hdrs.SERVER) == SERVER_SOFTWARE:
        response.headers[hdrs.SERVER] = SERVER
    if response.headers[hdrs.SERVER] == SERVER and request.method == hdrs.METH_HEAD:
        response.headers.popall(hdrs.CONTENT_LENGTH, None)
