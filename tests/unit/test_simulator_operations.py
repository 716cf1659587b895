"""Test what the simulator supports besides plain chats: tools, schemas, embeddings and responses, field by field.

local/simulator/payloads.py and local/simulator/responses.py name the sources of the payloads.
"""

import array
import base64
import json
import math
from typing import Any

import pytest

from local.simulator.model import value_for
from shared.streaming.sse import EventParser
from tests.support.simulators import CHAT, KEY, Simulators

pytestmark = pytest.mark.anyio

EMBEDDINGS = "/openai/deployments/chat/embeddings?api-version=2024-10-21"
RESPONSES = "/openai/responses?api-version=2025-03-01-preview"
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = [
    {"type": "function", "function": {"name": "time"}},
    {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}},
]


async def answer(simulators: Simulators, path: str, body: Any, status: int = 200) -> Any:
    response = await simulators.chat(path, body)
    assert response.status_code == status, response.text
    return response.json()


class TestTools:
    async def test_a_call(self, simulators: Simulators) -> None:
        choice = {"type": "function", "function": {"name": "weather"}}
        made = (await simulators.chat(body={**CHAT, "tools": TOOLS, "tool_choice": choice})).json()["choices"][0]
        assert made["finish_reason"] == "tool_calls"
        assert made["message"]["content"] is None
        (call,) = made["message"]["tool_calls"]
        assert set(call) == {"function", "id", "type"}
        assert call["function"] == {"name": "weather", "arguments": '{"city": "text"}'}

    async def test_the_first_is_called_when_none_is_chosen_and_none_when_none_may(self, simulators: Simulators) -> None:
        first = (await simulators.chat(body={**CHAT, "tools": TOOLS})).json()["choices"][0]["message"]
        assert first["tool_calls"][0]["function"] == {"name": "time", "arguments": "{}"}
        none = (await simulators.chat(body={**CHAT, "tools": TOOLS, "tool_choice": "none"})).json()["choices"][0]["message"]
        assert none["content"]

    async def test_a_streamed_call(self, simulators: Simulators) -> None:
        response = await simulators.chat(body={**CHAT, "tools": TOOLS[1:], "stream": True})
        _, role, *arguments, end = map(json.loads, EventParser().feed(response.content)[:-1])
        (opened,) = role["choices"][0]["delta"]["tool_calls"]
        assert (opened["index"], opened["type"], opened["function"]) == (0, "function", {"name": "weather", "arguments": ""})
        parts = [chunk["choices"][0]["delta"]["tool_calls"][0] for chunk in arguments]
        assert all(set(part) == {"function", "index"} for part in parts)
        assert "".join(part["function"]["arguments"] for part in parts) == '{"city": "text"}'
        assert end["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "boolean"}}}, {"a": 1, "b": True}),
        ({"type": "array", "items": {"enum": ["x", "y"]}}, ["x"]),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"type": "array", "items": {"$ref": "#/$defs/B"}}, "B": {"const": 3}}}, [3]),
        ({"anyOf": [{"type": "number"}, {"type": "null"}]}, 1.5),
        ({"type": ["string", "null"]}, "text"),
    ],
)
def test_a_value_for_a_schema(schema: dict[str, Any], value: Any) -> None:
    assert value_for(schema, schema) == value


class TestEmbeddings:
    async def test_numbers(self, simulators: Simulators) -> None:
        made = await answer(simulators, EMBEDDINGS, {"input": ["one", "two"], "model": "chat"})
        assert set(made) == {"object", "data", "model", "usage"}
        assert [(item["object"], item["index"]) for item in made["data"]] == [("embedding", 0), ("embedding", 1)]
        one, two = (item["embedding"] for item in made["data"])
        assert (len(one), len(two)) == (1536, 1536)
        assert one != two
        assert math.isclose(sum(number**2 for number in one), 1)
        assert made["usage"] == {"prompt_tokens": 2, "total_tokens": 2}

    async def test_base64_has_the_same_numbers(self, simulators: Simulators) -> None:
        numbers = (await answer(simulators, EMBEDDINGS, {"input": "one", "dimensions": 4}))["data"][0]["embedding"]
        text = (await answer(simulators, EMBEDDINGS, {"input": "one", "dimensions": 4, "encoding_format": "base64"}))[
            "data"
        ][0]
        assert list(array.array("f", base64.b64decode(text["embedding"]))) == pytest.approx(numbers)

    @pytest.mark.parametrize("given", [[1, 2, 3], [[1, 2], [3]]])
    async def test_tokens_are_taken_too(self, simulators: Simulators, given: Any) -> None:
        assert (await answer(simulators, EMBEDDINGS, {"input": given}))["data"]

    @pytest.mark.parametrize("given", [None, "", [], 7, [None]])
    async def test_anything_else_is_refused(self, simulators: Simulators, given: Any) -> None:
        assert (await answer(simulators, EMBEDDINGS, {"input": given}, 400))["error"]

    async def test_an_unknown_encoding_is_refused(self, simulators: Simulators) -> None:
        assert (await answer(simulators, EMBEDDINGS, {"input": "a", "encoding_format": "x"}, 400))["error"]


