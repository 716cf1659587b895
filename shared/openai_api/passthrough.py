"""Serve operations of the OpenAI API: send the caller's request to Azure, and pass its response back."""

import asyncio

from azurefunctions.extensions.http.fastapi import Request, Response

from shared.errors import UpstreamErrorResponse
from shared.openai_api.request_body import read_body
from shared.openai_api.translate import create_call, stored_response_call
from shared.streaming.disconnects import cancel_on_disconnect
from shared.streaming.event_stream import EventStreamResponse
from shared.streaming.filters import ResponseEvents, StreamFilter, WholeEvents, WithoutUsage
from shared.streaming.whole_response import error_response, whole_response
from shared.upstream.failover import Failover
from shared.upstream.request import RESPONSES, STORED_RESPONSE, InferenceCall
from shared.upstream.response import UpstreamResponse


async def create(
    request: Request, failover: Failover, caller: str, operation: str, deployment: str | None = None
) -> Response:
    """Create a completion, embeddings or a response. Take the deployment from the path if given, else from the body."""
    settings = failover.settings
    ends = asyncio.get_running_loop().time() + settings.stream_seconds
    body = await read_body(request, settings)
    call = create_call(request, body, settings, operation=operation, caller=caller, deployment=deployment)
    return await cancel_on_disconnect(request, respond(failover, call, ends))


async def stored_response(request: Request, failover: Failover, caller: str, part: str = "") -> Response:
    """Serve an operation on a response that Azure has stored, or on its `part`. Ignore the request's body."""
    ends = asyncio.get_running_loop().time() + failover.settings.stream_seconds
    call = stored_response_call(request, caller=caller, part=part)
    await read_body(request, failover.settings)
    return await cancel_on_disconnect(request, respond(failover, call, ends))


async def respond(failover: Failover, call: InferenceCall, ends: float) -> Response:
    """Send `call`, and return Azure's response: its status, its body and the headers that clients may see.

    It is cut off at the time `ends` of the loop's clock.
    """
    idle = failover.settings.stream_idle
    try:
        upstream = await failover.send(call)
    except UpstreamErrorResponse as exc:
        return error_response(exc, idle=idle, ends=ends)
    if not upstream.is_event_stream:
        return await whole_response(upstream, upstream.content_type, idle=idle, ends=ends)
    events = stream_filter(call, upstream)
    return EventStreamResponse(upstream, events, upstream.content_type, idle=idle, ends=ends)


def stream_filter(call: InferenceCall, upstream: UpstreamResponse) -> StreamFilter:
    if call.operation in (RESPONSES, STORED_RESPONSE):
        return ResponseEvents(upstream.record)
    return WithoutUsage(upstream.record) if call.hides_usage else WholeEvents(upstream.record)
