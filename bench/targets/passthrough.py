"""What a pass-through can cost at least in Python: Starlette and aiohttp, without Functions. `... PORT UPSTREAM`."""

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
    answer = await sessions[0].post(f"{sys.argv[2]}/chat", data=await request.body())
    if answer.content_type != "text/event-stream":
        async with answer:
            return Response(await answer.read(), answer.status, media_type=answer.content_type)
    return StreamingResponse(pieces(answer), answer.status, media_type=answer.content_type)


async def pieces(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async with answer:
        async for chunk in answer.content.iter_any():
            yield chunk


app = Starlette(routes=[Route("/api/chat", chat, methods=["POST"])], lifespan=lifespan)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
