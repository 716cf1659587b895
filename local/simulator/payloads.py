"""Build the JSON payloads of Azure OpenAI.

Sources: https://github.com/Azure/azure-rest-api-specs (cognitiveservices/data-plane/AzureOpenAI/inference) and
https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter (the annotations of the content filter).
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

SAFE = {category: {"filtered": False, "severity": "safe"} for category in ("hate", "self_harm", "sexual", "violence")}
PROMPT_FILTER_RESULTS = [
    {"prompt_index": 0, "content_filter_results": {**SAFE, "jailbreak": {"filtered": False, "detected": False}}}
]
FINGERPRINT = "fp_simulator"
# That of all models.
VERSION = "2026-11-01"
INVALID = "invalid_request_error"

type Json = dict[str, Any]
# A JSON object, the events of a stream, or other content.
type Payload = Json | list[Event] | Content


@dataclass(frozen=True)
class Event:
    """Describe one server-sent event: whether it carries output of the model or an error, and the usage that it reports.

    Data of type bytes is sent as it is, and is no event.
    """

    data: str | bytes
    name: str = ""
    has_output: bool = False
    has_error: bool = False
    usage: Json | None = None

    def encode(self) -> bytes:
        if isinstance(self.data, bytes):
            return self.data
        name = f"event: {self.name}\n" if self.name else ""
        return f"{name}data: {self.data}\n\n".encode()


@dataclass(frozen=True)
class Content:
    """Describe a body of another type: the chunks that the simulator sends one by one."""

    content_type: str
    chunks: list[bytes]


class ErrorResponse(Exception):
    """Make the simulator respond with this status and JSON body."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


def model_name(deployment: str | None) -> str:
    """Return the name of a deployment's model with its version, as responses have it."""
    return f"{deployment or 'simulator'}-{VERSION}"


