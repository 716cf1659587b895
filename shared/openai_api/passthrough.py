"""Serve operations of the OpenAI API: send the caller's request to Azure, and pass its response back."""

from azurefunctions.extensions.http.fastapi import Request, Response

from shared.openai_api.request_body import read_body
from shared.openai_api.translate import create_call, stored_response_call
from shared.streaming.disconnects import cancel_on_disconnect
from shared.streaming.event_stream import EventStreamResponse
from shared.streaming.filters import WholeEvents, WithoutUsage
from shared.upstream.failover import Failover
from shared.upstream.request import InferenceCall


async def create(
    request: Request, failover: Failover, caller: str, operation: str, deployment: str | None = None
) -> Response:
    """Create a completion, embeddings or a response. Take the deployment from the path if given, else from the body."""
    settings = failover.settings
    body = await read_body(request, settings)
    call = create_call(request, body, settings, operation=operation, caller=caller, deployment=deployment)
    return await cancel_on_disconnect(request, respond(failover, call))


async def stored_response(request: Request, failover: Failover, caller: str, part: str = "") -> Response:
    """Serve an operation on a response that Azure has stored, or on its `part`. Ignore the request's body."""
    call = stored_response_call(request, caller=caller, part=part)
    await read_body(request, failover.settings)
    return await cancel_on_disconnect(request, respond(failover, call))


async def respond(failover: Failover, call: InferenceCall) -> Response:
    """Send `call`, and return Azure's response: its status, its body and the headers that clients may see."""
    upstream = await failover.send(call)
    if not upstream.is_event_stream:
        async with upstream:
            body = await upstream.read()
        return Response(body, upstream.response.status_code, {**upstream.headers, "content-type": upstream.content_type})
    events = WithoutUsage(upstream.record) if call.hides_usage else WholeEvents(upstream.record)
    return EventStreamResponse(upstream, events, failover.settings.stream_idle, upstream.content_type)
