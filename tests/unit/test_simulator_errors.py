"""Test the errors that the simulator of Azure OpenAI sends after the status 200, and the faults around them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from shared.streaming.sse import EventParser
from tests.support.processes import Json
from tests.support.simulators import CHAT, DATED, KEY, V1, Simulators

pytestmark = pytest.mark.anyio

RESPONSES = "/openai/v1/responses"
PATHS = [DATED, V1, RESPONSES]
BODY = {**CHAT, "model": "chat", "input": "Hello"}
ERROR = {"code": "rate_limit_exceeded", "message": "Slow down."}
STARTED = ["response.created", "response.in_progress"]
ITEM = ["response.output_item.added", "response.content_part.added"]
DELTA = "response.output_text.delta"
MESSAGES: Any = CHAT["messages"]


@pytest.fixture
async def client(simulators: Simulators) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{simulators.keyed_url}/openai/v1", api_key=KEY, max_retries=0) as client:
        yield client


async def stream(simulators: Simulators, path: str, **script: Any) -> list[Json]:
    """Return the JSON events of a stream with `script`."""
    await simulators.script(reply="one and two and three", **script)
    response = await simulators.chat(path, {**BODY, "stream": True})
    assert response.status_code == 200
    assert "[DONE]" not in response.text
    return [json.loads(data) for data in EventParser().feed(response.content)]


class TestStreamsOfChats:
    async def test_an_error_follows_the_filter_results_of_the_prompt(self, simulators: Simulators) -> None:
        first, error = await stream(simulators, DATED, error=ERROR)
        assert first["choices"] == []
        assert error == {"error": {**ERROR, "type": None, "param": None}}

    @pytest.mark.parametrize(("after", "sent"), [(1, ["one and"]), (2, ["one and", " two and"]), (9, 3)])
    async def test_an_error_follows_so_many_chunks_of_output(self, simulators: Simulators, after: int, sent: Any) -> None:
        *chunks, error = await stream(simulators, V1, error=ERROR, after=after)
        output = [chunk["choices"][0]["delta"]["content"] for chunk in chunks[2:]]
        assert sent in (output, len(output))
        assert error["error"]["code"] == "rate_limit_exceeded"

    async def test_the_sdk_raises_the_error(self, simulators: Simulators, client: openai.AsyncOpenAI) -> None:
        await simulators.script(error=ERROR, after=1, reply="one and two")
        chunks = await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError, match="Slow down") as raised:
            [chunk async for chunk in chunks]
        assert raised.value.code == "rate_limit_exceeded"


class TestStreamsOfResponses:
    async def test_an_error_follows_a_failed_response_without_a_reason(self, simulators: Simulators) -> None:
        events = await stream(simulators, RESPONSES, error=ERROR)
        assert [event["type"] for event in events] == [*STARTED, "response.failed", "error"]
        assert [event["sequence_number"] for event in events] == [0, 1, 2, 3]
        failed, error = events[-2:]
        response = failed["response"]
        assert (response["status"], response["error"], response["output"]) == ("failed", None, [])
        assert error == {"type": "error", "sequence_number": 3, **ERROR, "param": None}

    async def test_an_error_follows_so_many_chunks_of_output(self, simulators: Simulators) -> None:
        events = await stream(simulators, RESPONSES, error=ERROR, after=2)
        assert [event["type"] for event in events] == [*STARTED, *ITEM, DELTA, DELTA, "response.failed", "error"]

    async def test_the_failed_response_can_be_left_out(self, simulators: Simulators) -> None:
        events = await stream(simulators, RESPONSES, error=ERROR, failed=False)
        assert [event["type"] for event in events] == [*STARTED, "error"]

    async def test_the_failed_response_can_carry_the_reason(self, simulators: Simulators) -> None:
        events = await stream(simulators, RESPONSES, error=ERROR, failed={"code": "server_error", "message": "Sorry."})
        assert [event["type"] for event in events] == [*STARTED, "response.failed"]
        assert events[-1]["response"]["error"] == {"code": "server_error", "message": "Sorry."}

    async def test_the_reason_can_be_nested(self, simulators: Simulators) -> None:
        error = (await stream(simulators, RESPONSES, error=ERROR, nested=True))[-1]
        assert error == {"type": "error", "sequence_number": 3, "error": {**ERROR, "type": None, "param": None}}

    async def test_the_sdk_reads_the_events(self, simulators: Simulators, client: openai.AsyncOpenAI) -> None:
        await simulators.script(error=ERROR)
        events = [event async for event in await client.responses.create(model="chat", input="Hello", stream=True)]
        assert [event.type for event in events] == [*STARTED, "response.failed", "error"]
        failed, error = events[-2:]
        assert failed.type == "response.failed"
        assert failed.response.error is None
        assert error.type == "error"
        assert (error.code, error.message) == ("rate_limit_exceeded", "Slow down.")
        assert (await client.responses.retrieve(failed.response.id)).status == "failed"


class TestWithoutAStream:
    async def test_a_chat_is_an_error_with_status_200(self, simulators: Simulators) -> None:
        await simulators.script(error=ERROR)
        response = await simulators.chat()
        assert response.status_code == 200
        assert response.json() == {"error": {**ERROR, "type": None, "param": None}}

    async def test_a_response_has_failed(self, simulators: Simulators, client: openai.AsyncOpenAI) -> None:
        await simulators.script(error=ERROR)
        response = await client.responses.create(model="chat", input="Hello")
        assert (response.status, response.output, response.usage) == ("failed", [], None)
        assert response.error
        assert (response.error.code, response.error.message) == ("rate_limit_exceeded", "Slow down.")


class TestHeaders:
    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize("script", [{}, {"error": ERROR}, {"status": 503}, {"raw": "text"}])
    @pytest.mark.parametrize("streamed", [False, True])
    async def test_headers_are_added_to_every_response(
        self, simulators: Simulators, path: str, script: Json, streamed: bool
    ) -> None:
        await simulators.script(**script, headers={"Retry-After": "7", "X-MS-Region": "Elsewhere"})
        headers = (await simulators.chat(path, {**BODY, "stream": streamed})).headers
        assert headers["retry-after"] == "7"
        # A header of the script replaces Azure's own.
        assert headers.get_list("x-ms-region") == ["Elsewhere"]


class TestSilence:
    @pytest.mark.parametrize(
        ("script", "before", "after"),
        [
            ({}, b'"role"', b"one and"),
            ({"error": ERROR}, b"prompt_filter_results", b"rate_limit_exceeded"),
            ({"error": ERROR, "after": 1}, b'"role"', b"one and"),
            ({"stream": False}, b"\r\n\r\n", b"one and"),
            ({"stream": False, "status": 500}, b"\r\n\r\n", b"Scripted"),
            ({"stream": False, "raw": "one and two"}, b"\r\n\r\n", b"one and"),
        ],
    )
    async def test_it_comes_before_the_output(
        self, simulators: Simulators, script: Json, before: bytes, after: bytes
    ) -> None:
        streamed = script.get("stream", True)
        await simulators.script(**script, reply="one and two", silence=60)
        reader, writer = await simulators.raw_chat(stream=streamed)
        await reader.readuntil(before)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.readuntil(after)
        writer.close()
        await simulators.script(**script, reply="one and two", silence=0.2)
        started = time.monotonic()
        reader, writer = await simulators.raw_chat(stream=streamed)
        await reader.readuntil(after)
        assert time.monotonic() - started >= 0.2
        writer.close()
