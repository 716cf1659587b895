"""The shapes of Azure OpenAI's answers.

Sources: https://github.com/Azure/azure-rest-api-specs (cognitiveservices/data-plane/AzureOpenAI/inference) and
https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter (the filter's annotations).
"""

import secrets
import time
from dataclasses import dataclass
from typing import Any

SAFE = {category: {"filtered": False, "severity": "safe"} for category in ("hate", "self_harm", "sexual", "violence")}
PROMPT_FILTER_RESULTS = [
    {"prompt_index": 0, "content_filter_results": {**SAFE, "jailbreak": {"filtered": False, "detected": False}}}
]
FINGERPRINT = "fp_standin"

INVALID = "invalid_request_error"

type Json = dict[str, Any]


@dataclass(frozen=True)
class Event:
    """One event of a stream; `piece` says whether it brings a part of what the model says, `usage` the tokens it tells."""

    data: str
    name: str = ""
    piece: bool = False
    usage: Json | None = None

    def encode(self) -> bytes:
        name = f"event: {self.name}\n" if self.name else ""
        return f"{name}data: {self.data}\n\n".encode()


class Refusal(Exception):
    """What the resource answers instead of what was asked for: a status and a body."""

    def __init__(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.headers = headers or {}


def usage(prompt: str, pieces: list[str]) -> Json:
    """Counts four characters of the prompt, and every piece of the reply, as a token."""
    prompt_tokens = len(prompt) // 4 + 1
    return {
        "completion_tokens": len(pieces),
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + len(pieces),
        "completion_tokens_details": {"reasoning_tokens": 0},
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def completion(model: str, reply: str, used: Json, call: Json | None = None) -> Json:
    """A completion that says `reply`, or calls a tool with it: `call` is the tool's name and the call's id."""
    message: Json = {"content": None if call else reply, "refusal": None, "role": "assistant"}
    if call:
        function = {"arguments": reply, "name": call["name"]}
        message["tool_calls"] = [{"function": function, "id": call["id"], "type": "function"}]
    return {
        "choices": [
            {
                "content_filter_results": {} if call else SAFE,
                "finish_reason": "tool_calls" if call else "stop",
                "index": 0,
                "logprobs": None,
                "message": message,
            }
        ],
        "created": int(time.time()),
        "id": f"chatcmpl-{secrets.token_hex(14)}",
        "model": model,
        "object": "chat.completion",
        "prompt_filter_results": PROMPT_FILTER_RESULTS,
        "system_fingerprint": FINGERPRINT,
        "usage": used,
    }


def chunks(model: str, pieces: list[str], used: Json | None, call: Json | None = None) -> list[Json]:
    """The chunks of a stream: the prompt's filter results, the role, the pieces, the end, the usage if asked for.

    The pieces are of the reply, or, with `call`, of a tool's arguments.
    """
    common = {
        "created": int(time.time()),
        "id": f"chatcmpl-{secrets.token_hex(14)}",
        "model": model,
        "object": "chat.completion.chunk",
        "system_fingerprint": FINGERPRINT,
        # Where usage is asked for, every chunk has the field. https://platform.openai.com/docs/api-reference/chat-streaming
        **({"usage": None} if used else {}),
    }

    def chunk(delta: Json, finish_reason: str | None = None) -> Json:
        filtered = {} if finish_reason or "role" in delta else SAFE
        choice = {
            "content_filter_results": filtered,
            "delta": delta,
            "finish_reason": finish_reason,
            "index": 0,
            "logprobs": None,
        }
        return {"choices": [choice], **common}

    first = {
        "choices": [],
        "created": 0,
        "id": "",
        "model": "",
        "object": "",
        "prompt_filter_results": PROMPT_FILTER_RESULTS,
    }
    role: Json = {"content": None if call else "", "refusal": None, "role": "assistant"}
    if call:
        opened = {"function": {"arguments": "", "name": call["name"]}, "id": call["id"], "index": 0, "type": "function"}
        role["tool_calls"] = [opened]
        deltas: list[Json] = [{"tool_calls": [{"function": {"arguments": piece}, "index": 0}]} for piece in pieces]
    else:
        deltas = [{"content": piece} for piece in pieces]
    end = chunk({}, "tool_calls" if call else "stop")
    last: list[Json] = [{**common, "choices": [], "usage": used}] if used else []
    return [first, chunk(role), *map(chunk, deltas), end, *last]


def error(code: str | None, message: str, **more: Any) -> Json:
    return {"error": {"code": code, "message": message, **more}}


RESOURCE_NOT_FOUND = error("404", "Resource not found")
DEPLOYMENT_NOT_FOUND = error(
    "DeploymentNotFound",
    "The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, "
    "please wait a moment and try again.",
)
WRONG_KEY = error(
    "401",
    "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an active "
    "subscription and use a correct regional API endpoint for your resource.",
)
WRONG_TOKEN = error(
    "Unauthorized",
    "Access token is missing, invalid, audience is incorrect (https://cognitiveservices.azure.com), or have expired.",
)
KEYS_DISABLED = error("AuthenticationTypeDisabled", "Key based authentication is disabled for this resource.")
PERMISSION_DENIED = error(
    "PermissionDenied",
    "The principal `00000000-0000-0000-0000-000000000000` lacks the required data action "
    "`Microsoft.CognitiveServices/accounts/OpenAI/deployments/chat/completions/action` to perform "
    "`POST /openai/deployments/{deployment-id}/chat/completions` operation.",
)
VERSION_ON_V1 = error("BadRequest", "api-version query parameter is not allowed when using /v1 path")
UNREADABLE = error("invalid_request_error", "Invalid type for one of the fields.", type=INVALID)
NOT_JSON = error(None, "We could not parse the JSON body of your request.", type=INVALID)
EMPTY_MESSAGES = error(
    "empty_array",
    "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
    type="invalid_request_error",
    param="messages",
)
CONTENT_FILTER = error(
    "content_filter",
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify your "
    "prompt and retry.",
    param="prompt",
    type=None,
    status=400,
    innererror={
        "code": "ResponsibleAIPolicyViolation",
        "content_filter_result": {**SAFE, "violence": {"filtered": True, "severity": "medium"}},
    },
)
THROTTLED = error(
    "429",
    "Requests to the ChatCompletions_Create Operation under Azure OpenAI API have exceeded call rate limit of your current "
    "pricing tier. Please retry after 10 seconds.",
)

# What a script's `status` brings when it names no body of its own.
ERRORS: dict[int, Json] = {
    400: CONTENT_FILTER,
    401: PERMISSION_DENIED,
    403: KEYS_DISABLED,
    404: DEPLOYMENT_NOT_FOUND,
    429: THROTTLED,
}
