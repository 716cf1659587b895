"""Generate what a model would generate: replies, tool arguments, values that match a schema, and embeddings."""

import hashlib
import json
import math
import re
from typing import Any

from local.simulator.payloads import Json

CHUNK = re.compile(r"\s*\S+(?:\s+\S+)?")
DIMENSIONS = 1536
# An example value for each type of JSON Schema.
EXAMPLES: Json = {"string": "text", "integer": 1, "number": 1.5, "boolean": True, "null": None}


def split(text: str) -> list[str]:
    """Return the chunks of `text` that a stream sends one by one: two words each."""
    return CHUNK.findall(text)


def last_text(messages: list[Any]) -> str:
    """Return the text of the last message. Its content can be a string, or a list of parts with or without text."""
    content = messages[-1].get("content") if isinstance(messages[-1], dict) else None
    if isinstance(content, list):
        return " ".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    return content if isinstance(content, str) else ""


def reply_to(prompt: str, turns: int) -> str:
    """Return a reply that quotes `prompt` and explains the simulator. `turns` counts the messages so far."""
    heard = f"You said “{prompt[:200]}”." if prompt else "I have read your message."
    turn = " We have been talking for a while." if turns > 2 else ""
    return (
        f"{heard}{turn} I am this project's simulator and have no model, so I cannot answer that. Your message came through "
        "the Functions runtime, the OpenAI SDK and a real socket. Set AZURE_OPENAI_ENDPOINT and the other required settings "
        "to call your own model."
    )


def structured_reply(response_format: Any) -> str | None:
    """Return the JSON that `response_format` (in the Responses API, `text.format`) requires, or None for plain text."""
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    if kind == "json_object":
        return '{"reply": "text"}'
    if kind != "json_schema":
        return None
    schema = response_format.get("json_schema", response_format).get("schema", {})
    return json.dumps(value_for(schema, schema))


def value_for(schema: Json, root: Json) -> Any:
    """Return a value that matches `schema`, a part of `root`, in the subset of JSON Schema for structured outputs."""
    if reference := schema.get("$ref"):
        schema = root
        for name in filter(None, reference.removeprefix("#").split("/")):
            schema = schema[name]
        return value_for(schema, root)
    for name in ("anyOf", "oneOf", "allOf"):
        if name in schema:
            return value_for(schema[name][0], root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: value_for(part, root) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [value_for(schema.get("items", {}), root)]
    return EXAMPLES[kind]


def choose_tool(tools: Any, choice: Any) -> Json | None:
    """Return the function of `tools` to call: the chosen one, else the first. Return None if there is none to call."""
    functions = [tool["function"] for tool in tools or () if tool.get("type") == "function"]
    if choice == "none" or not functions:
        return None
    wanted = choice["function"]["name"] if isinstance(choice, dict) else functions[0]["name"]
    return next((function for function in functions if function["name"] == wanted), None)


def embedding(text: str, dimensions: int) -> list[float]:
    """Return a vector of length 1 that depends only on `text` and `dimensions`."""
    digest = hashlib.sha256(text.encode()).digest()
    numbers = [digest[i % len(digest)] - 127.5 + i % 7 for i in range(dimensions)]
    length = math.sqrt(sum(number * number for number in numbers))
    return [number / length for number in numbers]
