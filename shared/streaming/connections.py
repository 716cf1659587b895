"""Control the connection to the client, which ASGI does not offer."""

import asyncio
import inspect
import socket
import struct
from contextlib import suppress

from starlette.types import Receive

# Bytes that the system buffers for a client that reads slowly. The system's own choice grows to several megabytes, which
# a client may go on reading long after the app has finished.
SEND_BUFFER_SIZE = 64 * 1024


def limit_send_buffer(receive: Receive) -> None:
    """Keep the system from buffering much of the response, so that the app notices a client that reads slowly."""
    if transport := transport_of(receive):
        set_option(transport, socket.SO_SNDBUF, SEND_BUFFER_SIZE)


def reset(receive: Receive) -> None:
    """Reset the connection, and drop what the client has not read yet.

    Otherwise the server waits until the client has read everything, and so does the invocation. It could last until
    functionTimeout, and then the host would restart the worker, for everybody.
    """
    if transport := transport_of(receive):
        # With a linger time of zero, closing the socket sends RST instead of FIN.
        set_option(transport, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


def set_option(transport: asyncio.Transport, option: int, value: int | bytes) -> None:
    """Set an option of the socket, unless the socket is closed already."""
    with suppress(OSError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, option, value)


def transport_of(receive: Receive) -> asyncio.Transport | None:
    """Return the connection's transport, None if the server is not uvicorn.

    `receive` is a method of uvicorn's `RequestResponseCycle`. Instrumentations wrap it, and say so in `__wrapped__`.
    """
    cycle = getattr(inspect.unwrap(receive), "__self__", None)
    transport: asyncio.Transport | None = getattr(cycle, "transport", None)
    return None if transport is None or transport.is_closing() else transport
