"""Read forms (multipart/form-data) part by part, and keep a description of each part instead of its content."""

import hashlib
from dataclasses import dataclass

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from local.simulator.payloads import Json

CHUNK_SIZE = 1 << 16
# What aiohttp raises for a malformed form. It warns of some headers, and Python can turn warnings into errors.
FORM_ERRORS = (AssertionError, HttpProcessingError, RuntimeError, ValueError, Warning)


@dataclass(frozen=True)
class Part:
    """Describe one part of a form."""

    name: str
    filename: str | None
    content_type: str | None
    size: int
    """The number of bytes of the content."""
    sha256: str
    """The hash of the content in hexadecimal digits."""
    value: str | None
    """The text of a part without a file name."""


async def read_form(request: web.Request) -> list[Part] | None:
    """Return the parts of the form in the body, or None if the body is malformed. In both cases, read all of it."""
    parts = []
    try:
        reader = await request.multipart()
        while part := await reader.next():
            if not isinstance(part, BodyPartReader) or part.name is None:
                raise ValueError("The part has other parts in it, or no name.")
            parts.append(await read_part(part.name, part))
    except FORM_ERRORS:
        async for _ in request.content.iter_chunked(CHUNK_SIZE):
            pass
        return None
    return parts


async def read_part(name: str, part: BodyPartReader) -> Part:
    digest, size, text = hashlib.sha256(), 0, bytearray()
    while chunk := await part.read_chunk(CHUNK_SIZE):
        digest.update(chunk)
        size += len(chunk)
        if part.filename is None:
            text += chunk
    value = text.decode(errors="replace") if part.filename is None else None
    return Part(name, part.filename, part.headers.get("content-type"), size, digest.hexdigest(), value)


def fields(parts: list[Part]) -> Json:
    """Return the texts in the form by their names. The last one of a name counts."""
    return {part.name: part.value for part in parts if part.value is not None}
