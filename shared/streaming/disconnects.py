"""Notice when a client disconnects, and stop working for it."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from azurefunctions.extensions.http.fastapi import Request
from starlette.types import Receive

from shared.errors import ClientDisconnected


async def cancel_on_disconnect[T](request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`; cancel it and raise `ClientDisconnected` if the client disconnects first.

    The request's body must have been read. The Functions worker by itself lets a function run on after a disconnect.
    """
    working = asyncio.current_task()
    assert working
    watching = asyncio.create_task(cancel_at_disconnect(request.receive, working))
    try:
        return await work
    except asyncio.CancelledError:
        if watching.done() and not working.uncancel():
            raise ClientDisconnected from None
        raise
    finally:
        watching.cancel()


async def cancel_at_disconnect(receive: Receive, working: asyncio.Task[Any]) -> None:
    await wait_for_disconnect(receive)
    working.cancel()


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the client disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass
