"""Test what the simulator supports besides plain chats: tools, schemas, choices and embeddings.

The modules of local/simulator name the sources of the payloads.
"""

import array
import base64
import json
import math
import time
from typing import Any

import openai
import pytest

from local.simulator.model import value_for
from shared.streaming.sse import EventParser
from tests.support.simulators import CHAT, DATED, Simulators

pytestmark = pytest.mark.anyio

EMBEDDINGS = "/openai/deployments/chat/embeddings?api-version=2024-10-21"
COMPLETIONS = "/openai/deployments/chat/completions?api-version=2024-10-21"
V1 = "/openai/v1/responses"
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = [
    {"type": "function", "function": {"name": "time"}},
    {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}},
]


async def post(simulators: Simulators, path: str, body: Any, status: int = 200) -> Any:
    response = await simulators.chat(path, body)
    assert response.status_code == status, response.text
    return response.json()


class TestTools:
    async def test_the_chosen_tool_is_called(self, simulators: Simulators) -> None:
        choice = {"type": "function", "function": {"name": "weather"}}
        completion = (await simulators.chat(body={**CHAT, "tools": TOOLS, "tool_choice": choice})).json()
        result = completion["choices"][0]
        assert result["finish_reason"] == "tool_calls"
        assert result["message"]["content"] is None
        (call,) = result["message"]["tool_calls"]
        assert set(call) == {"function", "id", "type"}
        assert call["function"] == {"name": "weather", "arguments": '{"city": "text"}'}

    async def test_the_first_tool_is_called_by_default_and_none_if_the_request_forbids_it(
        self, simulators: Simulators
    ) -> None:
        first = (await simulators.chat(body={**CHAT, "tools": TOOLS})).json()["choices"][0]["message"]
        assert first["tool_calls"][0]["function"] == {"name": "time", "arguments": "{}"}
        none = (await simulators.chat(body={**CHAT, "tools": TOOLS, "tool_choice": "none"})).json()["choices"][0]["message"]
        assert none["content"]

    async def test_a_tool_call_can_be_streamed(self, simulators: Simulators) -> None:
        response = await simulators.chat(body={**CHAT, "tools": TOOLS[1:], "stream": True})
        _, role, *arguments, end = map(json.loads, EventParser().feed(response.content)[:-1])
        (first,) = role["choices"][0]["delta"]["tool_calls"]
        assert (first["index"], first["type"], first["function"]) == (0, "function", {"name": "weather", "arguments": ""})
        parts = [chunk["choices"][0]["delta"]["tool_calls"][0] for chunk in arguments]
        assert all(set(part) == {"function", "index"} for part in parts)
        assert "".join(part["function"]["arguments"] for part in parts) == '{"city": "text"}'
        assert end["choices"][0]["finish_reason"] == "tool_calls"


class TestAgents:
    """Test that a result of a tool ends the loop of an agent, unless the request demands another call."""

    RESULT = [
        *CHAT["messages"],
        {"role": "assistant", "tool_calls": []},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]

    @pytest.mark.parametrize(
        ("messages", "choice", "calls"),
        [
            (CHAT["messages"], "auto", True),
            (RESULT, "auto", False),
            (RESULT, None, False),
            (RESULT, "required", True),
            (RESULT, {"type": "function", "function": {"name": "weather"}}, True),
            ([*RESULT, {"role": "assistant", "content": "It is sunny."}, *CHAT["messages"]], "auto", True),
            ([*RESULT, {"role": "system", "content": "Be brief."}], "auto", False),
        ],
    )
    async def test_a_tool_is_called_before_its_result_only(
        self, simulators: Simulators, messages: Any, choice: Any, calls: bool
    ) -> None:
        body = {"messages": messages, "tools": TOOLS, "tool_choice": choice}
        assert bool((await post(simulators, DATED, body))["choices"][0]["message"].get("tool_calls")) == calls


