"""What the stand-in says in place of a model: replies, arguments for tools, values for schemas, vectors for texts."""

import hashlib
import json
import math
import re
from typing import Any

from local.simulator.shapes import Json

PIECE = re.compile(r"\s*\S+(?:\s+\S+)?")
DIMENSIONS = 1536
# What stands for a value of a type of JSON Schema.
EXAMPLES: Json = {"string": "text", "integer": 1, "number": 1.5, "boolean": True, "null": None}


def pieces(text: str) -> list[str]:
    """`text` in the pieces in which a stream brings it."""
    return PIECE.findall(text)


def text_of(content: Any) -> str:
    """What a message's content says: plain text, or a list of parts of which some are text."""
    if isinstance(content, list):
        return " ".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    return content if isinstance(content, str) else ""


def last_text(messages: list[Any]) -> str:
    return text_of(messages[-1].get("content")) if isinstance(messages[-1], dict) else ""


def reply_to(prompt: str, turns: int) -> str:
    heard = f"You said “{prompt[:200]}”." if prompt else "I have read your message."
    turn = " We have been talking for a while." if turns > 2 else ""
    return (
        f"{heard}{turn} A model would answer that; I am the stand-in that comes with this project, and I only know how "
        "your words got here: through the Functions runtime, the OpenAI SDK and a real socket. Set AZURE_OPENAI_ENDPOINT "
        "and its companions, and the same call reaches your own model."
    )


def structured(response_format: Any) -> str | None:
    """The reply that a `response_format` asks for, or a `text.format` of the Responses API; None for plain text."""
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    if kind == "json_object":
        return '{"reply": "text"}'
    if kind != "json_schema":
        return None
    schema = response_format.get("json_schema", response_format).get("schema", {})
    return json.dumps(value_for(schema, schema))


def value_for(schema: Json, root: Json) -> Any:
    """A value that `schema` allows, as far as the parts of JSON Schema go that structured output knows."""
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


def called_tool(tools: Any, choice: Any) -> Json | None:
    """The function of `tools` that is called when the user has spoken, None where none may be."""
    functions = [tool["function"] for tool in tools or () if tool.get("type") == "function"]
    if choice == "none" or not functions:
        return None
    wanted = choice["function"]["name"] if isinstance(choice, dict) else functions[0]["name"]
    return next((function for function in functions if function["name"] == wanted), None)


def vector(text: str, dimensions: int) -> list[float]:
    """A vector of length 1, always the same for the same text."""
    digest = hashlib.sha256(text.encode()).digest()
    numbers = [digest[i % len(digest)] - 127.5 + i % 7 for i in range(dimensions)]
    length = math.sqrt(sum(number * number for number in numbers))
    return [number / length for number in numbers]
