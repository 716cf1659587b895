"""Stand-in for an Azure OpenAI resource, strict where Azure is strict. No model is behind it."""

import asyncio
import json
import re
import secrets
import socket
import struct
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import NoReturn

from aiohttp import web

from local.simulator import shapes
from local.simulator.chat_completions import chat, embeddings
from local.simulator.journal import Cut, Entry, Journal
from local.simulator.responses import SINCE, Responses
from local.simulator.shapes import Event, Json, Refusal
from local.simulator.tokens import TokenMint

ADDRESS = re.compile(
    r"/openai/(?P<v1>v1/)?(?:deployments/(?P<deployment>[^/]+)/)?"
    r"(?:(?P<operation>chat/completions|embeddings|responses)|responses/(?P<id>[^/]+)(?:/(?P<part>cancel|input_items))?)"
)
# What reading a field raises that is of another type, or out of its bounds.
UNREADABLE = (AttributeError, IndexError, KeyError, OverflowError, RecursionError, TypeError, ValueError)
# Seconds between the last piece and the end of the connection.
CUT_PAUSE = 0.1
API_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")


@dataclass(frozen=True)
class Address:
    """What a request is for."""

    v1: bool
    deployment: str | None
    operation: str | None
    response_id: str
    part: str


class AzureOpenAI:
    """Answers on the routes of the dated API versions and of v1, to `keys` or else to the tokens of `mint`.

    A script (see `Journal`) can hold:
    `status`, `headers`, `body`: an answer instead of the usual one (without a body, Azure's for that status);
    `raw`: the text of an answer, sent as it is, in writes of `split` bytes where that is given;
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
        self.responses = Responses()

    def application(self) -> web.Application:
        application = web.Application(client_max_size=1 << 30)
        application.add_routes(self.journal.routes())
        application.router.add_route("*", r"/{path:[\s\S]*}", self.handle)
        return application

    async def handle(self, request: web.Request) -> web.StreamResponse:
        async with self.journal.recording(request) as entry:
            script = self.journal.next_script()
            try:
                await self.interfere(request, script)
                answer = self.answer(request, await request.read(), script)
            except Refusal as exc:
                more = headers() | exc.headers
                response: web.StreamResponse = web.json_response(exc.body, status=exc.status, headers=more)
            else:
                response = await self.send(request, answer, script, entry)
            entry.status = response.status
            return response
        # Goes nowhere: the connection is gone.
        return web.Response()

    async def interfere(self, request: web.Request, script: Json) -> None:
        """What a script does before there is an answer, or instead of one."""
        await asyncio.sleep(script.get("delay", 0))
        if script.get("hang"):
            await self.journal.permits.acquire()
        if script.get("reset"):
            reset(request)
        if "status" in script and "raw" not in script:
            status = script["status"]
            body = script.get("body", shapes.ERRORS.get(status, shapes.error(str(status), "Scripted.")))
            raise Refusal(status, body, script.get("headers"))

    def answer(self, request: web.Request, body: bytes, script: Json) -> Json | list[Event]:
        """What the resource answers; raises `Refusal`, also for fields that are not what they should be."""
        try:
            return self.checked_answer(request, body, script)
        except UNREADABLE:
            raise Refusal(400, shapes.UNREADABLE) from None

    def checked_answer(self, request: web.Request, body: bytes, script: Json) -> Json | list[Event]:
        address = self.address(request)
        self.check_credential(request, v1=address.v1)
        if address.deployment and address.deployment not in self.deployments:
            raise Refusal(404, shapes.DEPLOYMENT_NOT_FOUND)
        if address.response_id:
            return self.responses.about(request.method, address.response_id, address.part, dict(request.query))
        fields = json_object(body)
        if address.deployment:
            # The body's does not count.
            fields["model"] = address.deployment
        elif fields.get("model") not in self.deployments:
            raise Refusal(404, shapes.DEPLOYMENT_NOT_FOUND)
        match address.operation:
            case "chat/completions":
                return chat(fields, script)
            case "embeddings":
                return embeddings(fields)
            case _:
                return self.responses.create(fields, script)

    def address(self, request: web.Request) -> Address:
        """What Azure says before it looks at anything but the address."""
        found = ADDRESS.fullmatch(request.path)
        api_version = request.query.get("api-version")
        if not found:
            raise Refusal(404, shapes.RESOURCE_NOT_FOUND)
        by_deployment = found["operation"] in ("chat/completions", "embeddings")
        if found["v1"]:
            if api_version not in (None, "preview"):
                raise Refusal(400, shapes.VERSION_ON_V1)
            known = not found["deployment"]
        else:
            known = bool(API_VERSION.fullmatch(api_version or ""))
            known = known and by_deployment == bool(found["deployment"])
            known = known and (by_deployment or (api_version or "") >= SINCE)
        if not known or (found["operation"] and request.method != "POST"):
            raise Refusal(404, shapes.RESOURCE_NOT_FOUND)
        return Address(bool(found["v1"]), found["deployment"], found["operation"], found["id"] or "", found["part"] or "")

    def check_credential(self, request: web.Request, *, v1: bool) -> None:
        key = request.headers.get("api-key")
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if v1 and bearer in self.keys:
            return
        if bearer:
            if not (self.mint and self.mint.is_valid(bearer)):
                raise Refusal(401, shapes.WRONG_TOKEN)
        elif key and not self.keys:
            raise Refusal(403, shapes.KEYS_DISABLED)
        elif key not in self.keys:
            raise Refusal(401, shapes.WRONG_KEY)

    async def send(self, request: web.Request, answer: Json | list[Event], script: Json, entry: Entry) -> web.StreamResponse:
        if "raw" in script:
            return await send_raw(request, script)
        if isinstance(answer, dict):
            entry.usage = answer.get("usage")
            return web.json_response(answer, headers=headers())
        response = web.StreamResponse(headers={**headers(), "content-type": "text/event-stream"})
        await response.prepare(request)
        for event in answer:
            if event.piece:
                if entry.pieces == script.get("cut"):
                    # Clients like aiohttp drop what they have received and not read yet when a connection breaks.
                    await asyncio.sleep(CUT_PAUSE)
                    reset(request)
                if script.get("step"):
                    await self.journal.permits.acquire()
                await asyncio.sleep(script.get("pace", self.pace))
            await response.write(event.encode())
            entry.usage = event.usage or entry.usage
            entry.pieces += event.piece
        return response


async def send_raw(request: web.Request, script: Json) -> web.StreamResponse:
    body = script["raw"].encode()
    step = script.get("split") or len(body) or 1
    response = web.StreamResponse(status=script.get("status", 200), headers={**headers(), **script.get("headers", {})})
    await response.prepare(request)
    for start in range(0, len(body), step):
        await response.write(body[start : start + step])
        # Without a pace, lets the bytes go before the next ones come.
        await asyncio.sleep(script.get("pace", 0))
    return response


def json_object(body: bytes) -> Json:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise Refusal(400, shapes.NOT_JSON)
    return fields


def reset(request: web.Request) -> NoReturn:
    """Breaks the connection off."""
    assert request.transport is not None
    # Without lingering, closing sends a reset and not an orderly end.
    request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
    raise Cut


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
