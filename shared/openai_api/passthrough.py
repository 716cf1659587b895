"""From Azure's answer to the caller's response, unless the caller hangs up before."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from azurefunctions.extensions.http.fastapi import Request, Response
from starlette.types import Receive

from shared.errors import CallerGone
from shared.streaming.filters import WholeEvents, WithoutUsage
from shared.streaming.response import EventStreamResponse, disconnect
from shared.upstream.failover import Failover
from shared.upstream.request import InferenceCall


async def respond(failover: Failover, call: InferenceCall) -> Response:
    """Sends the call, and passes Azure's answer on: its status, its bytes, and the headers that callers may see."""
    answer = await failover.send(call)
    if not answer.is_event_stream:
        async with answer:
            body = await answer.read()
        return Response(body, answer.response.status_code, {**answer.headers, "content-type": answer.content_type})
    events = WithoutUsage(answer.record) if call.adds_usage else WholeEvents(answer.record)
    return EventStreamResponse(answer, events, failover.settings.stream_idle, answer.content_type)


async def unless_hung_up[T](request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the caller hangs up first; then raises `CallerGone`.

    The request's body must have been read. The Functions worker by itself lets a function run on for nobody.
    """
    working = asyncio.current_task()
    assert working
    watching = asyncio.create_task(cancel_at_disconnect(request.receive, working))
    try:
        return await work
    except asyncio.CancelledError:
        if watching.done() and not working.uncancel():
            raise CallerGone from None
        raise
    finally:
        watching.cancel()


async def cancel_at_disconnect(receive: Receive, working: asyncio.Task[Any]) -> None:
    await disconnect(receive)
    working.cancel()
