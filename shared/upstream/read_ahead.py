"""Read the beginning of a successful response, to find an error that Azure reports there instead of in the status.

Azure throttles streams like this: 200, `response.created`, `response.failed`, then an error event. As long as the client
has got nothing, such an error is worth as much as one in the status.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress

from shared.errors import ErrorDetail
from shared.streaming import sse
from shared.telemetry.response_metadata import metadata_of

# The longest that a stream is held back, in seconds and in bytes.
LONGEST_HOLD = 1.0
LARGEST_HOLD = 1024 * 1024
# The types of events that carry no output. Chunks of chats have no type, and carry none if they have no choices.
WITHOUT_OUTPUT = {None, "response.created", "response.queued", "response.in_progress", "keepalive", "ping"}
# Found in a body that reports an error. Inside JSON strings quotes are escaped, so text never matches.
FAILED = re.compile(rb'"error"\s*:\s*\{|"status"\s*:\s*"failed"')
# Stands for a response that failed without saying why.
UNKNOWN = ErrorDetail("server_error", "The response failed.", type="server_error")
# Stands for a stream that ended without output and without an error.
ENDED = ErrorDetail("server_error", "The stream ended before it had any output.", type="server_error")

type Reader = Callable[[], Awaitable[bytes]]


def error_in_body(body: bytes) -> ErrorDetail | None:
    """Return the error that a whole response reports in its body, JSON."""
    error = metadata_of(body).reported_error if FAILED.search(body) else None
    return UNKNOWN if error == ErrorDetail() else error


async def read_preamble(read: Reader) -> tuple[bytes, ErrorDetail | None]:
    """Read a stream until it has output, an error or an end, or has been held back for long enough.

    Return all bytes that were read, and the error if it came first. An end without any output is an error, too. Raise what
    `read` raises.
    """
    held = bytearray()
    parser = sse.EventParser()
    error = None
    with suppress(TimeoutError):
        async with asyncio.timeout(LONGEST_HOLD):
            while len(held) < LARGEST_HOLD:
                chunk = await read()
                held += chunk
                for data in parser.feed(chunk or b"\n\n"):
                    if data.strip() == sse.DONE:
                        return bytes(held), error
                    event = metadata_of(data)
                    reported = event.reported_error
                    if reported == ErrorDetail():
                        # The event after it may say why.
                        error = UNKNOWN
                    elif reported or event.type not in WITHOUT_OUTPUT or event.choices:
                        return bytes(held), reported or error
                if not chunk:
                    return bytes(held), error or ENDED
    return bytes(held), error
