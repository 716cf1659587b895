"""List calls of all operations, for a comparison of the simulator's responses with a description of Azure's API."""

from dataclasses import dataclass, field
from typing import Any

from tests.support.processes import Json

MESSAGES = [{"role": "user", "content": "Hello"}]
FUNCTION: Json = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
CHAT_TOOLS = [{"type": "function", "function": FUNCTION}]
TOOLS = [{"type": "function", **FUNCTION}]
ITEMS: list[Json] = [
    *MESSAGES,
    {"role": "developer", "content": "Be brief."},
    {"role": "assistant", "content": "Yes."},
    {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
]
AUDIO = ("speech.mp3", bytes(100_000))


@dataclass(frozen=True)
class Call:
    """Describe a call. In `path`, {id} is a stored response of the calls before it, and {model} the only model."""

    path: str
    body: Json | None = None
    method: str = "POST"
    files: dict[str, Any] = field(default_factory=dict)
    """The files of a form, whose other fields are in `body`."""
    query: dict[str, str] = field(default_factory=dict)
    script: Json | None = None
    """A script for the simulator."""

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.query or ''}{self.body or ''}"[:120]


def chat(**fields: Any) -> Call:
    return Call("chat/completions", {"messages": MESSAGES, **fields})


def response(script: Json | None = None, **fields: Any) -> Call:
    return Call("responses", {"input": MESSAGES, **fields}, script=script)


def audio(operation: str, **fields: Any) -> Call:
    return Call(f"audio/{operation}", fields, files={"file": AUDIO})


CALLS = [
    chat(),
    chat(n=2, logprobs=True, top_logprobs=2),
    chat(tools=CHAT_TOOLS),
    chat(stream=True, logprobs=True, stream_options={"include_usage": True}),
    chat(stream=True, tools=CHAT_TOOLS),
    chat(messages=[]),
    *(Call("chat/completions", {"messages": MESSAGES}, script={"status": status}) for status in (400, 401, 403, 404, 429)),
    Call("completions", {"prompt": ["Hello", "And?"], "n": 2, "logprobs": 1}),
    Call("completions", {"prompt": "Hello", "stream": True}),
    Call("embeddings", {"input": "Hello", "dimensions": 4}),
    Call("embeddings", {"input": ""}),
    Call("images/generations", {"prompt": "A cat", "n": 2}),
    Call("images/generations", {"prompt": "A cat", "stream": True, "partial_images": 1}),
    Call("images/edits", {"prompt": "A cat"}, files={"image": ("cat.png", b"png")}),
    Call("audio/speech", {"input": "Hello there", "voice": "alloy"}),
    *(audio("transcriptions", response_format=name) for name in ("json", "verbose_json", "text", "srt", "vtt")),
    audio("transcriptions", stream="true"),
    *(audio("translations", response_format=name) for name in ("json", "verbose_json", "text")),
    response(stream=True, reasoning={"effort": "low"}, include=["reasoning.encrypted_content"]),
    response(stream=True, tools=TOOLS),
    response(stream=True, script={"error": {"code": "rate_limit_exceeded", "message": "Too many."}}),
    response(script={"error": {"code": "rate_limit_exceeded", "message": "Too many."}}),
    response(background=True),
    response(background=True, stream=True),
    response(tools=TOOLS),
    response(input=[]),
    response(input=ITEMS, tools=TOOLS, text={"format": {"type": "json_schema", "name": "city", "schema": {}}}),
    Call("responses/{id}", method="GET"),
    Call("responses/{id}/input_items", method="GET"),
    Call("responses/{id}/input_items", method="GET", query={"limit": "1", "order": "asc"}),
    Call("responses/{id}/input_items", method="GET", query={"limit": "0"}),
    Call("responses/{id}", method="DELETE"),
    Call("responses/{id}", method="GET"),
    Call("responses/compact", {"input": MESSAGES}),
    Call("responses/input_tokens", {"input": MESSAGES}),
    Call("models", method="GET"),
    Call("models/{model}", method="GET"),
]