class TestChoices:
    @pytest.mark.parametrize("version", ["v1", "2024-10-21"])
    async def test_a_chat_has_as_many_choices_as_requested(self, simulators: Simulators, version: str) -> None:
        await simulators.script(reply="one and two")
        async with simulators.client(version) as client:
            completion = await client.chat.completions.create(model="chat", n=2, **CHAT)
        assert [(choice.index, choice.message.content) for choice in completion.choices] == [
            (0, "one and two"),
            (1, "one and two"),
        ]
        assert completion.usage
        assert completion.usage.completion_tokens == 4

    async def test_the_choices_of_a_streamed_chat_have_their_indexes(self, simulators: Simulators) -> None:
        await simulators.script(reply="one and two")
        async with simulators.client("v1") as client, client.chat.completions.stream(model="chat", n=2, **CHAT) as stream:
            completion = await stream.get_final_completion()
        assert [(choice.index, choice.message.content) for choice in completion.choices] == [
            (0, "one and two"),
            (1, "one and two"),
        ]
        assert {choice.finish_reason for choice in completion.choices} == {"stop"}

    @pytest.mark.parametrize("body", [{"n": 0}, {"n": 129}, {"logprobs": True, "top_logprobs": 21}])
    async def test_the_numbers_of_choices_and_of_alternatives_are_limited(self, simulators: Simulators, body: Any) -> None:
        assert (await post(simulators, DATED, {**CHAT, **body}, 400))["error"]["param"] in body

    @pytest.mark.parametrize("stream", [False, True])
    async def test_the_probabilities_of_tokens_come_on_request(self, simulators: Simulators, stream: bool) -> None:
        await simulators.script(reply="one and two")
        async with simulators.client("v1") as client:
            created: Any = await client.chat.completions.create(
                model="chat", logprobs=True, top_logprobs=2, stream=stream, **CHAT
            )
            parts = [part async for part in created if part.choices] if stream else [created]
        tokens = [
            token for part in parts for token in (part.choices[0].logprobs.content if part.choices[0].logprobs else ())
        ]
        assert [token.token for token in tokens] == ["one and", " two"]
        assert {len(token.top_logprobs) for token in tokens} == {2}
        assert bytes(tokens[1].bytes) == b" two"

    async def test_a_completion_has_choices_for_each_prompt(self, simulators: Simulators) -> None:
        async with simulators.client("v1") as client:
            completion = await client.completions.create(model="chat", prompt=["Hello", "And?"], n=2, logprobs=1)
        assert [choice.index for choice in completion.choices] == [0, 1, 2, 3]
        assert ["And?" in choice.text for choice in completion.choices] == [False, False, True, True]
        logprobs = completion.choices[3].logprobs
        assert logprobs
        assert logprobs.tokens
        assert "".join(logprobs.tokens) == completion.choices[3].text
        assert len(logprobs.tokens) == len(logprobs.text_offset or []) == len(logprobs.token_logprobs or [])

    async def test_the_choices_of_a_streamed_completion_have_their_indexes(self, simulators: Simulators) -> None:
        await simulators.script(reply="one and two")
        async with simulators.client("v1") as client:
            stream = await client.completions.create(model="chat", prompt="Hello", n=2, stream=True)
            choices = [chunk.choices[0] async for chunk in stream if chunk.choices]
        assert ["".join(choice.text for choice in choices if choice.index == index) for index in (0, 1)] == [
            "one and two"
        ] * 2
        assert [choice.index for choice in choices if choice.finish_reason] == [0, 1]


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
def test_a_generated_value_fits_its_schema(schema: dict[str, Any], value: Any) -> None:
    assert value_for(schema, schema) == value


