"""Simulate chat completions.

Source: createChatCompletionResponse and createChatCompletionStreamResponse in
https://github.com/Azure/azure-rest-api-specs
(cognitiveservices/data-plane/AzureOpenAI/inference/stable/2024-10-21/inference.yaml).
"""

import json
import secrets
import time
from dataclasses import dataclass
from typing import Any

from local.simulator import model, payloads
from local.simulator.payloads import FINGERPRINT, PROMPT_FILTER_RESULTS, SAFE, ErrorResponse, Event, Json, Payload

MAX_CHOICES = 128
MAX_TOP_LOGPROBS = 20
# The logarithm of the probability of each token.
LOGPROB = -0.1


@dataclass(frozen=True)
class Reply:
    """Hold the chunks of a reply, or of the arguments for `function`."""

    chunks: list[str]
    function: Json | None
    alternatives: int | None
    """How many alternatives to each chunk the choices have, or None if they have no probabilities."""


def chat(body: Json, script: Json) -> Payload:
    """Return the completion that `body` requests. All of its `n` choices have the same reply."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ErrorResponse(400, payloads.EMPTY_MESSAGES)
    number = payloads.bounded(body, "n", 1, 1, MAX_CHOICES)
    reply = reply_to(body, messages, script)
    usage = payloads.scripted_usage(payloads.token_usage(json.dumps(messages), reply.chunks * number), script)
    common = {
        "created": int(time.time()),
        "id": f"chatcmpl-{secrets.token_hex(14)}",
        "model": payloads.model_name(body.get("model")),
        "object": "chat.completion",
        "system_fingerprint": FINGERPRINT,
    }
    if not body.get("stream"):
        if error := script.get("error"):
            return payloads.stream_error(error)
        choices = [choice(index, reply) for index in range(number)]
        return {**common, "choices": choices, "prompt_filter_results": PROMPT_FILTER_RESULTS, "usage": usage}
    common["object"] = "chat.completion.chunk"
    reported = payloads.usage_of_stream(body, usage)
    chunks = payloads.completion_chunks(common, PROMPT_FILTER_RESULTS, choice_chunks(number, reply), reported)
    return payloads.end_completion(map(chunk_event, chunks), script)


def reply_to(body: Json, messages: list[Any], script: Json) -> Reply:
    alternatives = payloads.bounded(body, "top_logprobs", 0, 0, MAX_TOP_LOGPROBS) if body.get("logprobs") else None
    function = model.choose_tool(body, messages)
    if function:
        return Reply(model.split(model.arguments_for(function)), function, None)
    default = model.reply_to(model.last_text(messages), len(messages))
    text = script.get("reply") or model.structured_reply(body.get("response_format")) or default
    return Reply(model.split(text), None, alternatives)


def choice(index: int, reply: Reply) -> Json:
    text = "".join(reply.chunks)
    message: Json = {"content": None if reply.function else text, "refusal": None, "role": "assistant"}
    if reply.function:
        message["tool_calls"] = [tool_call(reply.function, text)]
    return {
        "content_filter_results": {} if reply.function else SAFE,
        "finish_reason": "tool_calls" if reply.function else "stop",
        "index": index,
        "logprobs": logprobs(reply, reply.chunks),
        "message": message,
    }


def tool_call(function: Json, arguments: str) -> Json:
    call = {"arguments": arguments, "name": function["name"]}
    return {"function": call, "id": f"call_{secrets.token_hex(12)}", "type": "function"}


def logprobs(reply: Reply, chunks: list[str]) -> Json | None:
    """Return the probabilities of some chunks of `reply`, if it has any."""
    if reply.alternatives is None:
        return None
    tokens: list[Json] = [{"bytes": [*chunk.encode()], "logprob": LOGPROB, "token": chunk} for chunk in chunks]
    return {"content": [{**token, "top_logprobs": [token] * reply.alternatives} for token in tokens], "refusal": None}


def choice_chunks(number: int, reply: Reply) -> list[Json]:
    """Return the parts of a stream's choices: their role, each chunk of `reply`, and the finish reason."""
    indexes = range(number)
    parts = [choice_chunk(index, first_delta(reply), {}) for index in indexes]
    for chunk in reply.chunks:
        part = {"tool_calls": [{"function": {"arguments": chunk}, "index": 0}]} if reply.function else {"content": chunk}
        parts += [choice_chunk(index, part, SAFE, logprobs=logprobs(reply, [chunk])) for index in indexes]
    reason = "tool_calls" if reply.function else "stop"
    return parts + [choice_chunk(index, {}, {}, finish_reason=reason) for index in indexes]


def first_delta(reply: Reply) -> Json:
    role = {"refusal": None, "role": "assistant"}
    if reply.function:
        return {**role, "content": None, "tool_calls": [{**tool_call(reply.function, ""), "index": 0}]}
    return {**role, "content": ""}


def choice_chunk(index: int, delta: Json, filtered: Json, **more: Any) -> Json:
    ends = {"finish_reason": None, "logprobs": None, **more}
    return {"content_filter_results": filtered, "delta": delta, "index": index, **ends}


def chunk_event(chunk: Json) -> Event:
    """Return the event of `chunk`. It has output if it carries a part of the reply or of a tool's arguments."""
    deltas = [choice["delta"] for choice in chunk["choices"]]
    arguments = [call["function"]["arguments"] for delta in deltas for call in delta.get("tool_calls", [])]
    has_output = any([*arguments, *(delta.get("content") for delta in deltas)])
    return Event(json.dumps(chunk, ensure_ascii=False), has_output=has_output, usage=chunk.get("usage"))
