"""Send a response that is not a stream, in time even if the client reads slowly."""

import asyncio
from collections.abc import Callable

from azurefunctions.extensions.http.fastapi import Response
from starlette.types import Receive, Scope, Send

from shared.errors import StreamTooLong
from shared.streaming.connections import limit_send_buffer, reset
from shared.streaming.disconnects import wait_for_disconnect
from shared.streaming.event_stream import body_message
from shared.telemetry.call_record import DISCONNECTED, SUCCEEDED, Outcome, failed
from shared.upstream.response import UpstreamResponse

# Bytes. The server takes this much at once, so a body of this size never waits for the client.
CHUNK_SIZE = 64 * 1024


async def whole_response(
    upstream: UpstreamResponse, ends: float, content_type: str, translate: Callable[[bytes], bytes] = lambda body: body
) -> Response:
    """Return the response whose body is Azure's, translated. Close `upstream` when nothing is left to wait for.

    `ends`, a time of the loop's clock, is when a large body is cut off. Raise what reading and `translate` raise.
    """
    try:
        body = translate(await upstream.read())
    except BaseException as exc:
        await upstream.aclose(failed(exc))
        raise
    headers = {**upstream.headers, "content-type": content_type}
    if len(body) > CHUNK_SIZE:
        return LargeResponse(upstream, body, ends, headers)
    await upstream.aclose(SUCCEEDED)
    return Response(body, upstream.response.status_code, headers)


class LargeResponse(Response):
    """Send a body in chunks until the time `ends`, then cut it off. Close `upstream` afterwards."""

    def __init__(self, upstream: UpstreamResponse, body: bytes, ends: float, headers: dict[str, str]) -> None:
        super().__init__(body, upstream.response.status_code, headers)
        self.upstream = upstream
        self.ends = ends
        upstream.record.ends_after_invocation = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        limit_send_buffer(receive)
        disconnected = asyncio.create_task(wait_for_disconnect(receive))
        outcome = DISCONNECTED
        try:
            async with asyncio.timeout_at(self.ends):
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                for start in range(0, len(self.body), CHUNK_SIZE):
                    await send(body_message(self.body[start : start + CHUNK_SIZE]))
                outcome = DISCONNECTED if disconnected.done() else SUCCEEDED
                await send(body_message(b"", more=False))
        except TimeoutError:
            outcome = Outcome(StreamTooLong.code)
            reset(receive)
        finally:
            disconnected.cancel()
            await self.upstream.aclose(outcome)