class TestResponses:
    async def test_one(self, simulators: Simulators) -> None:
        made = await answer(simulators, RESPONSES, {"model": "chat", "input": "Hello", "metadata": {"a": "b"}})
        assert made["id"].startswith("resp_")
        assert (made["object"], made["status"], made["store"]) == ("response", "completed", True)
        assert made["metadata"] == {"a": "b"}
        (item,) = made["output"]
        assert (item["type"], item["role"], item["status"]) == ("message", "assistant", "completed")
        assert item["content"][0]["type"] == "output_text"
        usage = made["usage"]
        assert usage["input_tokens"] + usage["output_tokens"] == usage["total_tokens"]

    async def test_the_events_of_a_stream(self, simulators: Simulators) -> None:
        await simulators.script(reply="one and two")
        response = await simulators.chat(RESPONSES, {"model": "chat", "input": "Hello", "stream": True})
        events = [json.loads(data) for data in EventParser().feed(response.content)]
        assert [event["type"].removeprefix("response.") for event in events] == [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed",
        ]
        assert [event["sequence_number"] for event in events] == list(range(10))
        names = [line[7:] for line in response.text.splitlines() if line.startswith("event: ")]
        assert names == [event["type"] for event in events]
        assert events[0]["response"]["usage"] is None
        assert events[-1]["response"]["usage"]["output_tokens"] == 2
        assert "[DONE]" not in response.text

    async def test_it_can_be_asked_for_until_it_is_deleted(self, simulators: Simulators) -> None:
        made = await answer(simulators, RESPONSES, {"model": "chat", "input": "Hello"})
        path = RESPONSES.replace("responses", f"responses/{made['id']}")
        url = f"{simulators.keyed_url}{path}"
        assert (await simulators.http.get(url, headers={"api-key": KEY})).json() == made
        items = (await simulators.http.get(url.replace("?", "/input_items?"), headers={"api-key": KEY})).json()
        assert items["data"][0]["content"] == [{"type": "input_text", "text": "Hello"}]
        assert (items["first_id"], items["has_more"]) == (items["data"][0]["id"], False)
        deleted = (await simulators.http.delete(url, headers={"api-key": KEY})).json()
        assert deleted == {"id": made["id"], "object": "response", "deleted": True}
        assert (await simulators.http.get(url, headers={"api-key": KEY})).status_code == 404

    async def test_only_one_in_the_background_can_be_cancelled(self, simulators: Simulators) -> None:
        for background, status in ((False, 400), (True, 200)):
            made = await answer(simulators, RESPONSES, {"model": "chat", "input": "Hello", "background": background})
            await answer(simulators, RESPONSES.replace("?", f"/{made['id']}/cancel?"), {}, status)

    async def test_what_is_not_stored_cannot_be_followed(self, simulators: Simulators) -> None:
        made = await answer(simulators, RESPONSES, {"model": "chat", "input": "Hello", "store": False})
        follow = {"model": "chat", "input": "And?", "previous_response_id": made["id"]}
        assert (await answer(simulators, RESPONSES, follow, 400))["error"]["code"] == "previous_response_not_found"

    @pytest.mark.parametrize("body", [{}, {"input": []}, {"input": 7}])
    async def test_an_input_is_needed(self, simulators: Simulators, body: Any) -> None:
        assert (await answer(simulators, RESPONSES, {"model": "chat", **body}, 400))["error"]["param"] == "input"

    async def test_an_unknown_model_is_refused(self, simulators: Simulators) -> None:
        assert (await answer(simulators, RESPONSES, {"input": "a"}, 404))["error"]["code"] == "DeploymentNotFound"

    @pytest.mark.parametrize(
        "path",
        [
            "/openai/responses?api-version=2024-10-21",
            "/openai/deployments/chat/responses?api-version=2025-03-01-preview",
            "/openai/responses",
            "/openai/responses/resp_1/else?api-version=2025-03-01-preview",
        ],
    )
    async def test_other_paths_do_not_exist(self, simulators: Simulators, path: str) -> None:
        assert (await answer(simulators, path, {"model": "chat", "input": "a"}, 404))["error"][
            "message"
        ] == "Resource not found"


async def test_a_raw_answer_goes_out_as_it_is_in_small_writes(simulators: Simulators) -> None:
    await simulators.script(raw=" ü\n", split=1, status=201, headers={"content-type": "text/odd"})
    response = await simulators.chat()
    assert (response.status_code, response.content, response.headers["content-type"]) == (201, " ü\n".encode(), "text/odd")
