"""What a caller's HTTP request asks for: its body, its fields, the deployment it names, the headers to pass on."""

import msgspec
from azurefunctions.extensions.http.fastapi import Request
from starlette.requests import ClientDisconnect

from shared.errors import BadRequest, BodyTooLarge, CallerGone, ModelNotFound, header_safe
from shared.settings import Settings

Fields = dict[str, msgspec.Raw]

# What of the caller's headers Azure may see, besides the content type. Credentials and cookies never pass.
FORWARDED_HEADERS = ("traceparent", "tracestate", "x-client-request-id")


async def read_body(request: Request, limit: int) -> bytes:
    """The request's body. Raises `BodyTooLarge` above `limit` bytes, also when no length was declared.

    A body that is too large is read to its end and dropped: HTTP clients that are cut off while they send
    report a broken connection instead of the answer. The Functions host bounds what arrives (104,857,600 bytes).
    """
    body = bytearray()
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size <= limit:
                body += chunk
            else:
                body.clear()
    except ClientDisconnect:
        raise CallerGone from None
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
        raise BadRequest('The request\'s body must be a JSON object, such as {"prompt": "Hello"}.') from None
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


def deployment_for(model: str | None, settings: Settings) -> str:
    """The deployment that answers to `model`. Raises `ModelNotFound` for one that the settings do not list."""
    if model is None:
        return settings.default_deployment
    try:
        return settings.deployments[model]
    except KeyError:
        raise ModelNotFound(f"There is no model {model[:64]!r} here.", param="model") from None


def forwarded_headers(request: Request) -> dict[str, str]:
    """The caller's headers that go to Azure. A header in other than printable ASCII is dropped."""
    return header_safe({name: request.headers[name] for name in FORWARDED_HEADERS if name in request.headers})
