"""Serve the simple chat endpoint, /api/chat: a prompt in, a reply out, whole or as a stream."""

import asyncio
import json
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec
from azurefunctions.extensions.http.fastapi import Request, Response

from shared.errors import (
    INVALID_JSON,
    BadRequest,
    ErrorDetail,
    ReportedError,
    StreamInterrupted,
    UpstreamFailure,
)
from shared.openai_api.passthrough import respond
from shared.openai_api.request_body import NULL, Fields, parse_field, parse_fields, read_body
from shared.openai_api.translate import (
    accept_of,
    ask_for_usage,
    deployment_of,
    headers_to_send,
    is_repeatable,
    is_streamed,
    names_own_resources,
)
from shared.operations import CHAT_COMPLETIONS
from shared.settings import Settings
from shared.streaming import sse
from shared.streaming.disconnects import cancel_on_disconnect
from shared.streaming.event_stream import EventStreamResponse
from shared.streaming.filters import MAX_EVENT_SIZE, Progress, StreamFilter
from shared.streaming.whole_response import whole_response
from shared.surrogates import whole_characters
from shared.telemetry import access_log
from shared.telemetry.call_record import CallRecord
from shared.telemetry.response_metadata import decode_json, metadata_of
from shared.upstream.failover import Failover
from shared.upstream.request import InferenceCall
from shared.upstream.response import UpstreamResponse
from shared.upstream.retry_policy import status_of

MESSAGES = re.compile(rb"\s*\[\s*([{\]])")
ONE_CHOICE = "1 at this endpoint; for more choices use /api/v1/chat/completions"


class Message(msgspec.Struct, frozen=True):
    """A message, or the delta of one. The content is a text or a list of parts."""

    content: Any = None
    refusal: Any = None

    def text(self) -> str:
        return text_of(self.content) or text_of(self.refusal)


class Choice(msgspec.Struct, frozen=True):
    message: Message
    finish_reason: str | None = None


class Completion(msgspec.Struct, frozen=True):
    """The fields of a completion that the endpoint uses."""

    choices: list[Choice]
    id: str | None = None
    model: str | None = None
    usage: msgspec.Raw = NULL


class ChunkChoice(msgspec.Struct, frozen=True):
    delta: Message | None = None
    finish_reason: str | None = None


class Chunk(msgspec.Struct, frozen=True):
    """The fields of a chunk of a streamed completion that the endpoint uses."""

    choices: list[ChunkChoice] | None = None
    usage: Any = None
    error: Any = None


# Created once for all chunks of all streams.
DECODER = msgspec.json.Decoder(Chunk)
ENCODER = msgspec.json.Encoder()
# Characters outside the Basic Multilingual Plane are a surrogate pair in JSON, and Azure may send the halves in two chunks.
FIRST_HALF_AT_END = re.compile("[\ud800-\udbff]?\\Z")


async def create_chat(request: Request, failover: Failover, caller: str) -> Response:
    """Serve a chat."""
    ends = asyncio.get_running_loop().time() + failover.settings.stream_seconds
    try:
        body = await read_body(request, failover.settings)
        call = chat_call(request, body, failover.settings, caller)
    except Exception as exc:
        raise access_log.rejected(exc, request.scope, caller=caller, operation=CHAT_COMPLETIONS) from None
    return await cancel_on_disconnect(request, respond(failover, call, ends, reply))


def chat_call(request: Request, body: bytes, settings: Settings, caller: str) -> InferenceCall:
    """Return the call for a chat. Raise `BadRequest` and `ModelNotFound`."""
    fields = parse_fields(body)
    for name in ("tools", "functions"):
        if fields.get(name, NULL) != NULL:
            raise BadRequest(f"'{name}' is not supported at this endpoint; use /api/v1/chat/completions.", param=name)
    if parse_field(fields, "n", int, ONE_CHOICE) not in (None, 1):
        raise BadRequest(f"'n' must be {ONE_CHOICE}.", param="n")
    stream = is_streamed(fields)
    deployment = deployment_of(fields, settings)
    fields["messages"] = messages_in(fields)
    fields["model"] = msgspec.Raw(msgspec.json.encode(deployment))
    fields.pop("prompt", None)
    if stream:
        ask_for_usage(fields, settings)
    return InferenceCall(
        operation=CHAT_COMPLETIONS,
        path=CHAT_COMPLETIONS.path_in(settings.api_version, deployment),
        deployment=deployment,
        body=msgspec.json.encode(fields),
        headers=headers_to_send(request, accept_of(CHAT_COMPLETIONS, stream=stream)),
        caller=caller,
        stream=stream,
        names_own_resources=names_own_resources(fields),
        is_repeatable=is_repeatable(fields),
    )


