"""The simple chat endpoint: a prompt in, a reply out, at once or piece by piece."""

import functools
from collections.abc import Mapping

import msgspec
from azurefunctions.extensions.http.fastapi import Request, Response

from shared import caller_keys, sse
from shared.body import NULL, Fields, parse_field, parse_fields
from shared.call import CHAT_COMPLETIONS, InferenceCall
from shared.errors import BadRequest, StreamBroken, UpstreamFailure
from shared.events import Events
from shared.failover import Failover
from shared.inference import ask_for_usage, deployment_of, headers_to_send, is_streamed
from shared.settings import Settings
from shared.streams import EventStreamResponse
from shared.telemetry import CallRecord

ONE_CHOICE = "1 at this endpoint; for more choices use /api/v1/chat/completions"


class Message(msgspec.Struct, frozen=True):
    content: str | None = None
    refusal: str | None = None

    def text(self) -> str:
        return self.content or self.refusal or ""


class Choice(msgspec.Struct, frozen=True):
    """Of a completion (`message`) or of a chunk of a stream (`delta`)."""

    message: Message = Message()
    delta: Message = Message()
    finish_reason: str | None = None


class Completion(msgspec.Struct, frozen=True):
    """What the endpoint reads of a completion, or of a chunk of one."""

    id: str = ""
    model: str = ""
    choices: list[Choice] = []
    usage: msgspec.Raw = NULL
    error: msgspec.Raw = NULL


# Made once: they serve every piece of every stream.
DECODER = msgspec.json.Decoder(Completion)
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
    return InferenceCall(CHAT_COMPLETIONS, deployment, msgspec.json.encode(fields), stream, headers, caller_keys.OF_CHAT)


def messages(fields: Fields) -> msgspec.Raw:
    """The messages as given, or the one that stands for the prompt."""
    if "prompt" in fields and "messages" in fields:
        raise BadRequest("Give 'prompt' or 'messages', not both.")
    if "messages" in fields:
        if not parse_field(fields, "messages", list[Fields], "a list of messages, each a JSON object"):
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
        edit = functools.partial(reply, headers=answer.headers)
        return Response(await answer.read(edit), headers=answer.headers, media_type="application/json")
    return EventStreamResponse(answer, Deltas(answer.record), failover.settings.stream_idle, sse.CONTENT_TYPE)


def reply(body: bytes, headers: Mapping[str, str]) -> bytes:
    """The chat endpoint's JSON for a completion. Raises `UpstreamFailure` when it is none."""
    try:
        completion = DECODER.decode(body)
        choice = completion.choices[0]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, IndexError):
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
                last = msgspec.json.encode({"finish_reason": self.finish_reason, "usage": self.usage})
                output += [sse.event(last), sse.event(sse.DONE)]
                self.is_done = self.is_over = True
                self.record.completed()
                break
            self.record.read_event(data)
            completion = chunk_of_completion(data)
            if completion is None:
                self.is_broken = True
                break
            self.usage = completion.usage if completion.usage != NULL else self.usage
            for choice in completion.choices:
                self.finish_reason = choice.finish_reason or self.finish_reason
                if text := choice.delta.text():
                    output.append(sse.event(ENCODER.encode({"delta": text})))
        return b"".join(output)

    def end(self) -> bytes:
        # A carriage return may be waiting for its other half.
        output = self.feed(b"\n")
        if not self.is_done:
            raise StreamBroken
        return output


def chunk_of_completion(data: bytes) -> Completion | None:
    """None for what is no chunk, but an error or nonsense."""
    try:
        completion = DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return completion if completion.error == NULL else None
