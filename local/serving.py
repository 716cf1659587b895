"""Serve web applications on loopback ports, and stop them together. Reset connections to their clients."""

import asyncio
import socket
import struct
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from aiohttp import web

LOOPBACK = "127.0.0.1"
# Seconds that requests in flight get to finish at the end.
GRACE_PERIOD = 0.5
# Leave compressed bodies as they are.
OPTIONS: dict[str, Any] = {"access_log": None, "auto_decompress": False}


class Servers(AsyncExitStack):
    """Start servers in an async context. At its end, stop them in reverse order."""

    async def start(
        self,
        application: web.Application,
        reserved: socket.socket | None = None,
        protocol: type[web.RequestHandler] = web.RequestHandler,
    ) -> str:
        """Serve `application` on a socket from `reserve`, by default on any free port. Return the base URL."""
        # Cancel a handler when its client disconnects.
        runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=GRACE_PERIOD)
        await runner.setup()
        self.push_async_callback(runner.cleanup)
        server, loop = runner.server, asyncio.get_running_loop()
        assert server

        accept = partial(protocol, server, loop=loop, **OPTIONS)
        listener = await loop.create_server(accept, sock=reserved or reserve(0), backlog=1024)
        self.callback(listener.close)
        return f"http://{LOOPBACK}:{listener.sockets[0].getsockname()[1]}"


def reserve(port: int) -> socket.socket:
    """Return a socket that is bound to `port`, or to any free port if it is 0. Raise OSError if the port is in use."""
    reserved = socket.socket()
    if port:
        # Bind even if connections of the last process on this port are still in TIME_WAIT.
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        reserved.bind((LOOPBACK, port))
    except OSError:
        reserved.close()
        raise
    return reserved


def free_port() -> int:
    with reserve(0) as probe:
        port: int = probe.getsockname()[1]
        return port


def reset_connection(request: web.BaseRequest) -> None:
    """Reset the connection of a request, if it is still there."""
    if request.transport:
        # With a linger time of zero, closing the socket sends RST instead of FIN.
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
