"""Runs web applications on loopback ports, and ends them together."""

import socket
from contextlib import AsyncExitStack

from aiohttp import web

LOOPBACK = "127.0.0.1"
# Seconds for what is in flight when all ends.
PATIENCE = 0.5


class Servers(AsyncExitStack):
    """An async context: what was started in it is stopped, last first, when it ends."""

    async def start(self, application: web.Application, reserved: socket.socket | None = None) -> str:
        """Serves `application` on a socket from `reserve`, without one on any free port; returns its address."""
        # Handlers are cancelled when their caller hangs up, and see bodies as they came.
        runner = web.AppRunner(
            application, handler_cancellation=True, access_log=None, shutdown_timeout=PATIENCE, auto_decompress=False
        )
        await runner.setup()
        self.push_async_callback(runner.cleanup)
        await web.SockSite(runner, reserved or reserve(0), backlog=1024).start()
        return f"http://{LOOPBACK}:{runner.addresses[0][1]}"


def reserve(port: int) -> socket.socket:
    """A socket at `port`, 0 being any that is free, which nobody else gets meanwhile. Raises OSError when it is taken."""
    reserved = socket.socket()
    if port:
        # A port of one's choice, although connections of the last process to have it may linger.
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
