"""Simulate an Azure OpenAI resource, with the strictness of Azure and without a model."""

import asyncio
import json
import re
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn

from aiohttp import web

from local.serving import reset_connection
from local.simulator import audio, forms, images, payloads
from local.simulator.chat_completions import chat
from local.simulator.completions import complete
from local.simulator.embeddings import embed
from local.simulator.forms import Part
from local.simulator.journal import Entry, Journal, ScriptedReset
from local.simulator.models import read_models
from local.simulator.payloads import Content, ErrorResponse, Event, Json, Payload
from local.simulator.responses import Responses
from local.simulator.routes import OPERATIONS, match_path
from local.simulator.state import ResourceState
from local.simulator.tokens import TokenIssuer

# What can be raised when a field of a request has the wrong type, or is out of bounds.
FIELD_ERRORS = (AttributeError, IndexError, KeyError, OverflowError, RecursionError, TypeError, ValueError)
# Seconds between the last chunk and the reset of the connection.
RESET_DELAY = 0.1


class AzureOpenAISimulator:
    """Serve the routes of dated API versions and of v1. Requests need one of `keys` or a token of `issuer`.

    `operations` has the paths, such as `responses`, that a deployment serves. Other deployments serve all operations.
    `PUT /control/deployments` takes a JSON object of deployments with these paths or null, and replaces both.
    `PUT /control/conversations` and `PUT /control/files` take JSON lists: the ids that requests may name, none by default.
    All of that lasts until the journal is deleted. Stored responses and encrypted content stay valid.

    A script (see `Journal`) can have these fields:
    `status`, `body`: respond with these (the default body is Azure's for the status);
    `headers`: add these headers to the response, whatever it is;
    `raw`: respond with this text as it is, in writes of `split` bytes if that is given;
    `reply`: use this text as the completion or the transcription;
    `usage`: report these numbers instead of the usual ones, also in the details, in the words of the operation;
    `error`: report an error with these fields (such as `code` and `message`) in a response of status 200. A stream of events
    sends it after `after` chunks of output (default: before the first one) and ends. In the Responses API, the stream sends
    `response.failed` without a reason and then `error`; with `failed` false only `error`, and with an object in `failed`
    only `response.failed` with that object as its error. With `nested` true, the `error` event has the fields in an object;
    `delay`: wait this many seconds before the headers;
    `silence`: wait this many seconds after the headers, and after the events before the first output of a stream;
    `hang`: if true, wait for `/control/next` before the headers;
    `reset`: if true, reset the connection before the headers;
    `pace`: wait this many seconds before each chunk of a stream (a part of the output, an image, or a part of the audio);
    `step`: if true, wait for `/control/next` before each chunk of a stream;
    `cut`: reset the connection after this many chunks of a stream;
    `times`: use the script for this many requests.
    """

    def __init__(
        self,
        deployments: Collection[str],
        *,
        operations: Mapping[str, Collection[str]] | None = None,
        keys: Collection[str] = (),
        issuer: TokenIssuer | None = None,
        pace: float = 0,
    ) -> None:
        self.deployments = set(deployments)
        self.operations = operations or {}
        self.keys = set(keys)
        self.issuer = issuer
        self.pace = pace
        self.journal = Journal("deployments", "conversations", "files")
        self.responses = Responses(ResourceState(self.journal.settings))
        self.json_operations: dict[str, Callable[[Json, Json], Payload]] = {
            "chat/completions": chat,
            "completions": complete,
            "embeddings": embed,
            "images/generations": images.generate,
            "audio/speech": audio.speech,
            "responses": self.responses.create,
            "responses/compact": self.responses.compact,
            "responses/input_tokens": self.responses.count_input_tokens,
        }
        self.form_operations: dict[str, Callable[[list[Part], Json], Payload]] = {
            "images/edits": images.edit,
            "audio/transcriptions": audio.transcribe,
            "audio/translations": audio.translate,
        }

    def application(self) -> web.Application:
        application = web.Application(client_max_size=1 << 30)
        application.add_routes(self.journal.routes())
        application.router.add_route("*", r"/{path:[\s\S]*}", self.handle)
        return application

    async def handle(self, request: web.Request) -> web.StreamResponse:
        async with self.journal.recording(request) as entry:
            script = await self.journal.next_script()
            try:
                inject_faults(request, script)
                payload = self.respond(request, await request.read(), entry.parts, script)
            except ErrorResponse as exc:
                response = await send_json(request, exc.status, exc.body, script)
            else:
                response = await self.send(request, payload, script, entry)
            entry.status = response.status
            return response
        # The connection is lost, so nobody receives this.
        return web.Response()

    def respond(self, request: web.Request, body: bytes, parts: list[Part] | None, script: Json) -> Payload:
        """Return the response of the resource. Raise `ErrorResponse`, also when a field is invalid.

        The fields are in `body`, or in the `parts` of a form.
        """
        path = match_path(request)
        self.check_credential(request, v1=bool(path["v1"]))
        try:
            if path["models"]:
                return read_models(self.known_deployments(), path["model"])
            if path["id"]:
                return self.responses.manage(request.method, path["id"], path["action"] or "", dict(request.query))
            deployment = path["deployment"]
            if deployment:
                self.check_deployment(path, deployment)
            form = form_parts(parts) if path["operation"] in self.form_operations else []
            fields = forms.fields(form) if form else json_object(body)
            if deployment:
                # Azure ignores the model in the body.
                fields["model"] = deployment
            else:
                self.check_deployment(path, fields.get("model"))
            if path["operation"] == "responses" and "background" in fields and not path["v1"]:
                raise ErrorResponse(400, payloads.unknown_parameter("background"))
            if form:
                return self.form_operations[path["operation"]](form, script)
            return self.json_operations[path["operation"]](fields, script)
        except FIELD_ERRORS:
            raise ErrorResponse(400, payloads.INVALID_FIELD) from None

    def known_deployments(self) -> Mapping[str, Collection[str] | None]:
        """Return the deployments with their operations, or with None if they serve all."""
        known = {name: self.operations.get(name) for name in sorted(self.deployments)}
        deployments: Mapping[str, Collection[str] | None] = self.journal.settings.get("deployments", known)
        return deployments

    def check_deployment(self, path: re.Match[str], deployment: Any) -> None:
        """Raise Azure's error if `deployment` is unknown, or has no such operation."""
        known = self.known_deployments()
        if deployment not in known:
            raise ErrorResponse(404, payloads.NO_DEPLOYMENT_FOR_MODEL if path["v1"] else payloads.DEPLOYMENT_NOT_FOUND)
        operations = known[deployment]
        if operations is not None and path["operation"] not in operations:
            raise ErrorResponse(400, payloads.operation_not_supported(OPERATIONS[path["operation"]].azure_name, deployment))

    def check_credential(self, request: web.Request, *, v1: bool) -> None:
        key = request.headers.get("api-key")
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if v1 and bearer in self.keys:
            return
        if bearer:
            if not (self.issuer and self.issuer.is_valid(bearer)):
                raise ErrorResponse(401, payloads.WRONG_TOKEN)
        elif key and not self.keys:
            raise ErrorResponse(403, payloads.KEYS_DISABLED)
        elif key not in self.keys:
            raise ErrorResponse(401, payloads.WRONG_KEY)

    async def send(self, request: web.Request, payload: Payload, script: Json, entry: Entry) -> web.StreamResponse:
        if "raw" in script:
            return await send_raw(request, script)
        if isinstance(payload, dict):
            entry.usage = payload.get("usage")
            return await send_json(request, 200, payload, script)
        content_type = "text/event-stream"
        if isinstance(payload, Content):
            content_type = payload.content_type
            payload = [Event(chunk, has_output=True) for chunk in payload.chunks]
        response = await send_headers(request, 200, content_type, script)
        silence = script.get("silence", 0)
        for event in payload:
            if event.has_output or event.has_error:
                await asyncio.sleep(silence)
                silence = 0
            if event.has_output:
                if entry.chunks == script.get("cut"):
                    # At a reset, clients such as aiohttp drop the bytes that the program has not read yet.
                    await asyncio.sleep(RESET_DELAY)
                    reset(request)
                if script.get("step"):
                    await self.journal.permits.acquire()
                await asyncio.sleep(script.get("pace", self.pace))
            await response.write(event.encode())
            entry.usage = event.usage or entry.usage
            entry.chunks += event.has_output
        return response


