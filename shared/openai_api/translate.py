"""Translate a caller's request into a call to Azure: the deployment, the body and the headers."""

import re
from typing import Any

import msgspec
from azurefunctions.extensions.http.fastapi import Request

from shared.errors import BadRequest, ResponseNotFound
from shared.openai_api.models import deployment_for
from shared.openai_api.request_body import NULL, Fields, parse_field, parse_fields
from shared.openai_api.state import state_of
from shared.settings import Settings
from shared.upstream.affinity import key_of
from shared.upstream.request import (
    CHAT_COMPLETIONS,
    NO_STATE,
    RESPONSES,
    STORED_RESPONSE,
    InferenceCall,
    State,
    is_since,
    path_of,
)
from shared.upstream.response_headers import header_safe

FALSE, TRUE = msgspec.Raw(b"false"), msgspec.Raw(b"true")

# The first dated API version in which Azure knows `stream_options`; earlier ones reject it.
# https://github.com/Azure/azure-rest-api-specs, cognitiveservices/data-plane/AzureOpenAI/inference
STREAM_OPTIONS_SINCE = "2024-09-01"
# The caller's headers that go to Azure, with their longest value; credentials and cookies never do.
# https://www.w3.org/TR/trace-context/#tracestate-limits
FORWARDED_HEADERS = {"traceparent": 128, "tracestate": 512, "x-client-request-id": 128}
# It becomes part of a path, so it must not lead to another operation.
RESPONSE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
# The query parameters of stored responses that go to Azure; lists come as `include` or `include[]`.
# https://platform.openai.com/docs/api-reference/responses
RESPONSE_QUERY = ("after", "before", "include_obfuscation", "limit", "order", "starting_after", "stream")
RESPONSE_QUERY_LISTS = ("include",)
# Bytes. Larger lists are not decoded, because millions of tools would become as many objects.
LARGEST_TOOLS = 1024 * 1024
# All other tools may name a server, a store, a container, a connection, or a deployment besides the call's. Foundry adds
# tools often. https://learn.microsoft.com/azure/ai-foundry/agents/concepts/tool-catalog
TOOLS_WITHOUT_RESOURCES = {
    "apply_patch",
    "computer",
    "computer_use_preview",
    "custom",
    "function",
    "local_shell",
    "namespace",
    "programmatic_tool_calling",
    "tool_search",
    "web_search",
    "web_search_2025_08_26",
    "web_search_preview",
    "web_search_preview_2025_03_11",
}
# These fields name a configuration that may do so, too.
FIELDS_WITH_RESOURCES = ("agent", "agent_reference", "prompt")


class Tool(msgspec.Struct):
    type: str = ""
    custom_search_configuration: msgspec.Raw = NULL
    """Set in a web search over a connection to Bing Custom Search, and so is the next one."""
    web_search: msgspec.Raw = NULL

    @property
    def names_resources(self) -> bool:
        return self.type not in TOOLS_WITHOUT_RESOURCES or not self.custom_search_configuration == self.web_search == NULL


def create_call(
    request: Request, body: bytes, settings: Settings, *, operation: str, caller: str, deployment: str | None
) -> InferenceCall:
    """Return the call for a request that creates a chat completion, embeddings or a response.

    `deployment` is the name in the path; if it is None, the body's `model` counts. The body goes out unchanged, unless
    Azure takes the deployment from it (then its `model` is set to the deployment) or STREAM_USAGE applies (then a streamed
    chat also requests its usage). Raise `BadRequest` and `ModelNotFound`.
    """
    fields = parse_fields(body)
    deployment = deployment_of(fields, settings, deployment)
    stream = is_streamed(fields)
    adds_usage = stream and operation == CHAT_COMPLETIONS and settings.stream_usage and ask_for_usage(fields, settings)
    path = path_of(operation, deployment, settings.api_version)
    names_model = path == operation
    if names_model:
        fields["model"] = msgspec.Raw(msgspec.json.encode(deployment))
    return InferenceCall(
        operation=operation,
        path=path,
        deployment=deployment,
        body=msgspec.json.encode(fields) if adds_usage or names_model else body,
        headers=headers_to_send(request, stream=stream),
        caller=caller,
        stream=stream,
        state=state_of(fields) if operation == RESPONSES else NO_STATE,
        names_own_resources=names_own_resources(fields),
        is_repeatable=is_repeatable(fields),
        hides_usage=adds_usage,
    )


