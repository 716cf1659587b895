"""What a caller's HTTP request asks for: the deployment that it names, the body for Azure, the headers to pass on."""

import re
from typing import Any

import msgspec
from azurefunctions.extensions.http.fastapi import Request

from shared.errors import BadRequest, ResponseNotFound
from shared.openai_api.models import deployment_for
from shared.openai_api.request_body import NULL, Fields, parse_field, parse_fields
from shared.settings import Settings
from shared.upstream.request import CHAT_COMPLETIONS, RESPONSES, InferenceCall, is_in_address, is_since
from shared.wire import header_safe

FALSE = msgspec.Raw(b"false")

# The first dated API version in which Azure knows `stream_options`; earlier ones refuse it.
# https://github.com/Azure/azure-rest-api-specs, cognitiveservices/data-plane/AzureOpenAI/inference
STREAM_OPTIONS_SINCE = "2024-09-01"
# What of the caller's headers Azure may see. Credentials and cookies never pass.
# With the most characters; longer ones are dropped. https://www.w3.org/TR/trace-context/#tracestate-limits
FORWARDED_HEADERS = {"traceparent": 128, "tracestate": 512, "x-client-request-id": 128}
# An address is made of it, so it must not be able to lead to another operation.
RESPONSE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
# The query parameters that may go to Azure with a stored response; lists come as `include` or `include[]`.
# https://platform.openai.com/docs/api-reference/responses
RESPONSE_QUERY = ("after", "before", "include_obfuscation", "limit", "order", "starting_after", "stream")
RESPONSE_QUERY_LISTS = ("include",)


def creation(
    operation: str, body: bytes, request: Request, settings: Settings, caller: str, named: str | None = None
) -> InferenceCall:
    """The call that a request in OpenAI's wire format asks for: a chat completion, embeddings or a response.

    `named` is the deployment in the address, where there is one; else the body's `model` counts. The body goes out as it
    came, or, where Azure looks into it for the deployment, as the same values with the deployment for a `model`; with
    STREAM_USAGE, a streamed chat's asks for the usage.
    Raises `BadRequest` and `ModelNotFound`.
    """
    fields = parse_fields(body)
    deployment = deployment_of(fields, settings, named)
    stream = is_streamed(fields)
    adds_usage = stream and operation == CHAT_COMPLETIONS and settings.stream_usage and ask_for_usage(fields, settings)
    in_address = is_in_address(operation, settings.api_version)
    if not in_address:
        fields["model"] = msgspec.Raw(msgspec.json.encode(deployment))
    if adds_usage or not in_address:
        body = msgspec.json.encode(fields)
    return InferenceCall(
        operation,
        deployment,
        body,
        headers_to_send(request, stream=stream),
        caller,
        stream,
        is_about_stored=operation == RESPONSES and fields.get("previous_response_id", NULL) != NULL,
        adds_usage=adds_usage,
    )


def ask_for_usage(fields: Fields, settings: Settings) -> bool:
    """Has Azure tell the token usage of a streamed chat at its end. False where that is not up to the app:

    the caller has asked for it, the options are Azure's to refuse, or the API version does not know them.
    """
    try:
        options = msgspec.json.decode(fields.get("stream_options", NULL), type=Fields | None) or {}
    except (msgspec.DecodeError, RecursionError):
        return False
    if not is_since(settings.api_version, STREAM_OPTIONS_SINCE) or options.get("include_usage", NULL) not in (NULL, FALSE):
        return False
    options["include_usage"] = msgspec.Raw(b"true")
    fields["stream_options"] = msgspec.Raw(msgspec.json.encode(options))
    return True


def stored_response(request: Request, caller: str, part: str = "") -> InferenceCall:
    """The call about the stored response that the address names, or `part` of it. Raises `ResponseNotFound`."""
    response_id = request.path_params.get("id", "")
    if not RESPONSE_ID.fullmatch(response_id):
        raise ResponseNotFound
    query: dict[str, Any] = {name: request.query_params[name] for name in RESPONSE_QUERY if name in request.query_params}
    for name in RESPONSE_QUERY_LISTS:
        if values := [*request.query_params.getlist(name), *request.query_params.getlist(f"{name}[]")]:
            query[name] = values
    stream = query.get("stream") == "true"
    return InferenceCall(
        "/".join(filter(None, (RESPONSES, response_id, part))),
        "",
        b"",
        headers_to_send(request, stream=stream),
        caller,
        stream,
        method=request.method,
        query=query,
        is_about_stored=True,
    )


def is_streamed(fields: Fields) -> bool:
    """Whether the caller wants the answer as a stream. Raises `BadRequest`."""
    return parse_field(fields, "stream", bool, "true or false") or False


def deployment_of(fields: Fields, settings: Settings, named: str | None = None) -> str:
    """The deployment that is `named` or else that the field `model` asks for, by default the app's.

    Raises `BadRequest` and `ModelNotFound`.
    """
    if any(name != "model" and name.lower() == "model" for name in fields):
        # Whoever reads the body next may not care for case, and take a `MODEL` that nobody has looked at.
        raise BadRequest("The field 'model' must be written in small letters.", param="model")
    model = parse_field(fields, "model", str, "a string") if named is None else named
    return settings.default_deployment if model is None else deployment_for(model, settings)


def headers_to_send(request: Request, *, stream: bool) -> dict[str, str]:
    """The headers for Azure, the caller's own among them. One in other than printable ASCII, or too long, is dropped."""
    callers = {name: request.headers.get(name, "") for name in FORWARDED_HEADERS}
    return {
        **header_safe({name: value for name, value in callers.items() if 0 < len(value) <= FORWARDED_HEADERS[name]}),
        "content-type": "application/json",
        "accept": "text/event-stream" if stream else "application/json",
    }
