"""Test the images of the simulator of Azure OpenAI with the SDK. local/simulator/images.py names the sources."""

import base64
import struct
import zlib
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.support.simulators import KEY, Simulators

pytestmark = pytest.mark.anyio

V1 = "/openai/v1/images/"
IMAGES: Any = [("one.png", b"first", "image/png"), ("two.png", b"second", "image/png")]
ERROR = {"code": "moderation_blocked", "message": "Not this one."}


@pytest.fixture(params=["v1", "2025-04-01-preview"])
async def images(simulators: Simulators, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    async with simulators.client(request.param) as client:
        yield client.images


def pixels(encoded: str) -> bytes:
    """Return the pixels of a PNG with 8 bits of each of three colours, after a check of every checksum."""
    png = base64.b64decode(encoded)
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, position = {}, 8
    while position < len(png):
        (length,) = struct.unpack_from(">I", png, position)
        name, data = png[position + 4 : position + 8], png[position + 8 : position + 8 + length]
        assert struct.unpack_from(">I", png, position + 8 + length) == (zlib.crc32(name + data),)
        chunks[name] = data
        position += length + 12
    width, height, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert rest == [8, 2, 0, 0, 0]
    rows = zlib.decompress(chunks[b"IDAT"])
    assert len(rows) == (width * 3 + 1) * height
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    return rows


class TestGenerations:
    async def test_as_many_images_as_requested_come_with_their_usage(self, images: Any) -> None:
        result = await images.generate(model="chat", prompt="A cat, please", n=3, quality="low")
        assert len({pixels(image.b64_json) for image in result.data}) == 3
        assert (result.quality, result.size, result.output_format) == ("low", "1024x1024", "png")
        usage = result.usage
        assert (usage.input_tokens, usage.input_tokens_details.text_tokens, usage.input_tokens_details.image_tokens) == (
            4,
            4,
            0,
        )
        assert usage.total_tokens == usage.input_tokens + usage.output_tokens
        assert usage.output_tokens > 0

    @pytest.mark.parametrize("partial_images", [0, 1, 3])
    async def test_a_stream_has_partial_images_and_the_last_one(self, images: Any, partial_images: int) -> None:
        stream = await images.generate(model="chat", prompt="A cat", stream=True, partial_images=partial_images)
        *partial, last = [event async for event in stream]
        assert [(event.type, event.partial_image_index) for event in partial] == [
            ("image_generation.partial_image", index) for index in range(partial_images)
        ]
        assert last.type == "image_generation.completed"
        assert len({pixels(event.b64_json) for event in (*partial, last)}) == partial_images + 1
        assert last.usage.total_tokens == last.usage.input_tokens + last.usage.output_tokens

    async def test_an_error_can_follow_an_image(self, simulators: Simulators, images: Any) -> None:
        await simulators.script(error=ERROR, after=1)
        stream = await images.generate(model="chat", prompt="A cat", stream=True, partial_images=3)
        assert (await anext(stream)).type == "image_generation.partial_image"
        with pytest.raises(openai.APIError, match="Not this one") as raised:
            await anext(stream)
        assert raised.value.code == "moderation_blocked"

    async def test_a_stream_can_be_cut_between_images(self, simulators: Simulators, images: Any) -> None:
        await simulators.script(cut=2)
        stream = await images.generate(model="chat", prompt="A cat", stream=True, partial_images=3)
        for _ in range(2):
            await anext(stream)
        with pytest.raises(openai.APIConnectionError):
            await anext(stream)
        assert simulators.keyed.journal.entries[0].chunks == 2

    @pytest.mark.parametrize(
        ("fields", "param"),
        [({}, "prompt"), ({"prompt": "a", "n": 11}, "n"), ({"prompt": "a", "partial_images": 4}, "partial_images")],
    )
    async def test_invalid_fields_are_rejected(self, simulators: Simulators, fields: Any, param: str) -> None:
        response = await simulators.chat(f"{V1}generations", {"model": "chat", **fields})
        assert (response.status_code, response.json()["error"]["param"]) == (400, param)


class TestEdits:
    @pytest.mark.parametrize("given", [IMAGES, IMAGES[0]])
    async def test_each_image_of_the_form_is_received(self, simulators: Simulators, images: Any, given: Any) -> None:
        result = await images.edit(model="chat", prompt="Hats", image=given, mask=IMAGES[1], n=2)
        assert len({pixels(image.b64_json) for image in result.data}) == 2
        (entry,) = simulators.keyed.journal.entries
        assert entry.parts
        received = [part for part in entry.parts if part.name in ("image", "image[]")]
        sent = given if isinstance(given, list) else [given]
        assert [(part.filename, part.size, part.content_type) for part in received] == [
            (name, len(content), content_type) for name, content, content_type in sent
        ]
        assert result.usage.input_tokens_details.image_tokens == 323 * len(sent)
        assert [part.filename for part in entry.parts if part.name == "mask"] == ["two.png"]
        assert entry.usage == result.usage.to_dict()

    async def test_a_stream_has_partial_images_and_the_last_one(self, images: Any) -> None:
        stream = await images.edit(model="chat", prompt="Hats", image=IMAGES, stream=True, partial_images=1)
        first, last = [event async for event in stream]
        assert (first.type, last.type) == ("image_edit.partial_image", "image_edit.completed")
        assert last.usage.input_tokens_details.image_tokens == 646

    @pytest.mark.parametrize(
        ("files", "param"),
        [
            ({"other": ("a.png", b"a")}, "image"),
            ({"image": (None, b"text")}, "image"),
            ({"image": ("a.png", b"a")}, "prompt"),
        ],
    )
    async def test_an_image_and_a_prompt_are_required(self, simulators: Simulators, files: Any, param: str) -> None:
        form = {"model": "chat"} if param == "prompt" else {"model": "chat", "prompt": "Hats"}
        url = f"{simulators.keyed_url}{V1}edits"
        response = await simulators.http.post(url, data=form, files=files, headers={"api-key": KEY})
        assert response.status_code == 400
        assert response.json()["error"] == {
            "code": "missing_required_parameter",
            "message": f"Missing required parameter: '{param}'.",
            "type": "invalid_request_error",
            "param": param,
        }
