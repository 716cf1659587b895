"""The simple chat endpoint: a prompt in, a reply out, at once or piece by piece."""

import functools
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import msgspec
from azurefunctions.extensions.http.fastapi import Request, Response

from shared import caller_keys, relay, sse
from shared.clients import CHAT_COMPLETIONS, InferenceCall
from shared.errors import BadRequest, StreamBroken, UpstreamFailure
from shared.failover import Failover
from shared.inference import NULL, STREAM_OPTIONS_SINCE, Fields, deployment_of, headers_to_send, parse_field, parse_fields
from shared.settings import Settings
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


def parse(body: bytes, request: Request, settings: Settings) -> InferenceCall:
    """The call that a request to the chat endpoint asks for. Raises `BadRequest` and `ModelNotFound`."""
    fields = parse_fields(body)
    for name in ("tools", "functions"):
        if fields.get(name, NULL) != NULL:
            raise BadRequest(f"'{name}' is not for this endpoint; use /api/v1/chat/completions.", param=name)
    if parse_field(fields, "n", int, ONE_CHOICE) not in (None, 1):
        raise BadRequest(f"'n' must be {ONE_CHOICE}.", param="n")
    stream = parse_field(fields, "stream", bool, "true or false") or False
    deployment = deployment_of(fields, settings)
    fields["messages"] = messages(fields)
    fields["model"] = msgspec.Raw(msgspec.json.encode(deployment))
    fields.pop("prompt", None)
    if stream and settings.api_version >= STREAM_OPTIONS_SINCE:
        fields.setdefault("stream_options", msgspec.Raw(b'{"include_usage":true}'))
    headers = headers_to_send(request, stream=stream)
    return InferenceCall(
        CHAT_COMPLETIONS, deployment, msgspec.json.encode(fields), stream, headers, caller=caller_keys.OF_CHAT
    )


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
    return relay.EventStreamResponse(answer, events, failover.settings.stream_idle, sse.CONTENT_TYPE)


def reply(body: bytes, headers: Mapping[str, str]) -> bytes:
    """The chat endpoint's JSON for a completion. Raises `UpstreamFailure` when it is none."""
    try:
        completion = msgspec.json.decode(body, type=Completion)
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


async def events(chunks: AsyncGenerator[bytes], record: CallRecord) -> AsyncGenerator[bytes]:
    """The chat endpoint's events for a streamed completion. Raises `StreamBroken` when it ends before its time."""
    parser = sse.EventParser()
    finish_reason: str | None = None
    usage = NULL
    async with aclosing(chunks):
        async for chunk in chunks:
            if chunk == relay.SILENCE:
                yield sse.COMMENT
            for data in parser.feed(chunk):
                if data == sse.DONE:
                    record.completed()
                    yield sse.event(msgspec.json.encode({"finish_reason": finish_reason, "usage": usage}))
                    yield sse.event(sse.DONE)
                    await relay.drain(chunks)
                    return
                record.read_event(data)
                completion = chunk_of_completion(data)
                usage = completion.usage if completion.usage != NULL else usage
                for choice in completion.choices:
                    finish_reason = choice.finish_reason or finish_reason
                    if text := choice.delta.text():
                        yield sse.event(msgspec.json.encode({"delta": text}))
    raise StreamBroken


def chunk_of_completion(data: bytes) -> Completion:
    try:
        completion = msgspec.json.decode(data, type=Completion)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise StreamBroken from None
    if completion.error != NULL:
        raise StreamBroken
    return completion
