"""Respond with constants on the same runtime, without an upstream: no function app can cost less."""

import asyncio
import logging
from collections.abc import AsyncIterator

import azure.functions as func
from azurefunctions.extensions.http.fastapi import Request, Response, StreamingResponse

from bench.upstream import OPTIONS, RESPONSE

# Log no requests, as the app does.
logging.getLogger("uvicorn.access").addFilter(lambda _: False)

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
EVENT = b'data: {"delta":" chunk"}\n\n'


@app.route(route="chat", methods=["POST"])
async def chat(req: Request) -> Response:
    """Respond as the options in the request's `user` field say; see bench/upstream.py."""
    options = {name: float(value) for name, value in OPTIONS.findall((await req.body())[:200])}
    await asyncio.sleep(options.get(b"latency", 0))
    if b"chunks" in options:
        return StreamingResponse(chunks(int(options[b"chunks"]), options.get(b"pace", 0)), media_type="text/event-stream")
    return Response(RESPONSE, media_type="application/json")


async def chunks(count: int, pace: float) -> AsyncIterator[bytes]:
    for _ in range(count):
        if pace:
            await asyncio.sleep(pace)
        yield EVENT
    yield b"data: [DONE]\n\n"
