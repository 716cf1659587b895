"""Simulate the generation and the edits of images.

The payloads: https://platform.openai.com/docs/api-reference/images and .../docs/api-reference/images-streaming. Azure's
(generateImagesResponse in the specification of 2025-04-01-preview, and ImageGenCompletedEvent in that of v1) have the same
fields: https://github.com/Azure/azure-rest-api-specs.
"""

import base64
import hashlib
import json
import struct
import time
import zlib

from local.simulator import forms, payloads
from local.simulator.forms import Part
from local.simulator.payloads import ErrorResponse, Event, Json, Payload

MAX_IMAGES = 10
MAX_PARTIAL_IMAGES = 3
# Tokens of one image, of medium quality if it is an output.
INPUT_TOKENS = 323
OUTPUT_TOKENS = 1056
PARTIAL_TOKENS = 100
# The width and the height of the images in pixels, whatever the size that they claim.
SIDE = 8


def generate(body: Json, script: Json) -> Payload:
    """Return the images that `body` requests."""
    return create("image_generation", body, 0, script)


def edit(parts: list[Part], script: Json) -> Payload:
    """Return the edited images that the form requests. It needs at least one image, and can have a mask."""
    images = [part for part in parts if part.name in ("image", "image[]") and part.filename is not None]
    if not images:
        raise ErrorResponse(400, payloads.missing_parameter("image"))
    return create("image_edit", forms.fields(parts), len(images), script)


def create(name: str, fields: Json, inputs: int, script: Json) -> Payload:
    """Return the images, or the events of a stream whose names begin with `name`. The request has `inputs` images."""
    prompt = fields.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise ErrorResponse(400, payloads.missing_parameter("prompt"))
    number = payloads.bounded(fields, "n", 1, 1, MAX_IMAGES)
    partial_images = payloads.bounded(fields, "partial_images", 0, 0, MAX_PARTIAL_IMAGES)
    created = int(time.time())
    defaults = {"background": "opaque", "output_format": "png", "quality": "medium", "size": "1024x1024"}
    common = {name: fields.get(name) or default for name, default in defaults.items()}
    text_tokens = len(prompt) // 4 + 1
    input_tokens = text_tokens + inputs * INPUT_TOKENS
    output_tokens = number * OUTPUT_TOKENS + partial_images * PARTIAL_TOKENS
    usage = {
        "input_tokens": input_tokens,
        "input_tokens_details": {"image_tokens": inputs * INPUT_TOKENS, "text_tokens": text_tokens},
        "output_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }
    usage = payloads.scripted_usage(usage, script)
    # The fields of a form are texts.
    if fields.get("stream") not in (True, "true"):
        if error := script.get("error"):
            return payloads.stream_error(error)
        data = [{"b64_json": image(prompt, index)} for index in range(number)]
        return {"created": created, **common, "data": data, "usage": usage}
    common["created_at"] = created
    events = [
        encode({"type": f"{name}.partial_image", "b64_json": image(prompt, index), "partial_image_index": index, **common})
        for index in range(partial_images)
    ]
    last = {"type": f"{name}.completed", "b64_json": image(prompt, partial_images), **common, "usage": usage}
    return payloads.end_with_error([*events, encode(last)], script)


def encode(event: Json) -> Event:
    return Event(json.dumps(event), name=event["type"], has_output=True, usage=event.get("usage"))


def image(prompt: str, index: int) -> str:
    """Return a PNG of one colour in base64. The colour depends on `prompt` and `index`."""
    colour = hashlib.sha256(f"{index} {prompt}".encode()).digest()[:3]
    # Each row begins with the number of its filter: 0 for none.
    rows = (b"\0" + colour * SIDE) * SIDE
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return base64.b64encode(png).decode()
