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
WITHOUT_OUTPUT = {"response.created", "response.queued", "response.in_progress"}
# Found in a body that reports an error. Inside JSON strings quotes are escaped, so text never matches.
FAILED = re.compile(rb'"error"\s*:\s*\{|"status"\s*:\s*"failed"')
# Stands for a response that failed without saying why.
UNKNOWN = ErrorDetail("server_error", "The response failed.", type="server_error")

type Reader = Callable[[], Awaitable[bytes]]


def error_in_body(body: bytes) -> ErrorDetail | None:
    """Return the error that a whole response reports in its body, JSON."""
    error = metadata_of(body).reported_error if FAILED.search(body) else None
    return UNKNOWN if error == ErrorDetail() else error


async def read_preamble(read: Reader) -> tuple[bytes, ErrorDetail | None]:
    """Read a stream until it has output, an error or an end, or has been held back for long enough.

    Return all bytes that were read, and the error if it came first. Raise what `read` raises.
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
                    event = metadata_of(data)
                    reported = event.reported_error
                    if reported == ErrorDetail():
                        # The event after it may say why.
                        error = UNKNOWN
                    elif reported or not (event.type in WITHOUT_OUTPUT or event.choices == []):
                        return bytes(held), reported or error
                if not chunk:
                    break
    return bytes(held), error
