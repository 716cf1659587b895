"""What the operations in the description of the API have in common: schemas, bodies, answers and failures."""

from collections.abc import Iterable
from typing import Any

from shared import errors
from shared.errors import GatewayError

type Json = dict[str, Any]

# What can go wrong with every call to a model, besides what Azure answers itself.
CALL_ERRORS: tuple[type[GatewayError], ...] = (
    errors.BadRequest,
    errors.BodyTooSlow,
    errors.BodyTooLarge,
    errors.EncodedBody,
    errors.UpstreamAuthError,
    errors.DeploymentNotFound,
    errors.UpstreamUnreachable,
    errors.SettingsError,
    errors.TooManyCalls,
    errors.DeadlineExceeded,
    errors.UnexpectedError,
)
# Azure's answers that are passed on, and its failures.
AZURES = {
    "409": "Azure's own refusal",
    "422": "Azure's own refusal",
    "429": "Throttled by Azure; `Retry-After` says for how long",
    "default": "Azure's own refusal, or its failure (upstream_error)",
}

# OpenAPI 3.1 has no words for the events of a stream.
EVENTS: Json = {}
ERROR: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": ["string", "null"]},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
MODEL: Json = {
    "type": "object",
    "required": ["id", "object", "created", "owned_by"],
    "properties": {
        "id": {"type": "string", "description": "A deployment or an alias"},
        "object": {"const": "model"},
        "created": {"type": "integer", "description": "Always 0: Azure does not tell"},
        "owned_by": {"type": "string"},
    },
}
CHAT_REQUEST: Json = {
    "type": "object",
    "description": "`prompt` or `messages`, and other parameters of Chat Completions but `tools`, `functions` and `n`.",
    "properties": {
        "prompt": {"type": "string", "minLength": 1},
        "messages": {"type": "array", "minItems": 1, "items": {"type": "object"}},
        "model": {"type": ["string", "null"], "description": "A deployment or an alias; by default the app's"},
        "stream": {"type": ["boolean", "null"]},
    },
    "oneOf": [{"required": ["prompt"]}, {"required": ["messages"]}],
}
CHAT_REPLY: Json = {
    "type": "object",
    "required": ["id", "model", "reply", "finish_reason", "usage"],
    "properties": {
        "id": {"type": "string"},
        "model": {"type": "string"},
        "reply": {"type": "string"},
        "finish_reason": {"type": ["string", "null"]},
        "usage": {"type": ["object", "null"]},
    },
}


def reference(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def body(schema: Json, **examples: Json) -> Json:
    named = {name: {"value": example} for name, example in examples.items()}
    return {"required": True, "content": {"application/json": {"schema": schema, "examples": named}}}


def success(schema: Json, *, streams: bool = False) -> Json:
    content: Json = {"application/json": {"schema": schema}}
    if streams:
        content["text/event-stream"] = EVENTS
    return {"description": "The answer", "content": content}


def failures(*more: type[GatewayError]) -> Json:
    """The answers of a call to a model that fails: this app's, and Azure's."""
    azures = {status: failure(text) for status, text in AZURES.items()}
    return azures | by_status((*CALL_ERRORS, *more))


def by_status(raised: Iterable[type[GatewayError]]) -> Json:
    codes: dict[str, list[str]] = {}
    for error in raised:
        codes.setdefault(str(error.status), []).append(str(error.code))
    return {status: failure(" or ".join(sorted(names))) for status, names in sorted(codes.items())}


def failure(text: str) -> Json:
    return {"description": text, "content": {"application/json": {"schema": reference("Error")}}}
