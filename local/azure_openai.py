"""Stand-in for an Azure OpenAI resource, strict where Azure is strict. No model is behind it."""

import asyncio
import json
import re
import secrets
import socket
import struct
import time
from collections.abc import Collection
from typing import Any, NoReturn

from aiohttp import web

from local import shapes
from local.journal import Entry, Journal
from local.tokens import TokenMint

PIECE = re.compile(r"\s*\S+(?:\s+\S+)?")


class AzureOpenAI:
    """Answers on the routes of the dated API versions and of v1, to `keys` or else to the tokens of `mint`.

    A script (see `Journal`) can hold:
    `status`, `headers`, `body`: an answer instead of the usual one (without a body, Azure's for that status);
    `reply`: the text of the completion;
    `delay`: seconds before the headers;
    `hang`: true, no headers before `/control/next`;
    `reset`: true, the connection breaks before the headers;
    `pace`: seconds before each piece of a stream;
    `step`: true, each piece waits for `/control/next`;
    `cut`: the number of pieces after which the connection breaks;
    `times`: how many requests the script is for.
    """

    def __init__(
        self, deployments: Collection[str], *, keys: Collection[str] = (), mint: TokenMint | None = None, pace: float = 0.0
    ) -> None:
        self.deployments = set(deployments)
        self.keys = set(keys)
        self.mint = mint
        self.pace = pace
        self.journal = Journal()

    def application(self) -> web.Application:
        application = web.Application(client_max_size=1 << 30)
        application.add_routes(self.journal.routes())
        application.router.add_route("*", "/{path:.*}", self.handle)
        return application

    async def handle(self, request: web.Request) -> web.StreamResponse:
        async with self.journal.recording(request) as entry:
            response = await self.answer(request, self.journal.next_script(), entry)
            entry.status = response.status
            return response

    async def answer(self, request: web.Request, script: dict[str, Any], entry: Entry) -> web.StreamResponse:
        await asyncio.sleep(script.get("delay", 0))
        if script.get("hang"):
            await self.journal.permits.acquire()
        if script.get("reset"):
            reset(request)
        if "status" in script:
            body = script.get("body", shapes.ERRORS.get(script["status"], shapes.error(str(script["status"]), "Scripted.")))
            return refusal(script["status"], body, script.get("headers", {}))
        return self.refused(request) or await self.chat(request, script, entry)

    def refused(self, request: web.Request) -> web.Response | None:
        """What Azure says before it looks at the body: about the address and the credentials."""
        dated = re.fullmatch(r"/openai/deployments/([^/]+)/chat/completions", request.path)
        api_version = request.query.get("api-version")
        if request.method != "POST" or not (dated or request.path == "/openai/v1/chat/completions"):
            return refusal(404, shapes.RESOURCE_NOT_FOUND)
        if dated and not re.fullmatch(r"\d{4}-\d{2}-\d{2}(-preview)?", api_version or ""):
            return refusal(404, shapes.RESOURCE_NOT_FOUND)
        if not dated and api_version not in (None, "preview"):
            return refusal(400, shapes.error("BadRequest", "api-version query parameter is not allowed when using /v1 path"))
        if wrong := self.wrong_credential(request, v1=not dated):
            return wrong
        if dated and dated[1] not in self.deployments:
            return refusal(404, shapes.DEPLOYMENT_NOT_FOUND)
        return None

    def wrong_credential(self, request: web.Request, *, v1: bool) -> web.Response | None:
        key = request.headers.get("api-key")
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if v1 and bearer in self.keys:
            return None
        if bearer:
            return None if self.mint and self.mint.is_valid(bearer) else refusal(401, shapes.WRONG_TOKEN)
        if key and not self.keys:
            return refusal(403, shapes.KEYS_DISABLED)
        return None if key in self.keys else refusal(401, shapes.WRONG_KEY)

    async def chat(self, request: web.Request, script: dict[str, Any], entry: Entry) -> web.StreamResponse:
        try:
            body = json.loads(await request.read())
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            return refusal(
                400, shapes.error(None, "We could not parse the JSON body of your request.", type="invalid_request_error")
            )
        if request.path.startswith("/openai/v1/") and body.get("model") not in self.deployments:
            return refusal(404, shapes.DEPLOYMENT_NOT_FOUND)
        if not isinstance(body.get("messages"), list) or not body["messages"]:
            return refusal(400, shapes.EMPTY_MESSAGES)
        prompt = last_text(body["messages"])
        pieces = PIECE.findall(script.get("reply") or reply_to(prompt, len(body["messages"])))
        used = shapes.usage(json.dumps(body["messages"]), pieces)
        model = f"{body.get('model') or 'stand-in'}-2026-11-01"
        if not body.get("stream"):
            return web.json_response(shapes.completion(model, "".join(pieces), used), headers=headers())
        asked = (body.get("stream_options") or {}).get("include_usage")
        return await self.stream(request, shapes.chunks(model, pieces, used if asked else None), script, entry)

    async def stream(
        self, request: web.Request, chunks: list[shapes.Json], script: dict[str, Any], entry: Entry
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={**headers(), "content-type": "text/event-stream"})
        await response.prepare(request)
        for chunk in chunks:
            if is_piece(chunk):
                if entry.pieces == script.get("cut"):
                    reset(request)
                if script.get("step"):
                    await self.journal.permits.acquire()
                await asyncio.sleep(script.get("pace", self.pace))
            await response.write(f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode())
            entry.pieces += is_piece(chunk)
        await response.write(b"data: [DONE]\n\n")
        return response


def reset(request: web.Request) -> NoReturn:
    """Breaks the connection off."""
    assert request.transport is not None
    # Without lingering, closing sends a reset and not an orderly end.
    request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
    raise ConnectionResetError


def is_piece(chunk: shapes.Json) -> bool:
    return any(choice["delta"].get("content") for choice in chunk["choices"])


def refusal(status: int, body: Any, more: dict[str, str] | None = None) -> web.Response:
    return web.json_response(body, status=status, headers={**headers(), **(more or {})})


def headers() -> dict[str, str]:
    """What Azure adds to every answer."""
    return {
        "apim-request-id": secrets.token_hex(16),
        "x-request-id": secrets.token_hex(16),
        "x-ms-region": "Local",
        "x-ratelimit-remaining-requests": "999",
        "x-ratelimit-remaining-tokens": "99999",
        "date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()),
    }


def last_text(messages: list[Any]) -> str:
    """What the last message says, when it says it in plain text."""
    content = messages[-1].get("content") if isinstance(messages[-1], dict) else None
    return content if isinstance(content, str) else ""


def reply_to(prompt: str, messages: int) -> str:
    heard = f"You said “{prompt[:200]}”." if prompt else "I have read your message."
    turn = " We have been talking for a while." if messages > 2 else ""
    return (
        f"{heard}{turn} A model would answer that; I am the stand-in that comes with this project, and I only know how "
        "your words got here: through the Functions runtime, the OpenAI SDK and a real socket. Set AZURE_OPENAI_ENDPOINT "
        "and its companions, and the same call reaches your own model."
    )
