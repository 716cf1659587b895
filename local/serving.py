"""Runs web applications on loopback ports, and ends them together."""

import socket
from contextlib import AsyncExitStack

from aiohttp import web

LOOPBACK = "127.0.0.1"
# Seconds for what is in flight when all ends.
PATIENCE = 0.5


class Servers(AsyncExitStack):
    """An async context: what was started in it is stopped, last first, when it ends."""

    async def start(self, application: web.Application, port: int = 0) -> str:
        """Serves `application` and returns its address. Raises OSError when `port` is taken; 0 takes any that is free."""
        # Handlers are cancelled when their caller hangs up, and see bodies as they came.
        runner = web.AppRunner(
            application, handler_cancellation=True, access_log=None, shutdown_timeout=PATIENCE, auto_decompress=False
        )
        await runner.setup()
        self.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, LOOPBACK, port, backlog=1024)
        await site.start()
        return f"http://{LOOPBACK}:{runner.addresses[0][1]}"


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
