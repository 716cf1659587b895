"""The stand-in's chat completions and embeddings."""

import array
import base64
import json
import secrets
from typing import Any

from local.simulator import model, shapes
from local.simulator.shapes import Event, Json, Refusal

MOST_DIMENSIONS = 3072


def chat(body: Json, script: Json) -> Json | list[Event]:
    """The completion that `body` asks for, or the events of its stream."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal(400, shapes.EMPTY_MESSAGES)
    function = None
    if isinstance(messages[-1], dict) and messages[-1].get("role") == "user":
        function = model.called_tool(body.get("tools"), body.get("tool_choice"))
    if function:
        schema = function.get("parameters") or {"type": "object"}
        text = json.dumps(model.value_for(schema, schema))
        call = {"id": f"call_{secrets.token_hex(12)}", "name": function["name"]}
    else:
        said = model.reply_to(model.last_text(messages), len(messages))
        text = script.get("reply") or model.structured(body.get("response_format")) or said
        call = None
    pieces = model.pieces(text)
    used = shapes.usage(json.dumps(messages), pieces)
    name = f"{body.get('model') or 'stand-in'}-2026-11-01"
    if not body.get("stream"):
        return shapes.completion(name, "".join(pieces), used, call)
    asked = (body.get("stream_options") or {}).get("include_usage")
    chunks = shapes.chunks(name, pieces, used if asked else None, call)
    events = [
        Event(json.dumps(chunk, ensure_ascii=False), piece=is_piece(chunk), usage=chunk.get("usage")) for chunk in chunks
    ]
    return [*events, Event("[DONE]")]


def is_piece(chunk: Json) -> bool:
    """Whether `chunk` brings a part of the reply, or of a tool's arguments."""
    for choice in chunk["choices"]:
        tools = choice["delta"].get("tool_calls", [])
        if choice["delta"].get("content") or any(tool["function"]["arguments"] for tool in tools):
            return True
    return False


def embeddings(body: Json) -> Json:
    """A vector for each of the inputs, as a list of numbers or as base64 of 32-bit floats."""
    inputs = embedding_inputs(body.get("input"))
    encoding = body.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise Refusal(400, shapes.error(None, f"'{encoding}' is not one of ['float', 'base64'] - 'encoding_format'"))
    dimensions = body.get("dimensions") or model.DIMENSIONS
    if not 0 < dimensions <= MOST_DIMENSIONS:
        raise Refusal(400, shapes.error(None, f"'dimensions' must be from 1 to {MOST_DIMENSIONS}."))
    data = []
    for index, text in enumerate(inputs):
        numbers: Any = model.vector(text, dimensions)
        if encoding == "base64":
            numbers = base64.b64encode(array.array("f", numbers).tobytes()).decode()
        data.append({"object": "embedding", "index": index, "embedding": numbers})
    tokens = sum(len(text) // 4 + 1 for text in inputs)
    return {
        "object": "list",
        "data": data,
        "model": body.get("model") or "stand-in",
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def embedding_inputs(given: Any) -> list[str]:
    """The texts to embed: one, several, or the same as lists of token numbers."""
    if isinstance(given, str) and given:
        return [given]
    if isinstance(given, list) and given:
        if all(isinstance(item, int) for item in given):
            return [json.dumps(given)]
        if all(isinstance(item, str | list) and item for item in given):
            return [item if isinstance(item, str) else json.dumps(item) for item in given]
    raise Refusal(400, shapes.error(None, "'$.input' is invalid. Please check the API reference.", param=None))
