"""Read a request's body within its limits, and parse its top-level fields."""

import asyncio
import codecs
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from azurefunctions.extensions.http.fastapi import Request
from starlette.requests import ClientDisconnect

from shared.errors import BadRequest, ClientDisconnected, RequestTimeout, RequestTooLarge, UnsupportedEncoding
from shared.settings import Settings
from shared.surrogates import replace_half_pairs

Fields = dict[str, msgspec.Raw]
NULL = msgspec.Raw(b"null")
# In mixed case, so that it differs from the escapes that callers write.
REPLACEMENT = rb"\uFfFd"
# Bytes. Repairing a larger body would block the event loop, so it gets the message of msgspec.
LARGEST_REPAIR = 1024 * 1024


async def read_body(request: Request, settings: Settings) -> bytes:
    """Return the body, without a byte order mark.

    Raise `RequestTooLarge`, `RequestTimeout`, `UnsupportedEncoding` or `ClientDisconnected`.
    """
    body = bytearray()
    async with reading(request, settings):
        async for chunk in chunks(request, settings.max_body_bytes):
            body += chunk
    return bytes(body).removeprefix(codecs.BOM_UTF8)


@asynccontextmanager
async def reading(request: Request, settings: Settings) -> AsyncIterator[None]:
    """Limit the time in which the body is read. Raise `RequestTimeout`, `UnsupportedEncoding` or `ClientDisconnected`."""
    if request.headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
        raise UnsupportedEncoding
    try:
        async with asyncio.timeout(settings.request_timeout):
            yield
    except ClientDisconnect:
        raise ClientDisconnected from None
    except TimeoutError:
        raise RequestTimeout from None


async def chunks(request: Request, limit: int) -> AsyncGenerator[bytes]:
    """Yield the body's chunks. Raise `RequestTooLarge` if they have more than `limit` bytes.

    A body that is too large is read to its end and dropped: HTTP clients that are cut off while they send report a
    broken connection instead of the response. The Functions host limits the size to 104,857,600 bytes.
    """
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            yield chunk
    if size > limit:
        raise RequestTooLarge(f"The request's body is larger than {limit} bytes, the limit of this app. Send a smaller one.")


def parse_fields(body: bytes) -> Fields:
    """Return the top-level fields of a JSON object, each as its original bytes. The last of repeated fields counts.

    Raise `BadRequest` for anything else. It checks only that the values are well-formed.
    """
    encoding = json.detect_encoding(body)
    if not encoding.startswith("utf-8"):
        raise BadRequest(f"The request's body must be UTF-8, but it seems to be {encoding[:6].upper()}.")
    try:
        body.decode()
        return msgspec.json.decode(body, type=Fields)
    except UnicodeDecodeError as exc:
        raise BadRequest(f"The request's body must be UTF-8; the byte at position {exc.start} is not.") from None
    except msgspec.ValidationError:
        raise BadRequest("The request's body must be a JSON object.") from None
    except msgspec.DecodeError as exc:
        if len(body) <= LARGEST_REPAIR:
            reject_half_pairs(body)
        detail = "it is empty" if not body.strip() else str(exc)
        raise BadRequest(f"The request's body must be a JSON object, but {detail}.") from None
    except RecursionError:
        raise BadRequest("The request's body is nested too deeply; flatten it.") from None


def reject_half_pairs(body: bytes) -> None:
    """Raise `BadRequest` if a JSON object is malformed because of half a surrogate pair, with the field that has it."""
    repaired, count = replace_half_pairs(body, REPLACEMENT)
    if not count:
        return
    try:
        fields = msgspec.json.decode(repaired, type=Fields)
    except (msgspec.DecodeError, RecursionError):
        # It has other mistakes as well.
        fields = {}
    has_half = (name[:64] for name, value in fields.items() if "\ufffd" in name or REPLACEMENT in bytes(value))
    # A repeated field may have it, of which `fields` has only the last.
    name = next(has_half, None)
    subject = "A field" if name is None else f"'{name}'"
    problem = "has half a surrogate pair, an escape such as \\ud83d without its other half. Send whole characters."
    raise BadRequest(f"{subject} {problem}", param=name)


def parse_field[T](fields: Fields, name: str, kind: type[T], expected: str) -> T | None:
    """Return the field `name` as a `kind`, None if it is absent or null. Raise `BadRequest` that says what is `expected`."""
    if name not in fields:
        return None
    try:
        return msgspec.json.decode(fields[name], type=kind | None)
    except (msgspec.DecodeError, RecursionError):
        raise BadRequest(f"'{name}' must be {expected}.", param=name) from None