class TestCompletions:
    """Compare with createCompletionResponse in Azure's specification: local/simulator/completions.py names it."""

    async def test_a_completion_has_azures_fields(self, simulators: Simulators) -> None:
        await simulators.script(reply="one and two")
        completion = await post(simulators, COMPLETIONS, {"prompt": "Hello there"})
        assert completion["id"].startswith("cmpl-")
        assert (completion["object"], completion["model"]) == ("text_completion", "chat-2026-11-01")
        (choice,) = completion["choices"]
        assert set(choice) == {"content_filter_results", "finish_reason", "index", "logprobs", "text"}
        assert (choice["text"], choice["finish_reason"], choice["index"]) == ("one and two", "stop", 0)
        usage = completion["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (4, 2, 6)

    @pytest.mark.parametrize("include_usage", [True, False])
    async def test_a_stream_has_the_texts_in_order(self, simulators: Simulators, include_usage: bool) -> None:
        await simulators.script(reply="one and two")
        options = {"stream_options": {"include_usage": True}} if include_usage else {}
        response = await simulators.chat(COMPLETIONS, {"prompt": "Hello", "stream": True, **options})
        *events, done = EventParser().feed(response.content)
        assert done == b"[DONE]"
        first, *chunks, end = map(json.loads, events[: -1 if include_usage else None])
        assert (first["choices"], bool(first["prompt_filter_results"])) == ([], True)
        assert [chunk["choices"][0]["text"] for chunk in chunks] == ["one and", " two"]
        assert (end["choices"][0]["text"], end["choices"][0]["finish_reason"]) == ("", "stop")
        assert {("usage" in chunk, chunk.get("usage")) for chunk in (*chunks, end)} == {(include_usage, None)}
        if include_usage:
            last = json.loads(events[-1])
            assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 2)

    async def test_an_error_can_follow_the_first_output_of_a_stream(self, simulators: Simulators) -> None:
        await simulators.script(reply="one and two", error={"message": "Sorry."}, after=1)
        response = await simulators.chat(COMPLETIONS, {"prompt": "Hello", "stream": True})
        _, chunk, error = map(json.loads, EventParser().feed(response.content))
        assert chunk["choices"][0]["text"] == "one and"
        assert error == {"error": {"code": None, "message": "Sorry.", "type": None, "param": None}}

    @pytest.mark.parametrize("given", [["Hello", "And"], [1, 2, 3], [[1, 2], [3]]])
    async def test_lists_are_accepted_as_a_prompt(self, simulators: Simulators, given: Any) -> None:
        assert (await post(simulators, COMPLETIONS, {"prompt": given}))["choices"][0]["text"]

    @pytest.mark.parametrize("body", [{}, {"prompt": ""}, {"prompt": []}, {"prompt": 7}])
    async def test_a_prompt_is_required(self, simulators: Simulators, body: Any) -> None:
        assert (await post(simulators, COMPLETIONS, body, 400))["error"]["param"] == "prompt"


class TestEmbeddings:
    async def test_embeddings_are_unit_vectors_of_numbers(self, simulators: Simulators) -> None:
        embeddings = await post(simulators, EMBEDDINGS, {"input": ["one", "two"], "model": "chat"})
        assert set(embeddings) == {"object", "data", "model", "usage"}
        assert [(item["object"], item["index"]) for item in embeddings["data"]] == [("embedding", 0), ("embedding", 1)]
        one, two = (item["embedding"] for item in embeddings["data"])
        assert (len(one), len(two)) == (1536, 1536)
        assert one != two
        assert math.isclose(sum(number**2 for number in one), 1)
        assert embeddings["usage"] == {"prompt_tokens": 2, "total_tokens": 2}

    async def test_base64_has_the_same_numbers(self, simulators: Simulators) -> None:
        body = {"input": "one", "dimensions": 4}
        numbers = (await post(simulators, EMBEDDINGS, body))["data"][0]["embedding"]
        text = (await post(simulators, EMBEDDINGS, {**body, "encoding_format": "base64"}))["data"][0]["embedding"]
        assert list(array.array("f", base64.b64decode(text))) == pytest.approx(numbers)

    @pytest.mark.parametrize("given", [[1, 2, 3], [[1, 2], [3]]])
    async def test_tokens_are_accepted_as_input(self, simulators: Simulators, given: Any) -> None:
        assert (await post(simulators, EMBEDDINGS, {"input": given}))["data"]

    @pytest.mark.parametrize("given", [None, "", [], 7, [None]])
    async def test_other_input_is_rejected(self, simulators: Simulators, given: Any) -> None:
        assert (await post(simulators, EMBEDDINGS, {"input": given}, 400))["error"]

    async def test_an_unknown_encoding_is_rejected(self, simulators: Simulators) -> None:
        assert (await post(simulators, EMBEDDINGS, {"input": "a", "encoding_format": "x"}, 400))["error"]


