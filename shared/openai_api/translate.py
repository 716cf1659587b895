"""Translate a caller's request into a call to Azure: the deployment, the body and the headers."""

import re

import msgspec
from azurefunctions.extensions.http.fastapi import Request

from shared.errors import BadRequest, ResponseNotFound
from shared.openai_api.forms import Form
from shared.openai_api.models import deployment_for
from shared.openai_api.request_body import NULL, Fields, parse_field, parse_fields
from shared.openai_api.state import state_of
from shared.operations import CHAT_COMPLETIONS, RESPONSES, V1, Body, Operation, is_since
from shared.settings import Settings
from shared.upstream.affinity import key_of
from shared.upstream.request import NO_STATE, InferenceCall, State
from shared.upstream.response_headers import header_safe

FALSE, TRUE, SSE = msgspec.Raw(b"false"), msgspec.Raw(b"true"), msgspec.Raw(b'"sse"')
API_VERSION = "api-version"
MISSING_MODEL = "'model' is missing. GET /api/v1/models lists the models."

# The first dated API version in which Azure knows `stream_options`; earlier ones reject it.
# https://github.com/Azure/azure-rest-api-specs, cognitiveservices/data-plane/AzureOpenAI/inference
STREAM_OPTIONS_SINCE = "2024-09-01"
# The caller's headers that go to Azure, with their longest value; credentials and cookies never do.
# https://www.w3.org/TR/trace-context/#tracestate-limits
FORWARDED_HEADERS = {"traceparent": 128, "tracestate": 512, "x-client-request-id": 128, "x-ms-client-request-id": 128}
# Names the deployment of the Responses API's tool `image_generation`.
# https://learn.microsoft.com/azure/ai-foundry/openai/how-to/responses#image-generation
IMAGE_DEPLOYMENT = "x-ms-oai-image-generation-deployment"
# It becomes part of a path, so it must not lead to another operation.
RESPONSE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
# The query parameters that are lists. Callers send `include` or `include[]`; Azure's dated versions know the first, v1 the
# second.
QUERY_LISTS = ("include",)
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


def json_call(
    request: Request, body: bytes, settings: Settings, *, operation: Operation, caller: str, deployment: str | None
) -> InferenceCall:
    """Return the call for a request with a JSON body.

    `deployment` is the name in the path; if it is None, the body's `model` counts. The body goes out unchanged, unless
    Azure takes the deployment from it (then its `model` is set to the deployment) or STREAM_USAGE applies (then a streamed
    chat also requests its usage). Raise `BadRequest` and `ModelNotFound`.
    """
    fields = parse_fields(body)
    deployment = deployment_of(fields, settings, deployment, has_default=operation.has_default)
    # Speech has no field `stream`.
    stream = fields.get("stream_format") == SSE if operation.is_binary else is_streamed(fields)
    adds_usage = stream and operation == CHAT_COMPLETIONS and settings.stream_usage and ask_for_usage(fields, settings)
    path = operation.path_in(settings.api_version, deployment)
    names_model = path == operation.path
    if names_model:
        fields["model"] = msgspec.Raw(msgspec.json.encode(deployment))
    image_deployment = image_deployment_of(request, settings) if operation == RESPONSES else {}
    return InferenceCall(
        operation=operation,
        path=path,
        deployment=deployment,
        body=msgspec.json.encode(fields) if adds_usage or names_model else body,
        headers={**headers_to_send(request, accept_of(operation, stream=stream)), **image_deployment},
        caller=caller,
        stream=stream,
        query=query_to_send(request, operation, settings),
        state=state_of(fields) if operation.uses_state else NO_STATE,
        names_own_resources=bool(image_deployment) or names_own_resources(fields),
        is_repeatable=operation.is_repeatable and is_repeatable(fields),
        hides_usage=adds_usage,
    )


