"""Read a form with files, and build a new one for Azure, so that nothing of the caller's own encoding reaches Azure."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import IO

import httpx2
from azurefunctions.extensions.http.fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from shared.errors import BadRequest
from shared.openai_api.request_body import chunks, reading
from shared.settings import Settings
from shared.upstream.request import FormBody
from shared.upstream.response_headers import is_header_safe

CONTENT_TYPE = "multipart/form-data"
MOST_FIELDS = 100
# Azure takes 16 images and a mask.
MOST_FILES = 20
# Others might be decoded by Azure, for example `=?utf-8?B?bW9kZWw=?=` by .NET, to a second model.
NAME = re.compile(r"[\w.\[\]-]{1,100}", re.ASCII)
# Other spellings under which Azure might find a model that nobody has checked.
LIKE_MODEL = re.compile(r"[\W\d_]*model[\W\d_]*", re.IGNORECASE)


class Form:
    """Hold a form's fields, as texts, and its files. Files of more than 1 MB are on disk.

    Raise `BadRequest` if a field has an unusual name, and if there is a second `model`, one in another spelling, or one that
    is a file.
    """

    def __init__(self, parts: list[tuple[str, str | UploadFile]]) -> None:
        self.parts = parts
        models = [(name, value) for name, value in parts if LIKE_MODEL.fullmatch(name)]
        if any(name != "model" for name, _ in models):
            raise BadRequest("The field 'model' must have exactly this name.", param="model")
        if len(models) > 1 or any(isinstance(value, UploadFile) for _, value in models):
            raise BadRequest("'model' must be one field with the name of a model.", param="model")
        if not all(NAME.fullmatch(name) for name, _ in parts):
            raise BadRequest("The names of the form's fields must consist of letters, digits and _.-[].")

    def text(self, name: str) -> str:
        """Return the first field `name`, empty if it is a file or absent."""
        return next((value for key, value in self.parts if key == name and isinstance(value, str)), "")

    def encode(self, deployment: str) -> FormBody:
        """Return a form with the same parts, encoded anew, and with the model `deployment`."""
        others = (part(name, value) for name, value in self.parts if name != "model")
        files: list[Part] = [("model", (None, deployment, None)), *others]
        return FormBody(httpx2.Request("POST", "/", files=files))


type Part = tuple[str, tuple[str | None, IO[bytes] | bytes | str, str | None]]


def part(name: str, value: str | UploadFile) -> Part:
    """Return a part of the form in the format of httpx2. Fields have no file name."""
    if isinstance(value, str):
        return name, (None, value, None)
    given = value.content_type or ""
    # Without a type, httpx2 would guess one from the name, and fail at some names.
    content_type = given if given and is_header_safe(given) else "application/octet-stream"
    is_small = (value.size or 0) <= MultiPartParser.spool_max_size
    # httpx2 would ask a file for its descriptor, which moves it from memory to the disk.
    return name, (value.filename, value.file.read() if is_small else value.file, content_type)


class WholeForm(MultiPartParser):
    """Notice the end of the form, after which nothing is missing."""

    is_whole = False

    def on_end(self) -> None:
        self.is_whole = True


async def taking_turns(body: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Yield the chunks of `body`, and give way to other calls after each, because parsing takes time."""
    async for chunk in body:
        yield chunk
        await asyncio.sleep(0)


@asynccontextmanager
async def form_in(request: Request, settings: Settings) -> AsyncIterator[Form]:
    """Read the form in the request's body, and remove its files at the end of the context.

    Raise `BadRequest`, and what `reading` and `chunks` raise.
    """
    content_type, options = parse_options_header(request.headers.get("content-type"))
    if content_type.decode("latin-1") != CONTENT_TYPE:
        raise BadRequest(f"The request's body must be {CONTENT_TYPE}.")
    if options.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8"):
        # Some of Python's codecs take minutes for a field.
        raise BadRequest("The form must be UTF-8.")
    async with reading(request, settings):
        body = chunks(request, settings.max_upload_bytes)
        parser = WholeForm(request.headers, taking_turns(body), max_files=MOST_FILES, max_fields=MOST_FIELDS)
        try:
            data = await parser.parse()
        except MultiPartException as exc:
            async for _ in body:
                pass
            raise BadRequest(f"The request's body must be {CONTENT_TYPE}, but it cannot be read: {exc.message}") from None
    try:
        if not parser.is_whole:
            raise BadRequest(f"The request's body must be {CONTENT_TYPE}, but its end is missing.")
        yield Form(data.multi_items())
    finally:
        await data.close()