@pytest.mark.parametrize(
    ("path", "name", "details"),
    [
        ("/openai/v1/chat/completions", "prompt_tokens", {"completion_tokens_details": {"reasoning_tokens": 64}}),
        ("/openai/v1/completions", "prompt_tokens", {"prompt_tokens_details": {"cached_tokens": 128}}),
        ("/openai/v1/embeddings", "prompt_tokens", {}),
        ("/openai/v1/responses", "input_tokens", {"input_tokens_details": {"cached_tokens": 128}}),
        ("/openai/v1/responses/compact", "input_tokens", {"output_tokens_details": {"reasoning_tokens": 64}}),
        ("/openai/v1/images/generations", "input_tokens", {"input_tokens_details": {"image_tokens": 7}}),
    ],
)
async def test_the_usage_can_be_scripted(simulators: Simulators, path: str, name: str, details: Any) -> None:
    body = {"model": "chat", **CHAT, "prompt": "Hello", "input": "Hello"}
    usual = (await post(simulators, path, body))["usage"]
    await simulators.script(usage={name: 1000, **details})
    changed = (await post(simulators, path, body))["usage"]
    # Numbers of the details that the script leaves out stay.
    nested = {part: usual[part] | numbers for part, numbers in details.items()}
    # The length of a reply can differ, and so the tokens of the output and the total.
    for part in ("completion_tokens", "output_tokens", "total_tokens"):
        usual.pop(part, None)
        changed.pop(part, None)
    assert changed == usual | {name: 1000} | nested


async def test_the_usage_of_a_stream_can_be_scripted(simulators: Simulators) -> None:
    usage = {"output_tokens_details": {"reasoning_tokens": 64}}
    await simulators.script(usage=usage)
    response = await simulators.chat(V1, {"model": "chat", "input": "Hello", "stream": True})
    last = json.loads(EventParser().feed(response.content)[-1])
    assert last["response"]["usage"]["output_tokens_details"] == {"reasoning_tokens": 64}


async def test_a_raw_response_is_sent_unchanged_in_small_writes(simulators: Simulators) -> None:
    await simulators.script(raw=" ü\n", split=1, status=201, headers={"content-type": "text/odd"})
    response = await simulators.chat()
    assert (response.status_code, response.content, response.headers["content-type"]) == (201, " ü\n".encode(), "text/odd")


@pytest.mark.parametrize("version", ["v1", "2024-10-21"])
async def test_the_models_are_those_of_the_deployments(simulators: Simulators, version: str) -> None:
    deployments = {"chat": ["chat/completions"], "embeddings": ["embeddings"]}
    await simulators.http.put(f"{simulators.keyed_url}/control/deployments", json=deployments)
    async with simulators.client(version) as client:
        completion = await client.chat.completions.create(model="chat", **CHAT)
        chat, embeddings = [model async for model in client.models.list()]
        assert await client.models.retrieve(chat.id) == chat
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("gpt-5")
    assert completion.model == chat.id
    # Every model was created at some time in the last years.
    assert 1_600_000_000 < chat.created < time.time()
    capabilities: list[Any] = [model.to_dict()["capabilities"] for model in (chat, embeddings)]
    assert [(found["chat_completion"], found["embeddings"]) for found in capabilities] == [(True, False), (False, True)]
