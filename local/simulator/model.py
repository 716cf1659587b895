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
    """Return the text of the last message, or of the last tool's output. It can be a string, or a list of parts."""
    last = messages[-1] if isinstance(messages[-1], dict) else {}
    content = last.get("content", last.get("output"))
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


def choose_tool(body: Json, conversation: list[Any]) -> Json | None:
    """Return the function of `tools` in `body` that a model would call next in `conversation`, or None.

    That is the one that `tool_choice` names, or the first one. When a result follows the last message of the user, only a
    `tool_choice` that demands a call leads to another one, so that the loops of agents end.
    """
    # Chats have the function in an object of its own.
    tools = [tool for tool in body.get("tools") or () if tool.get("type") == "function"]
    functions: list[Json] = [tool.get("function", tool) for tool in tools]
    choice = body.get("tool_choice")
    if choice == "none" or not functions:
        return None
    if isinstance(choice, dict) and choice.get("type") == "function":
        wanted = choice.get("function", choice)["name"]
        return next((function for function in functions if function["name"] == wanted), None)
    if choice != "required" and has_tool_result(conversation):
        return None
    return functions[0]


def has_tool_result(conversation: list[Any]) -> bool:
    """Return whether a result of a tool follows the last message of the user."""
    for item in reversed(conversation):
        if item.get("role") == "user":
            break
        if item.get("role") == "tool" or item.get("type") == "function_call_output":
            return True
    return False


def arguments_for(function: Json) -> str:
    """Return arguments that match the parameters of `function`, in JSON."""
    schema = function.get("parameters") or {"type": "object"}
    return json.dumps(value_for(schema, schema))


def embedding(text: str, dimensions: int) -> list[float]:
    """Return a vector of length 1 that depends only on `text` and `dimensions`."""
    digest = hashlib.sha256(text.encode()).digest()
    numbers = [digest[i % len(digest)] - 127.5 + i % 7 for i in range(dimensions)]
    length = math.sqrt(sum(number * number for number in numbers))
    return [number / length for number in numbers]