def ask_for_usage(fields: Fields, settings: Settings) -> bool:
    """Ask Azure for the usage at the end of a streamed chat, by setting `stream_options`. Return whether it was set.

    Leave it alone if the caller has set it, if it is malformed (Azure rejects it), if the API version lacks it, or if the
    chat uses data sources (On Your Data rejects it).
    """
    if fields.get("data_sources", NULL) != NULL:
        return False
    try:
        options = msgspec.json.decode(fields.get("stream_options", NULL), type=Fields | None) or {}
    except (msgspec.DecodeError, RecursionError):
        return False
    if not is_since(settings.api_version, STREAM_OPTIONS_SINCE) or options.get("include_usage", NULL) not in (NULL, FALSE):
        return False
    options["include_usage"] = msgspec.Raw(b"true")
    fields["stream_options"] = msgspec.Raw(msgspec.json.encode(options))
    return True


def names_own_resources(fields: Fields) -> bool:
    """Return whether the call names services of the caller's own, such as data sources, MCP servers and containers.

    A stored prompt or an agent may do so, and so may tools that cannot be read.
    """
    if any(name.lower() == "data_sources" for name in fields):
        return True
    if any(fields.get(name, NULL) != NULL for name in FIELDS_WITH_RESOURCES):
        return True
    given = fields.get("tools", NULL)
    if len(given) > LARGEST_TOOLS:
        return True
    try:
        tools = msgspec.json.decode(given, type=list[Tool] | None) or []
    except (msgspec.DecodeError, RecursionError):
        return True
    return any(tool.names_resources for tool in tools)


def is_repeatable(fields: Fields) -> bool:
    """Return whether two endpoints may work on the same call: a second background response, or a stored one, would stay."""
    return TRUE not in (fields.get("background"), fields.get("store"))


def stored_response_call(request: Request, *, caller: str, part: str = "") -> InferenceCall:
    """Return the call for a request about a stored response, or about its `part`. Raise `ResponseNotFound`."""
    response_id = request.path_params.get("id", "")
    if not RESPONSE_ID.fullmatch(response_id):
        raise ResponseNotFound
    query: dict[str, Any] = {name: request.query_params[name] for name in RESPONSE_QUERY if name in request.query_params}
    for name in RESPONSE_QUERY_LISTS:
        if values := [*request.query_params.getlist(name), *request.query_params.getlist(f"{name}[]")]:
            query[name] = values
    stream = query.get("stream") == "true"
    return InferenceCall(
        operation=STORED_RESPONSE,
        path="/".join(filter(None, (RESPONSES, response_id, part))),
        deployment="",
        body=b"",
        headers=headers_to_send(request, stream=stream),
        caller=caller,
        stream=stream,
        method=request.method,
        query=query,
        state=State((key_of(response_id),), is_needed=True),
    )


def is_streamed(fields: Fields) -> bool:
    """Return whether the caller wants a stream. Raise `BadRequest`."""
    return parse_field(fields, "stream", bool, "true or false") or False


def deployment_of(fields: Fields, settings: Settings, model: str | None = None) -> str:
    """Return the deployment for the argument `model`, else for the field of that name, else the app's default.

    Raise `BadRequest` and `ModelNotFound`.
    """
    if any(name != "model" and name.lower() == "model" for name in fields):
        # Azure may ignore case, and use a `MODEL` that nobody has checked.
        raise BadRequest("The field 'model' must be lowercase.", param="model")
    model = parse_field(fields, "model", str, "a string") if model is None else model
    return settings.default_deployment if model is None else deployment_for(model, settings)


def headers_to_send(request: Request, *, stream: bool) -> dict[str, str]:
    """Return the headers for Azure, with the caller's own among them unless they are too long or not printable ASCII."""
    callers = {name: request.headers.get(name, "") for name in FORWARDED_HEADERS}
    return {
        **header_safe({name: value for name, value in callers.items() if 0 < len(value) <= FORWARDED_HEADERS[name]}),
        "content-type": "application/json",
        "accept": "text/event-stream" if stream else "application/json",
    }
