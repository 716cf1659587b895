"""The floor: functions on the same runtime that answer with constants, without any upstream."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator

import azure.functions as func
from azurefunctions.extensions.http.fastapi import Request, Response, StreamingResponse

from bench.upstream import ANSWER

# As the app does, so that the floor is as low as it can be.
logging.getLogger("uvicorn.access").addFilter(lambda _: False)

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
EVENT = b'data: {"delta":" piece"}\n\n'


@app.route(route="chat", methods=["POST"])
async def chat(req: Request) -> Response:
    """Reads the request and does what its `user` field asks for, as the upstream would."""
    asked = dict(re.findall(rb"(latency|chunks|pace)=([0-9.]+)", (await req.body())[:200]))
    await asyncio.sleep(float(asked.get(b"latency", 0)))
    if b"chunks" in asked:
        return StreamingResponse(pieces(int(asked[b"chunks"]), float(asked.get(b"pace", 0))), media_type="text/event-stream")
    return Response(ANSWER, media_type="application/json")


async def pieces(count: int, pace: float) -> AsyncIterator[bytes]:
    for _ in range(count):
        if pace:
            await asyncio.sleep(pace)
        yield EVENT
    yield b"data: [DONE]\n\n"