def messages_in(fields: Fields) -> msgspec.Raw:
    """Return the field `messages`, or one message with the `prompt`. Raise `BadRequest`."""
    if "prompt" in fields and "messages" in fields:
        raise BadRequest("Give 'prompt' or 'messages', not both.")
    if "messages" in fields:
        # Not decoded, because millions of messages would become as many objects. Azure checks the rest.
        found = MESSAGES.match(fields["messages"])
        if not found:
            raise BadRequest("'messages' must be a list of messages, each a JSON object.", param="messages")
        if found[1] == b"]":
            raise BadRequest("'messages' must contain at least one message.", param="messages")
        return fields["messages"]
    if "prompt" not in fields:
        raise BadRequest("Give 'prompt', a string, or 'messages', a list of messages.")
    prompt = parse_field(fields, "prompt", str, "a string")
    if not prompt:
        raise BadRequest("'prompt' must be a non-empty string.", param="prompt")
    return msgspec.Raw(msgspec.json.encode([{"role": "user", "content": prompt}]))


async def reply(call: InferenceCall, upstream: UpstreamResponse, *, idle: float, ends: float) -> Response:
    """Return the chat endpoint's response: a reply, or a stream of its chunks."""
    if not call.stream:
        translate = partial(reply_to, headers=upstream.headers)
        return await whole_response(upstream, "application/json", translate, idle=idle, ends=ends)
    return EventStreamResponse(upstream, ChatDeltas(upstream.record), sse.CONTENT_TYPE, idle=idle, ends=ends)


def reply_to(body: bytes, headers: Mapping[str, str]) -> bytes:
    """Return the endpoint's JSON for a completion: `{"id", "model", "reply", "finish_reason", "usage"}`.

    Raise `UpstreamFailure` if `body` is something else.
    """
    try:
        completion = decode_json(body, Completion)
        choice = completion.choices[0]
    except (*INVALID_JSON, IndexError):
        raise UpstreamFailure(502, headers) from None
    return msgspec.json.encode(
        {
            "id": completion.id or "",
            "model": completion.model or "",
            "reply": choice.message.text(),
            "finish_reason": choice.finish_reason,
            "usage": completion.usage,
        }
    )


class ChatDeltas(StreamFilter):
    """Turn a streamed completion into the endpoint's events.

    They are `{"delta": TEXT}` for each chunk with text, then `{"finish_reason": ..., "usage": ...}`, then `[DONE]`.
    """

    def __init__(self, record: CallRecord) -> None:
        super().__init__(record)
        self.parser = sse.EventParser()
        self.finish_reason: str | None = None
        self.usage: Any = None
        self.half = ""
        """The first half of a character whose second half has not arrived yet."""

    def feed(self, chunk: bytes) -> bytes:
        output: list[bytes] = []
        if self.progress is not Progress.OPEN:
            return b""
        for data in self.parser.feed(chunk):
            if data == sse.DONE:
                if self.half:
                    output.append(delta(whole_characters(self.half)))
                last = ENCODER.encode({"finish_reason": self.finish_reason, "usage": self.usage})
                output += [sse.event(last), sse.event(sse.DONE)]
                self.progress = Progress.FINISHED
                break
            self.record.read_event(data)
            parsed = parse_chunk(data)
            if parsed is None:
                self.progress = Progress.INVALID
                break
            error = metadata_of(data).reported_error if parsed.error or parsed.choices is None else None
            if error is not None:
                output.append(self.error_event(reported_error(error)))
                self.progress = Progress.FAILED
                break
            self.usage = parsed.usage or self.usage
            for choice in parsed.choices or ():
                self.finish_reason = choice.finish_reason or self.finish_reason
                if choice.delta and (text := self.without_half(choice.delta.text())):
                    output.append(delta(text))
        if self.parser.buffered > MAX_EVENT_SIZE and self.progress is Progress.OPEN:
            self.progress = Progress.INVALID
        return b"".join(output)

    def without_half(self, text: str) -> str:
        """Return the text that a chunk adds, and keep half a character at its end for the next chunk."""
        if not text:
            return ""
        found = FIRST_HALF_AT_END.search(text)
        assert found
        text, self.half = self.half + text[: found.start()], found[0]
        return whole_characters(text)

    def end(self) -> bytes:
        # Complete a last event that lacks its blank line, or whose final \r still waits for a \n.
        output = self.feed(b"\n\n")
        if self.progress not in (Progress.FINISHED, Progress.FAILED):
            raise StreamInterrupted
        return output


def reported_error(error: ErrorDetail) -> ReportedError:
    """Return the error for the client, with Azure's message if the client can act on it."""
    is_for_caller = error.code and error.message and status_of(error) in (400, 409, 413, 422, 429)
    return ReportedError(error.code, error.message) if is_for_caller else ReportedError(error.code)


def parse_chunk(data: bytes) -> Chunk | None:
    """Return the chunk in an event's data, None if it is unreadable."""
    try:
        return DECODER.decode(data)
    except INVALID_JSON:
        # msgspec rejects half a character, which json keeps.
        try:
            return msgspec.convert(json.loads(data), Chunk)
        except (*INVALID_JSON, ValueError):
            return None


def text_of(content: Any) -> str:
    """Return the text of a content or a refusal, which may be a text, a list of parts, or null."""
    if isinstance(content, list):
        return "".join(text_of(part.get("text") or part.get("refusal")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def delta(text: str) -> bytes:
    return sse.event(ENCODER.encode({"delta": text}))