def form_call(
    request: Request, form: Form, settings: Settings, *, operation: Operation, caller: str, deployment: str | None
) -> InferenceCall:
    """Return the call for a request with a form. Its `model` is set to the deployment, and goes first.

    `deployment` is the name in the path, as in `json_call`. Raise `BadRequest` and `ModelNotFound`.
    """
    model = form.text("model") if deployment is None else deployment
    if not model:
        raise BadRequest(MISSING_MODEL, param="model")
    deployment = deployment_for(model, settings)
    stream = form.text("stream").lower() == "true"
    return InferenceCall(
        operation=operation,
        path=operation.path_in(settings.api_version, deployment),
        deployment=deployment,
        body=form.encode(deployment),
        headers=headers_to_send(request, accept_of(operation, stream=stream)),
        caller=caller,
        stream=stream,
        query=query_to_send(request, operation, settings),
        is_repeatable=operation.is_repeatable,
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


def stored_response_call(
    request: Request, response_id: str, settings: Settings, *, operation: Operation, caller: str
) -> InferenceCall:
    """Return the call for a request about a stored response, or about a part of it. Raise `ResponseNotFound`."""
    if not RESPONSE_ID.fullmatch(response_id):
        raise ResponseNotFound
    query = query_to_send(request, operation, settings)
    stream = query.get("stream") == "true"
    return InferenceCall(
        operation=operation,
        path=operation.path.format(id=response_id),
        deployment="",
        body=b"",
        headers=headers_to_send(request, accept_of(operation, stream=stream)),
        caller=caller,
        stream=stream,
        method=operation.method,
        query=query,
        state=State((key_of(response_id),), is_needed=True),
    )


def is_streamed(fields: Fields) -> bool:
    """Return whether the caller wants a stream. Raise `BadRequest`."""
    return parse_field(fields, "stream", bool, "true or false") or False


def deployment_of(fields: Fields, settings: Settings, model: str | None = None, *, has_default: bool = True) -> str:
    """Return the deployment for the argument `model`, else for the field of that name, else the app's default.

    Raise `BadRequest` and `ModelNotFound`.
    """
    if any(name != "model" and name.lower() == "model" for name in fields):
        # Azure may ignore case, and use a `MODEL` that nobody has checked.
        raise BadRequest("The field 'model' must be lowercase.", param="model")
    model = parse_field(fields, "model", str, "a string") if model is None else model
    if model is None and not has_default:
        raise BadRequest(MISSING_MODEL, param="model")
    return settings.default_deployment if model is None else deployment_for(model, settings)


def image_deployment_of(request: Request, settings: Settings) -> dict[str, str]:
    """Return the header with the deployment for images, if the caller names one. Raise `ModelNotFound`."""
    model = request.headers.get(IMAGE_DEPLOYMENT)
    return {} if model is None else {IMAGE_DEPLOYMENT: deployment_for(model, settings)}


def query_to_send(request: Request, operation: Operation, settings: Settings) -> dict[str, str | list[str]]:
    """Return the caller's query parameters that Azure has for `operation`."""
    given, is_v1 = request.query_params, settings.api_version == V1
    query: dict[str, str | list[str]] = {}
    for name in operation.query:
        if name in QUERY_LISTS:
            if values := [*given.getlist(name), *given.getlist(f"{name}[]")]:
                query[f"{name}[]" if is_v1 else name] = values
        elif name in given:
            query[name] = given[name]
    if is_v1 and given.get(API_VERSION) == "preview":
        query[API_VERSION] = "preview"
    return query


def accept_of(operation: Operation, *, stream: bool) -> str:
    """Return the `accept` header of a call."""
    if stream:
        return "text/event-stream"
    # Speech is audio, and a transcription may be plain text.
    return "*/*" if operation.is_binary or operation.body is Body.FORM else "application/json"


def headers_to_send(request: Request, accept: str) -> dict[str, str]:
    """Return the headers for Azure, with the caller's own among them unless they are too long or not printable ASCII."""
    callers = {name: request.headers.get(name, "") for name in FORWARDED_HEADERS}
    return {
        **header_safe({name: value for name, value in callers.items() if 0 < len(value) <= FORWARDED_HEADERS[name]}),
        "content-type": "application/json",
        "accept": accept,
    }