def token_usage(prompt: str, chunks: list[str]) -> Json:
    """Return the token usage. Four characters of the prompt are a token, and so is each chunk of the reply."""
    prompt_tokens = len(prompt) // 4 + 1
    return {
        "completion_tokens": len(chunks),
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + len(chunks),
        "completion_tokens_details": {"reasoning_tokens": 0},
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def scripted_usage(usage: Json, script: Json) -> Json:
    """Return `usage` with the `usage` of `script`, which can have some of the numbers, and some of those in the details."""
    changes = script.get("usage", {})
    return usage | {name: usage.get(name, {}) | new if isinstance(new, dict) else new for name, new in changes.items()}


def stream_error(error: Json) -> Json:
    """Return the object that takes the place of a completion, or of a chunk, when a request fails after its status."""
    return {"error": {"code": None, "message": "", "type": None, "param": None, **error}}


def usage_of_stream(body: Json, usage: Json) -> Json | None:
    """Return `usage` if the request wants it at the end of its stream."""
    return usage if (body.get("stream_options") or {}).get("include_usage") else None


def completion_chunks(common: Json, filtered: list[Json], choices: list[Json], usage: Json | None) -> list[Json]:
    """Return the chunks of a stream: the filter results of the prompts, each of `choices`, and `usage` if it is given."""
    # With include_usage, every chunk has the field. https://platform.openai.com/docs/api-reference/chat-streaming
    common = {**common, **({"usage": None} if usage else {})}
    first = {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": filtered}
    last: list[Json] = [{**common, "choices": [], "usage": usage}] if usage else []
    return [first, *({**common, "choices": [choice]} for choice in choices), *last]


def end_completion(chunks: Iterable[Event], script: Json) -> list[Event]:
    """Return the events of a stream with these chunks. An error of `script` follows the number of outputs in `after`."""
    events = [*chunks, Event("[DONE]")]
    if error := script.get("error"):
        events = [*until_error(events, 1, script.get("after", 0)), Event(json.dumps(stream_error(error)), has_error=True)]
    return events


def end_with_error(events: list[Event], script: Json) -> list[Event]:
    """Return `events` of images or audio. If `script` has an error, it follows the number of outputs in `after`.

    openai-python raises these errors: its class Stream looks for this name, and for `error` in the data.
    """
    if error := script.get("error"):
        data = json.dumps({"type": "error", **stream_error(error)})
        events = [*until_error(events, 0, script.get("after", 0)), Event(data, name="error", has_error=True)]
    return events


def until_error(events: list[Event], preamble: int, after: int) -> list[Event]:
    """Return the events before an error: the first `preamble` ones, or all up to the output chunk number `after`."""
    ends = [number for number, event in enumerate(events, start=1) if event.has_output]
    return events[: ends[:after][-1] if after and ends else preamble]


def error(code: str | None, message: str, **more: Any) -> Json:
    return {"error": {"code": code, "message": message, **more}}


def operation_not_supported(operation: str, model: str) -> Json:
    return error(
        "OperationNotSupported",
        f"The {operation} operation does not work with the specified model, {model}. Please choose different model and try "
        "again. You can learn more about which models can be used with each operation here: "
        "https://go.microsoft.com/fwlink/?linkid=2197993.",
    )


def invalid_request(message: str, *, code: str | None = None, param: str | None = None) -> Json:
    return error(code, message, type=INVALID, param=param)


def invalid_encrypted_content(item_id: str | None, code: str | None = "invalid_encrypted_content") -> Json:
    """Return the error for content that another resource has sealed. Some resources leave out the code.

    https://github.com/openai/codex/issues/9045, https://github.com/openai/openai-agents-python/issues/2063
    """
    content = f"for item {item_id}" if item_id else "gAAA...A=="
    return invalid_request(f"The encrypted content {content} could not be verified.", code=code)


def item_not_found(item_id: str, *, store: bool = True) -> Json:
    """Return the error for an item that this resource has not stored, in the words for a request with this `store`.

    https://github.com/joselcaguilar/azure-openai-ha/issues/129, https://github.com/twentyhq/twenty/pull/23182
    """
    advice = " Try again with `store` set to true, or remove this item from your input."
    unstored = "" if store else f" Items are not persisted when `store` is set to false.{advice}"
    return invalid_request(f"Item with id '{item_id}' not found.{unstored}", param="input")


def conversation_not_found(conversation_id: str) -> Json:
    return invalid_request(f"Conversation with id '{conversation_id}' not found.")


def file_not_found(file_id: str) -> Json:
    """Return the error for an unknown file: https://github.com/Azure/azure-sdk-for-net/issues/47121."""
    return invalid_request(f"Files [{file_id}] were not found")


def bounded(fields: Json, name: str, default: int, least: int, most: int) -> int:
    """Return a number in `fields`, which can be a text. Raise Azure's error unless it is from `least` to `most`."""
    given = fields.get(name)
    number = default if given is None else int(given)
    if not least <= number <= most:
        problem = f"Invalid '{name}': expected a value from {least} to {most}, but got {number} instead."
        raise ErrorResponse(400, invalid_request(problem, code="integer_out_of_range", param=name))
    return number


def missing_parameter(name: str) -> Json:
    return invalid_request(f"Missing required parameter: '{name}'.", code="missing_required_parameter", param=name)


def unknown_parameter(name: str) -> Json:
    """Return the error for a field of a later version: https://github.com/run-llama/llama_index/issues/17731."""
    return invalid_request(f"Unknown parameter: '{name}'.", code="unknown_parameter", param=name)


def invalid_value(name: str, value: Any, supported: Iterable[str]) -> Json:
    message = f"Invalid value: '{value}'. Supported values are: {', '.join(f"'{name}'" for name in supported)}."
    return invalid_request(message, code="invalid_value", param=name)


RESOURCE_NOT_FOUND = error("404", "Resource not found")
DEPLOYMENT_NOT_FOUND = error(
    "DeploymentNotFound",
    "The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, "
    "please wait a moment and try again.",
)
NO_DEPLOYMENT_FOR_MODEL = invalid_request(
    "Could not find an existing deployment to match the model in the request. Please verify the model matches an existing "
    "deployment in the account."
)
# https://github.com/epam/ai-dial-chat/issues/4403
DEPLOYMENT_RETIRED = error(
    "ModelDeprecated",
    "The model associated with the deployment is deprecated and no longer available for use. Please refer to the Azure "
    "OpenAI service documentation for more information.",
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
NETWORK_RULES = error("403", "Access denied due to Virtual Network/Firewall rules.")
PUBLIC_ACCESS_DISABLED = error("403", "Public access is disabled. Please configure private endpoint.")
VIRTUAL_NETWORK = error(
    "403",
    "A Virtual Network is configured for this resource. Please use the correct endpoint for making requests. Check "
    "https://aka.ms/cogsvc-vnet for more details.",
)
NO_CUSTOM_SUBDOMAIN = error(
    "BadRequest", "Please provide a custom subdomain for token authentication, otherwise API key is required."
)
API_VERSION_TOO_OLD = error("BadRequest", "Model o3-mini is enabled only for api versions 2024-12-01-preview and later")
OPERATION_NOT_SUPPORTED = operation_not_supported("chatCompletion", "gpt-5-codex")
# What Azure says to an item whose id another resource has made, for example to one that a stored response contains.
DIFFERENT_RESOURCE = invalid_request(
    "The requested item was created under a different Azure OpenAI resource. Use the same resource that created the item to "
    "access it.",
    param="",
)
API_VERSION_ON_V1 = error("BadRequest", "api-version query parameter is not allowed when using /v1 path")
INVALID_FIELD = invalid_request("Invalid type for one of the fields.", code="invalid_type")
NOT_JSON = invalid_request("We could not parse the JSON body of your request.")
# For a form without a boundary, or one that ends early.
# https://github.com/Azure/azure-sdk-for-java/pull/36621, https://github.com/danny-avila/LibreChat/pull/10355
MALFORMED_FORM = error(None, "400: There was an error parsing the body", type="server_error", param=None)
# https://github.com/wkok/openai-clojure/issues/71
MISSING_AUDIO = invalid_request("Missing audio file")
# https://github.com/Azure/azure-sdk-for-net/issues/40780, https://github.com/vercel/ai/issues/8013
UNKNOWN_AUDIO_FORMAT = invalid_request(
    "Unrecognized file format. Supported formats: ['flac', 'm4a', 'mp3', 'mp4', 'mpeg', 'mpga', 'oga', 'ogg', 'wav', 'webm']"
)
EMPTY_MESSAGES = error(
    "empty_array",
    "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
    type=INVALID,
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

# The bodies for a script with a `status` and no `body`.
ERRORS: dict[int, Json] = {
    400: CONTENT_FILTER,
    401: PERMISSION_DENIED,
    403: KEYS_DISABLED,
    404: DEPLOYMENT_NOT_FOUND,
    410: DEPLOYMENT_RETIRED,
    429: THROTTLED,
}
