"""Simulate chat completions and embeddings."""

import array
import base64
import json
import secrets
from typing import Any

from local.simulator import model, payloads
from local.simulator.payloads import ErrorResponse, Event, Json, Payload

MAX_DIMENSIONS = 3072


def chat(body: Json, script: Json) -> Payload:
    """Return the completion that `body` requests."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ErrorResponse(400, payloads.EMPTY_MESSAGES)
    function = None
    if isinstance(messages[-1], dict) and messages[-1].get("role") == "user":
        function = model.choose_tool(body.get("tools"), body.get("tool_choice"))
    if function:
        schema = function.get("parameters") or {"type": "object"}
        text = json.dumps(model.value_for(schema, schema))
        tool_call = {"id": f"call_{secrets.token_hex(12)}", "name": function["name"]}
    else:
        default = model.reply_to(model.last_text(messages), len(messages))
        text = script.get("reply") or model.structured_reply(body.get("response_format")) or default
        tool_call = None
    chunks = model.split(text)
    usage = payloads.scripted_usage(payloads.token_usage(json.dumps(messages), chunks), script)
    name = f"{body.get('model') or 'simulator'}-2026-11-01"
    error = script.get("error")
    if not body.get("stream"):
        if error:
            return payloads.stream_error(error)
        return payloads.completion(name, "".join(chunks), usage, tool_call)
    include_usage = (body.get("stream_options") or {}).get("include_usage")
    stream = payloads.completion_chunks(name, chunks, usage if include_usage else None, tool_call)
    events = [*map(chunk_event, stream), Event("[DONE]")]
    if error:
        events = payloads.until_error(events, 1, script.get("after", 0))
        events.append(Event(json.dumps(payloads.stream_error(error)), has_error=True))
    return events


def chunk_event(chunk: Json) -> Event:
    """Return the event of `chunk`. It has output if it carries a part of the reply or of a tool's arguments."""
    deltas = [choice["delta"] for choice in chunk["choices"]]
    arguments = [call["function"]["arguments"] for delta in deltas for call in delta.get("tool_calls", [])]
    has_output = any([*arguments, *(delta.get("content") for delta in deltas)])
    return Event(json.dumps(chunk, ensure_ascii=False), has_output=has_output, usage=chunk.get("usage"))


def embeddings(body: Json, script: Json) -> Json:
    """Return an embedding for each input, as a list of numbers or as 32-bit floats in base64."""
    inputs = embedding_inputs(body.get("input"))
    encoding = body.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise ErrorResponse(400, payloads.error(None, f"'{encoding}' is not one of ['float', 'base64'] - 'encoding_format'"))
    dimensions = body.get("dimensions") or model.DIMENSIONS
    if not 0 < dimensions <= MAX_DIMENSIONS:
        raise ErrorResponse(400, payloads.error(None, f"'dimensions' must be from 1 to {MAX_DIMENSIONS}."))
    data = []
    for index, text in enumerate(inputs):
        numbers: Any = model.embedding(text, dimensions)
        if encoding == "base64":
            numbers = base64.b64encode(array.array("f", numbers).tobytes()).decode()
        data.append({"object": "embedding", "index": index, "embedding": numbers})
    tokens = sum(len(text) // 4 + 1 for text in inputs)
    return {
        "object": "list",
        "data": data,
        "model": body.get("model") or "simulator",
        "usage": payloads.scripted_usage({"prompt_tokens": tokens, "total_tokens": tokens}, script),
    }


def embedding_inputs(given: Any) -> list[str]:
    """Return the texts to embed. `given` is a text, a list of token numbers, or a list of these."""
    if isinstance(given, str) and given:
        return [given]
    if isinstance(given, list) and given:
        if all(isinstance(item, int) for item in given):
            return [json.dumps(given)]
        if all(isinstance(item, str | list) and item for item in given):
            return [item if isinstance(item, str) else json.dumps(item) for item in given]
    raise ErrorResponse(400, payloads.error(None, "'$.input' is invalid. Please check the API reference.", param=None))