def inject_faults(request: web.Request, script: Json) -> None:
    """Inject the faults of `script` that replace the response. Raise its error response, if it has one."""
    if script.get("reset"):
        reset(request)
    if "status" in script and "raw" not in script:
        status = script["status"]
        body = script.get("body", payloads.ERRORS.get(status, payloads.error(str(status), "Scripted.")))
        raise ErrorResponse(status, body)


async def send_headers(
    request: web.Request, status: int, content_type: str, script: Json, length: int | None = None
) -> web.StreamResponse:
    """Send the status and the headers: Azure's, and those of `script`."""
    response = web.StreamResponse(status=status, headers=response_headers())
    response.headers["content-type"] = content_type
    response.headers.update(script.get("headers", {}))
    response.content_length = length
    await response.prepare(request)
    return response


async def send_json(request: web.Request, status: int, payload: Any, script: Json) -> web.StreamResponse:
    body = json.dumps(payload).encode()
    response = await send_headers(request, status, "application/json; charset=utf-8", script, len(body))
    await asyncio.sleep(script.get("silence", 0))
    await response.write(body)
    return response


async def send_raw(request: web.Request, script: Json) -> web.StreamResponse:
    body = script["raw"].encode()
    size = script.get("split") or len(body) or 1
    response = await send_headers(request, script.get("status", 200), "application/octet-stream", script)
    await asyncio.sleep(script.get("silence", 0))
    for start in range(0, len(body), size):
        await response.write(body[start : start + size])
        # Even without a pace, let the event loop send these bytes before the next ones.
        await asyncio.sleep(script.get("pace", 0))
    return response


def form_parts(parts: list[Part] | None) -> list[Part]:
    if not parts:
        raise ErrorResponse(400, payloads.MALFORMED_FORM)
    return parts


def json_object(body: bytes) -> Json:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise ErrorResponse(400, payloads.NOT_JSON)
    return fields


def reset(request: web.Request) -> NoReturn:
    """Reset the connection, and end the handler."""
    reset_connection(request)
    raise ScriptedReset


def response_headers() -> dict[str, str]:
    """Return the headers that Azure adds to every response."""
    return {
        "apim-request-id": secrets.token_hex(16),
        "x-request-id": secrets.token_hex(16),
        "x-ms-region": "Local",
        "x-ratelimit-remaining-requests": "999",
        "x-ratelimit-remaining-tokens": "99999",
        "date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()),
    }
