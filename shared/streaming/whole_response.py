"""Send a response that is not a stream, in time even if the client reads slowly."""

import asyncio
from collections.abc import Callable

from azurefunctions.extensions.http.fastapi import Response
from starlette.types import Receive, Scope, Send

from shared.error_responses import response_for
from shared.errors import ClientDisconnected, StreamTooLong, UpstreamErrorResponse
from shared.streaming.connections import limit_send_buffer, reset
from shared.streaming.disconnects import wait_for_disconnect
from shared.streaming.event_stream import ClientStalled, body_message
from shared.telemetry.call_record import DISCONNECTED, SUCCEEDED, Outcome, failed, interrupted
from shared.upstream.response import UpstreamResponse

# Bytes. The server takes this much at once, so a body of this size never waits for the client.
CHUNK_SIZE = 64 * 1024


async def whole_response(
    upstream: UpstreamResponse,
    content_type: str,
    translate: Callable[[bytes], bytes] = lambda body: body,
    *,
    idle: float,
    ends: float,
) -> Response:
    """Return the response whose body is Azure's, translated. Close `upstream` when nothing is left to wait for.

    A large body is cut off at `ends`, a time of the loop's clock, and if the client reads nothing for `idle` seconds. Raise
    what reading and `translate` raise.
    """
    try:
        body = translate(await upstream.read())
    except BaseException as exc:
        await upstream.aclose(failed(exc))
        raise
    status, headers = upstream.response.status_code, {**upstream.headers, "content-type": content_type}
    if len(body) > CHUNK_SIZE:
        return LargeResponse(body, status, headers, upstream=upstream, idle=idle, ends=ends)
    await upstream.aclose(SUCCEEDED)
    return Response(body, status, headers)


def error_response(error: UpstreamErrorResponse, *, idle: float, ends: float) -> Response:
    """Return Azure's own error response. Cut off a large body like that of `whole_response`."""
    if len(error.content) > CHUNK_SIZE:
        return LargeResponse(error.content, error.status, error.headers, idle=idle, ends=ends)
    return response_for(error)


class LargeResponse(Response):
    """Send a body in chunks until the time `ends`, then cut it off. Close `upstream`, if given, afterwards.

    Also cut it off if the client takes no chunk for `idle` seconds.
    """

    def __init__(
        self,
        body: bytes,
        status: int,
        headers: dict[str, str],
        *,
        upstream: UpstreamResponse | None = None,
        idle: float,
        ends: float,
    ) -> None:
        super().__init__(body, status, headers)
        self.upstream = upstream
        self.idle = idle
        self.ends = ends
        if upstream:
            upstream.record.ends_after_invocation = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        limit_send_buffer(receive)
        disconnected = asyncio.create_task(wait_for_disconnect(receive))
        clock = asyncio.get_running_loop().time
        outcome = DISCONNECTED
        try:
            async with asyncio.timeout_at(self.ends) as timeout:
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                for start in range(0, len(self.body), CHUNK_SIZE):
                    timeout.reschedule(min(clock() + self.idle, self.ends))
                    await send(body_message(self.body[start : start + CHUNK_SIZE]))
                outcome = DISCONNECTED if disconnected.done() else SUCCEEDED
                await send(body_message(b"", more=False))
        except TimeoutError:
            is_late = clock() >= self.ends
            outcome = Outcome(StreamTooLong.code) if is_late else interrupted(ClientDisconnected.code, ClientStalled())
            reset(receive)
        finally:
            disconnected.cancel()
            if self.upstream:
                await self.upstream.aclose(outcome)
