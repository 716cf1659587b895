"""The simple chat endpoint: a prompt in, a reply out, at once or piece by piece."""

import re
from collections.abc import Mapping

import msgspec
from azurefunctions.extensions.http.fastapi import Request, Response

from shared.callers import keys
from shared.errors import BadRequest, StreamBroken, UpstreamFailure
from shared.openai_api.request_body import NULL, Fields, parse_field, parse_fields
from shared.openai_api.translate import ask_for_usage, deployment_of, headers_to_send, is_streamed
from shared.settings import Settings
from shared.streaming import sse
from shared.streaming.filters import Events
from shared.streaming.response import EventStreamResponse
from shared.telemetry.call_record import CallRecord
from shared.upstream.failover import Failover
from shared.upstream.request import CHAT_COMPLETIONS, InferenceCall
from shared.wire import LARGEST, UNREADABLE

MESSAGES = re.compile(rb"\s*\[\s*([{\]])")
ONE_CHOICE = "1 at this endpoint; for more choices use /api/v1/chat/completions"


class Message(msgspec.Struct, frozen=True):
    """A message, or a piece of one."""

    content: str | None = None
    refusal: str | None = None

    def text(self) -> str:
        return self.content or self.refusal or ""


class Choice(msgspec.Struct, frozen=True):
    message: Message
    finish_reason: str | None = None


class Completion(msgspec.Struct, frozen=True):
    """What the endpoint reads of a completion."""

    choices: list[Choice]
    id: str = ""
    model: str = ""
    usage: msgspec.Raw = NULL


class ChunkChoice(msgspec.Struct, frozen=True):
    delta: Message | None = None
    finish_reason: str | None = None


class Chunk(msgspec.Struct, frozen=True):
    """What the endpoint reads of a chunk of a streamed completion."""

    choices: list[ChunkChoice] = []
    usage: msgspec.Raw = NULL
    error: msgspec.Raw = NULL


# Made once: they serve every piece of every stream.
DECODER = msgspec.json.Decoder(Chunk)
ENCODER = msgspec.json.Encoder()


def parse(body: bytes, request: Request, settings: Settings) -> InferenceCall:
    """The call that a request to the chat endpoint asks for. Raises `BadRequest` and `ModelNotFound`."""
    fields = parse_fields(body)
    for name in ("tools", "functions"):
        if fields.get(name, NULL) != NULL:
            raise BadRequest(f"'{name}' is not for this endpoint; use /api/v1/chat/completions.", param=name)
    if parse_field(fields, "n", int, ONE_CHOICE) not in (None, 1):
        raise BadRequest(f"'n' must be {ONE_CHOICE}.", param="n")
    stream = is_streamed(fields)
    deployment = deployment_of(fields, settings)
    fields["messages"] = messages(fields)
    fields["model"] = msgspec.Raw(msgspec.json.encode(deployment))
    fields.pop("prompt", None)
    if stream:
        ask_for_usage(fields, settings)
    headers = headers_to_send(request, stream=stream)
    return InferenceCall(CHAT_COMPLETIONS, deployment, msgspec.json.encode(fields), headers, keys.OF_CHAT, stream)


def messages(fields: Fields) -> msgspec.Raw:
    """The messages as given, or the one that stands for the prompt."""
    if "prompt" in fields and "messages" in fields:
        raise BadRequest("Give 'prompt' or 'messages', not both.")
    if "messages" in fields:
        # Not decoded: millions of messages would be as many objects. What is wrong further on, Azure refuses.
        found = MESSAGES.match(fields["messages"])
        if not found:
            raise BadRequest("'messages' must be a list of messages, each a JSON object.", param="messages")
        if found[1] == b"]":
            raise BadRequest("'messages' must hold at least one message.", param="messages")
        return fields["messages"]
    if "prompt" not in fields:
        raise BadRequest("Give 'prompt', a string, or 'messages', a list of messages.")
    prompt = parse_field(fields, "prompt", str, "a string")
    if not prompt:
        raise BadRequest("'prompt' must be a string that is not empty.", param="prompt")
    return msgspec.Raw(msgspec.json.encode([{"role": "user", "content": prompt}]))


async def respond(failover: Failover, call: InferenceCall) -> Response:
    """Sends the call and makes the chat endpoint's response of the answer."""
    answer = await failover.send(call)
    if not call.stream:
        async with answer:
            content = reply(await answer.read(), answer.headers)
        return Response(content, headers=answer.headers, media_type="application/json")
    return EventStreamResponse(answer, Deltas(answer.record), failover.settings.stream_idle, sse.CONTENT_TYPE)


def reply(body: bytes, headers: Mapping[str, str]) -> bytes:
    """The chat endpoint's JSON for a completion. Raises `UpstreamFailure` when it is none."""
    try:
        completion = msgspec.json.decode(body, type=Completion)
        choice = completion.choices[0]
    except (*UNREADABLE, IndexError):
        raise UpstreamFailure(502, headers) from None
    return msgspec.json.encode(
        {
            "id": completion.id,
            "model": completion.model,
            "reply": choice.message.text(),
            "finish_reason": choice.finish_reason,
            "usage": completion.usage,
        }
    )


class Deltas(Events):
    """The chat endpoint's events for a streamed completion."""

    def __init__(self, record: CallRecord) -> None:
        super().__init__(record)
        self.parser = sse.EventParser()
        self.finish_reason: str | None = None
        self.usage = NULL

    def feed(self, chunk: bytes) -> bytes:
        output = []
        for data in self.parser.feed(chunk):
            if data == sse.DONE:
                # Formatted anew, since an event of several lines leaves line breaks in it.
                usage = msgspec.json.format(self.usage, indent=-1)
                last = msgspec.json.encode({"finish_reason": self.finish_reason, "usage": msgspec.Raw(usage)})
                output += [sse.event(last), sse.event(sse.DONE)]
                self.is_done = self.is_over = True
                self.record.completed()
                break
            self.record.read_event(data)
            piece = chunk_in(data)
            if piece is None:
                self.is_broken = True
                break
            self.usage = piece.usage if piece.usage != NULL else self.usage
            for choice in piece.choices:
                self.finish_reason = choice.finish_reason or self.finish_reason
                if choice.delta and (text := choice.delta.text()):
                    output.append(sse.event(ENCODER.encode({"delta": text})))
        self.is_broken = self.is_broken or len(self.parser.rest) + self.parser.size > LARGEST
        return b"".join(output)

    def end(self) -> bytes:
        if self.is_done:
            return b""
        # The last event may lack its end, and a carriage return its other half.
        output = self.feed(b"\n\n")
        if not self.is_done:
            raise StreamBroken
        return output


def chunk_in(data: bytes) -> Chunk | None:
    """The chunk that an event brings; None for what is none, but an error or nonsense."""
    try:
        chunk = DECODER.decode(data)
    except UNREADABLE:
        return None
    return chunk if chunk.error == NULL else None
