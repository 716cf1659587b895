"""Forward chats with nothing but Starlette and aiohttp: `python -m bench.targets.passthrough PORT UPSTREAM`."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

sessions: list[aiohttp.ClientSession] = []


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        sessions.append(session)
        yield


async def chat(request: Request) -> Response:
    response = await sessions[0].post(f"{sys.argv[2]}/chat", data=await request.body())
    if response.content_type != "text/event-stream":
        async with response:
            return Response(await response.read(), response.status, media_type=response.content_type)
    return StreamingResponse(chunks(response), response.status, media_type=response.content_type)


async def chunks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async with response:
        async for chunk in response.content.iter_any():
            yield chunk


app = Starlette(routes=[Route("/api/chat", chat, methods=["POST"])], lifespan=lifespan)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
