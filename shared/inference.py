"""What a caller's HTTP request asks for: its body, its fields, the deployment it names, the headers to pass on."""

import asyncio
import re
from typing import Any

import msgspec
from azurefunctions.extensions.http.fastapi import Request
from starlette.requests import ClientDisconnect

from shared.answers import header_safe
from shared.call import CHAT_COMPLETIONS, RESPONSES, InferenceCall, is_in_address
from shared.errors import (
    BadRequest,
    BodyTooLarge,
    BodyTooSlow,
    CallerGone,
    EncodedBody,
    ModelNotFound,
    ResponseNotFound,
)
from shared.settings import Settings

Fields = dict[str, msgspec.Raw]
NULL = msgspec.Raw(b"null")
FALSE = msgspec.Raw(b"false")

# The first dated API version in which Azure knows `stream_options`; earlier ones refuse it.
# https://github.com/Azure/azure-rest-api-specs, cognitiveservices/data-plane/AzureOpenAI/inference
STREAM_OPTIONS_SINCE = "2024-09-01"
# What of the caller's headers Azure may see. Credentials and cookies never pass.
FORWARDED_HEADERS = ("traceparent", "tracestate", "x-client-request-id")
# An address is made of it, so it must not be able to lead to another operation.
RESPONSE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
# The query parameters that may go to Azure with a stored response; lists come as `include` or `include[]`.
# https://platform.openai.com/docs/api-reference/responses
RESPONSE_QUERY = ("after", "before", "include_obfuscation", "limit", "order", "starting_after", "stream")
RESPONSE_QUERY_LISTS = ("include",)


def creation(
    operation: str, body: bytes, request: Request, settings: Settings, caller: str, deployment: str | None = None
) -> InferenceCall:
    """The call that a request in OpenAI's wire format asks for: a chat completion, embeddings or a response.

    `deployment` is what the address names, where it names one; else the body's `model` counts. The body goes out as it
    came, or, where Azure looks into it for the deployment, as the same values with the deployment for a `model`; with
    STREAM_USAGE, a streamed chat's asks for the usage.
    Raises `BadRequest` and `ModelNotFound`.
    """
    fields = parse_fields(body)
    if deployment is None:
        deployment = deployment_of(fields, settings)
    else:
        refuse_other_spellings(fields)
        deployment = deployment_for(deployment, settings)
    stream = parse_field(fields, "stream", bool, "true or false") or False
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
        stream,
        headers_to_send(request, stream=stream),
        caller,
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
    if settings.api_version < STREAM_OPTIONS_SINCE or options.get("include_usage", NULL) not in (NULL, FALSE):
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
        stream,
        headers_to_send(request, stream=stream),
        caller,
        method=request.method,
        query=query,
        is_about_stored=True,
    )


async def read_body(request: Request, settings: Settings) -> bytes:
    """The request's body. Raises `BodyTooLarge`, `BodyTooSlow`, `EncodedBody` and `CallerGone`.

    A body that is too large, its length declared or not, is read to its end and dropped: HTTP clients that are cut off
    while they send report a broken connection instead of the answer. The Functions host bounds what arrives
    (104,857,600 bytes).
    """
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise EncodedBody
    limit = settings.max_body_bytes
    body = bytearray()
    size = 0
    try:
        async with asyncio.timeout(settings.request_timeout):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= limit:
                    body += chunk
                else:
                    body.clear()
    except ClientDisconnect:
        raise CallerGone from None
    except TimeoutError:
        raise BodyTooSlow from None
    if size > limit:
        raise BodyTooLarge(f"The request's body is larger than the {limit} bytes that this app accepts.")
    return bytes(body)


def parse_fields(body: bytes) -> Fields:
    """The top-level fields of a JSON object, each as the bytes it came in. Of a field given twice, the last counts.

    Raises `BadRequest` for anything else. Nothing inside the fields is checked but that it is well-formed.
    """
    try:
        body.decode()
        return msgspec.json.decode(body, type=Fields)
    except UnicodeDecodeError as exc:
        raise BadRequest(f"The request's body must be UTF-8; the byte at position {exc.start} is not.") from None
    except msgspec.ValidationError:
        raise BadRequest("The request's body must be a JSON object.") from None
    except msgspec.DecodeError as exc:
        detail = "it is empty" if not body.strip() else str(exc)
        raise BadRequest(f"The request's body must be a JSON object, but {detail}.") from None
    except RecursionError:
        raise BadRequest("The request's body is nested too deeply; flatten it.") from None


def parse_field[T](fields: Fields, name: str, kind: type[T], expected: str) -> T | None:
    """The field `name` as a `kind`, None when it is absent or null. Raises `BadRequest` with what is `expected`."""
    if name not in fields:
        return None
    try:
        return msgspec.json.decode(fields[name], type=kind | None)
    except (msgspec.DecodeError, RecursionError):
        raise BadRequest(f"'{name}' must be {expected}.", param=name) from None


def deployment_of(fields: Fields, settings: Settings) -> str:
    """The deployment that the field `model` asks for. Raises `BadRequest` and `ModelNotFound`."""
    refuse_other_spellings(fields)
    return deployment_for(parse_field(fields, "model", str, "a string"), settings)


def refuse_other_spellings(fields: Fields) -> None:
    """Whoever reads the body next may not care for case, and take a `MODEL` that nobody has looked at."""
    if any(name != "model" and name.lower() == "model" for name in fields):
        raise BadRequest("The field 'model' must be written in small letters.", param="model")


def deployment_for(model: str | None, settings: Settings) -> str:
    """The deployment that answers to `model`. Raises `ModelNotFound` for one that the settings do not list."""
    if model is None:
        return settings.default_deployment
    try:
        return settings.deployments[model]
    except KeyError:
        listed = "GET /api/v1/models lists those there are."
        raise ModelNotFound(f"There is no model {model[:64]!r} here. {listed}", param="model") from None


def headers_to_send(request: Request, *, stream: bool) -> dict[str, str]:
    """The headers for Azure, the caller's own among them. One in other than printable ASCII is dropped."""
    return {
        **header_safe({name: request.headers[name] for name in FORWARDED_HEADERS if name in request.headers}),
        "content-type": "application/json",
        "accept": "text/event-stream" if stream else "application/json",
    }
