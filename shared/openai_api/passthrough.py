"""Send a call to Azure, and pass its response back."""

from typing import Protocol

from azurefunctions.extensions.http.fastapi import Response

from shared.errors import UpstreamErrorResponse
from shared.streaming.event_stream import EventStreamResponse
from shared.streaming.filters import BinaryBody, ResponseEvents, StreamFilter, WholeEvents, WithoutUsage
from shared.streaming.whole_response import error_response, whole_response
from shared.upstream.failover import Failover
from shared.upstream.request import InferenceCall
from shared.upstream.response import UpstreamResponse


class Translate(Protocol):
    """Return the response for the caller. Cut it off after `idle` seconds of silence, and at the time `ends`."""

    async def __call__(self, call: InferenceCall, upstream: UpstreamResponse, *, idle: float, ends: float) -> Response: ...


async def verbatim(call: InferenceCall, upstream: UpstreamResponse, *, idle: float, ends: float) -> Response:
    """Return Azure's status, its body and the headers that clients may see."""
    # An error is JSON, also in place of speech.
    if upstream.is_event_stream or (call.operation.is_binary and not upstream.content_type.startswith("application/json")):
        return EventStreamResponse(upstream, stream_filter(call, upstream), upstream.content_type, idle=idle, ends=ends)
    return await whole_response(upstream, upstream.content_type, idle=idle, ends=ends)


async def respond(failover: Failover, call: InferenceCall, ends: float, translate: Translate = verbatim) -> Response:
    """Send `call`, and return Azure's response, translated for the caller. Error responses of Azure's are not translated.

    It is cut off at the time `ends` of the loop's clock.
    """
    idle = failover.settings.stream_idle
    try:
        upstream = await failover.send(call)
    except UpstreamErrorResponse as exc:
        return error_response(exc, idle=idle, ends=ends)
    return await translate(call, upstream, idle=idle, ends=ends)


def stream_filter(call: InferenceCall, upstream: UpstreamResponse) -> StreamFilter:
    if not upstream.is_event_stream:
        return BinaryBody(upstream.record)
    if call.operation.uses_state:
        return ResponseEvents(upstream.record)
    return WithoutUsage(upstream.record) if call.hides_usage else WholeEvents(upstream.record)
