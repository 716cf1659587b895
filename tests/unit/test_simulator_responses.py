"""Test the simulator's Responses API: with the SDK, and field by field.

The modules of local/simulator name the sources of the payloads.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from shared.streaming.sse import EventParser
from tests.support.simulators import KEY, Simulators

pytestmark = pytest.mark.anyio

RESPONSES = "/openai/responses?api-version=2025-03-01-preview"
V1 = "/openai/v1/responses"
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
}
ARGUMENTS = '{"city": "text", "days": 1}'


async def post(simulators: Simulators, path: str, body: Any, status: int = 200) -> Any:
    response = await simulators.chat(path, body)
    assert response.status_code == status, response.text
    return response.json()


@pytest.fixture
async def client(simulators: Simulators) -> AsyncIterator[Any]:
    """Return the SDK for v1. Its results are unions of all kinds of items, so that tests have to know which one comes."""
    async with simulators.client("v1") as client:
        yield client


async def ask(client: Any, given: Any = "Hello", **options: Any) -> Any:
    return await client.responses.create(model="chat", input=given, **options)


class TestResponses:
    async def test_a_response_has_the_fields_of_the_api(self, simulators: Simulators) -> None:
        response = await post(simulators, RESPONSES, {"model": "chat", "input": "Hello", "metadata": {"a": "b"}})
        assert response["id"].startswith("resp_")
        assert (response["object"], response["status"], response["store"]) == ("response", "completed", True)
        assert response["metadata"] == {"a": "b"}
        (item,) = response["output"]
        assert (item["type"], item["role"], item["status"]) == ("message", "assistant", "completed")
        assert item["content"][0]["type"] == "output_text"
        usage = response["usage"]
        assert usage["input_tokens"] + usage["output_tokens"] == usage["total_tokens"]

    async def test_a_stream_has_all_events_in_order(self, simulators: Simulators) -> None:
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

    async def test_a_response_can_be_retrieved_until_it_is_deleted(self, simulators: Simulators) -> None:
        response = await post(simulators, RESPONSES, {"model": "chat", "input": "Hello"})
        path = RESPONSES.replace("responses", f"responses/{response['id']}")
        url = f"{simulators.keyed_url}{path}"
        assert (await simulators.http.get(url, headers={"api-key": KEY})).json() == response
        items = (await simulators.http.get(url.replace("?", "/input_items?"), headers={"api-key": KEY})).json()
        assert items["data"][0]["content"] == [{"type": "input_text", "text": "Hello"}]
        assert (items["first_id"], items["has_more"]) == (items["data"][0]["id"], False)
        deleted = (await simulators.http.delete(url, headers={"api-key": KEY})).json()
        assert deleted == {"id": response["id"], "object": "response.deleted", "deleted": True}
        assert (await simulators.http.get(url, headers={"api-key": KEY})).status_code == 404

    async def test_only_background_responses_can_be_cancelled(self, simulators: Simulators) -> None:
        for background, status in ((False, 400), (True, 200)):
            response = await post(simulators, V1, {"model": "chat", "input": "Hello", "background": background})
            await post(simulators, f"{V1}/{response['id']}/cancel", {}, status)
            # Dated versions cannot cancel at all.
            error = await post(simulators, RESPONSES.replace("?", f"/{response['id']}/cancel?"), {}, 404)
            assert error["error"]["message"] == "Resource not found"

    async def test_a_response_that_is_not_stored_cannot_be_continued(self, simulators: Simulators) -> None:
        response = await post(simulators, RESPONSES, {"model": "chat", "input": "Hello", "store": False})
        follow = {"model": "chat", "input": "And?", "previous_response_id": response["id"]}
        assert (await post(simulators, RESPONSES, follow, 400))["error"]["code"] == "previous_response_not_found"

    @pytest.mark.parametrize("body", [{}, {"input": []}, {"input": 7}])
    async def test_an_input_is_required(self, simulators: Simulators, body: Any) -> None:
        assert (await post(simulators, RESPONSES, {"model": "chat", **body}, 400))["error"]["param"] == "input"

    async def test_a_missing_model_is_rejected(self, simulators: Simulators) -> None:
        assert (await post(simulators, RESPONSES, {"input": "a"}, 404))["error"]["code"] == "DeploymentNotFound"

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
        body = {"model": "chat", "input": "a"}
        assert (await post(simulators, path, body, 404))["error"]["message"] == "Resource not found"


class TestFields:
    async def test_a_response_repeats_what_was_asked(self, client: Any) -> None:
        asked: Any = {
            "instructions": "Be brief.",
            "max_output_tokens": 100,
            "max_tool_calls": 3,
            "metadata": {"a": "b"},
            "parallel_tool_calls": False,
            "prompt_cache_key": "key",
            "reasoning": {"effort": "low", "summary": "auto"},
            "safety_identifier": "someone",
            "service_tier": "flex",
            "temperature": 0,
            "text": {"format": {"type": "text"}, "verbosity": "low"},
            "tool_choice": "none",
            "tools": [{**WEATHER, "strict": False, "description": "the weather"}],
            "top_logprobs": 2,
            "top_p": 0.5,
            "truncation": "auto",
            "user": "someone",
        }
        response = (await ask(client, **asked)).to_dict()
        assert {name: response[name] for name in asked} == asked

    async def test_fields_that_were_not_asked_have_their_defaults(self, client: Any) -> None:
        response = (await ask(client, tools=[WEATHER])).to_dict()
        defaults = {
            "background": False,
            "instructions": None,
            "max_tool_calls": None,
            "metadata": {},
            "parallel_tool_calls": True,
            "reasoning": {"effort": None, "summary": None},
            "store": True,
            "text": {"format": {"type": "text"}, "verbosity": "medium"},
            "tool_choice": "auto",
            "tools": [{**WEATHER, "description": None, "strict": True}],
            "truncation": "disabled",
        }
        assert {name: response[name] for name in defaults} == defaults

    async def test_a_response_has_the_results_of_azures_content_filters(self, client: Any) -> None:
        filters = (await ask(client)).to_dict()["content_filters"]
        assert [(found["source_type"], found["blocked"]) for found in filters] == [("prompt", False), ("completion", False)]
        for found in filters:
            assert found["content_filter_results"]["hate"] == {"filtered": False, "severity": "safe"}
            assert found["content_filter_results"]["jailbreak"] == {"filtered": False, "detected": False}
            assert set(found["content_filter_offsets"]) == {"start_offset", "end_offset", "check_offset"}

    @pytest.mark.parametrize("options", [{}, {"stream_options": {"include_obfuscation": False}}])
    @pytest.mark.parametrize("tools", [[], [WEATHER]])
    async def test_the_lengths_of_deltas_are_obfuscated_unless_the_request_forbids_it(
        self, client: Any, options: Any, tools: Any
    ) -> None:
        events = [event.to_dict() async for event in await ask(client, stream=True, tools=tools, **options)]
        deltas = [event for event in events if "delta" in event]
        assert deltas
        assert {bool(event.get("obfuscation")) for event in deltas} == {not options}


class TestTools:
    async def test_a_function_is_called_and_its_result_appears_in_the_reply(self, client: Any) -> None:
        (call,) = (await ask(client, tools=[WEATHER])).output
        assert (call.type, call.status, call.name, call.arguments) == ("function_call", "completed", "weather", ARGUMENTS)
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
        given = [{"role": "user", "content": "Hello"}, call.to_dict(), result]
        assert "sunny" in (await ask(client, given, tools=[WEATHER])).output_text

    async def test_a_conversation_goes_on_after_a_call(self, client: Any) -> None:
        first = await ask(client, tools=[WEATHER])
        result = {"type": "function_call_output", "call_id": first.output[0].call_id, "output": "sunny"}
        second = await ask(client, [result], tools=[WEATHER], previous_response_id=first.id)
        assert "sunny" in second.output_text
        again = await ask(client, [{"role": "developer", "content": "a"}], tools=[WEATHER], previous_response_id=second.id)
        assert again.output[0].type == "message"
        third = await ask(client, "And tomorrow?", tools=[WEATHER], previous_response_id=second.id)
        assert third.output[0].type == "function_call"

    @pytest.mark.parametrize(
        ("choice", "name"),
        [("required", "weather"), ({"type": "function", "name": "time"}, "time"), ("auto", None), ("none", None)],
    )
    async def test_a_choice_can_demand_a_call_after_a_result(self, client: Any, choice: Any, name: str | None) -> None:
        result = {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}
        tools = [WEATHER, {"type": "function", "name": "time"}]
        (item,) = (await ask(client, [result], tools=tools, tool_choice=choice)).output
        assert getattr(item, "name", None) == name

    async def test_a_call_can_be_streamed(self, client: Any) -> None:
        async with client.responses.stream(model="chat", input="Hello", tools=[WEATHER]) as stream:
            events = [event async for event in stream]
            response = await stream.get_final_response()
        arguments = [event for event in events if event.type == "response.function_call_arguments.delta"]
        assert len(arguments) > 1
        assert "".join(event.delta for event in arguments) == ARGUMENTS
        (done,) = [event for event in events if event.type == "response.function_call_arguments.done"]
        assert (done.name, done.arguments) == ("weather", ARGUMENTS)
        (call,) = response.output
        assert (call.type, call.id) == ("function_call", done.item_id)
        (added,) = [event.item for event in events if event.type == "response.output_item.added"]
        assert (added.status, added.arguments) == ("in_progress", "")


class TestInputItems:
    async def list_items(self, client: Any, given: Any, **options: Any) -> list[Any]:
        response = await ask(client, given)
        return [item.to_dict() async for item in client.responses.input_items.list(response.id, **options)]

    async def test_each_item_has_a_type_an_id_and_a_status(self, client: Any) -> None:
        given = [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
            {"role": "assistant", "content": "Hello to you"},
            {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
        ]
        items = await self.list_items(client, given, order="asc")
        assert [item["type"] for item in items] == [*["message"] * 3, "function_call", "function_call_output"]
        assert [item["id"].split("_")[0] for item in items] == ["msg", "msg", "msg", "fc", "fco"]
        assert {item["status"] for item in items} == {"completed"}
        parts = [item["content"] for item in items[:3]]
        assert [(part["type"], part["text"]) for (part,) in parts] == [
            ("input_text", "Be brief."),
            ("input_text", "Hello"),
            ("output_text", "Hello to you"),
        ]

    @pytest.mark.parametrize("order", ["asc", "desc", None])
    @pytest.mark.parametrize("limit", [1, 2, 3, 100, None])
    async def test_a_pager_gets_all_items_in_their_order(self, client: Any, order: Any, limit: int | None) -> None:
        options = {name: value for name, value in (("order", order), ("limit", limit)) if value}
        given = [{"role": "user", "content": text} for text in "abc"]
        texts = [item["content"][0]["text"] for item in await self.list_items(client, given, **options)]
        assert texts == [*("abc" if order == "asc" else "cba")]

    async def test_a_page_has_its_ends_and_says_whether_more_follow(self, client: Any) -> None:
        response = await ask(client, [{"role": "user", "content": text} for text in "abcd"])
        listed = client.responses.input_items.list
        page = await listed(response.id, order="asc", limit=2)
        ids = [item.id for item in page.data]
        assert page.has_more
        assert page.to_dict()["object"] == "list"
        assert (page.to_dict()["first_id"], page.to_dict()["last_id"]) == (ids[0], ids[1])
        rest = await listed(response.id, order="asc", after=ids[1])
        assert ([item.content[0].text for item in rest.data], rest.has_more) == (["c", "d"], False)
        before = await listed(response.id, order="asc", extra_query={"before": rest.data[-1].id})
        assert [item.content[0].text for item in before.data] == ["a", "b", "c"]
        between = {"after": before.data[0].id, "before": rest.data[-1].id}
        page = await listed(response.id, order="asc", extra_query=between)
        assert [item.content[0].text for item in page.data] == ["b", "c"]
        empty = await listed(response.id, order="asc", after=rest.data[-1].id)
        assert (empty.data, empty.has_more, empty.to_dict()["first_id"]) == ([], False, None)

    @pytest.mark.parametrize("options", [{"limit": 0}, {"limit": 101}, {"order": "up"}, {"after": "msg_unknown"}])
    async def test_wrong_options_are_rejected(self, client: Any, options: Any) -> None:
        response = await ask(client)
        with pytest.raises(openai.BadRequestError):
            await client.responses.input_items.list(response.id, **options)


class TestBackground:
    async def test_it_is_queued_then_in_progress_and_then_complete(self, client: Any) -> None:
        created = await ask(client, background=True)
        assert (created.status, created.output, created.usage) == ("queued", [], None)
        reads = [await client.responses.retrieve(created.id) for _ in range(4)]
        assert [read.status for read in reads] == ["queued", "in_progress", "completed", "completed"]
        assert "Hello" in reads[-1].output_text
        assert reads[-1].usage

    async def test_it_stays_cancelled(self, client: Any) -> None:
        created = await ask(client, background=True)
        for _ in range(2):
            assert (await client.responses.cancel(created.id)).status == "cancelled"
            assert (await client.responses.retrieve(created.id)).status == "cancelled"

    async def test_a_complete_one_stays_complete(self, client: Any) -> None:
        created = await ask(client, background=True)
        while (await client.responses.retrieve(created.id)).status != "completed":
            pass
        assert (await client.responses.cancel(created.id)).status == "completed"

    async def test_its_failure_is_read_later(self, simulators: Simulators, client: Any) -> None:
        await simulators.script(error={"code": "server_error", "message": "Sorry."})
        created = await ask(client, background=True)
        reads = [await client.responses.retrieve(created.id) for _ in range(3)]
        assert [read.status for read in reads] == ["queued", "in_progress", "failed"]
        assert reads[-1].error
        assert reads[-1].error.code == "server_error"

    async def test_a_stream_goes_on_to_its_end(self, client: Any) -> None:
        events = [event async for event in await ask(client, background=True, stream=True)]
        assert [event.type.removeprefix("response.") for event in events[:3]] == ["created", "queued", "in_progress"]
        assert [event.response.status for event in events[:3]] == ["queued", "queued", "in_progress"]
        assert events[-1].type == "response.completed"
        assert (await client.responses.retrieve(events[-1].response.id)).output == events[-1].response.output

    @pytest.mark.parametrize("after", [None, 0, 4])
    async def test_a_stream_can_be_read_again_from_any_event(self, client: Any, after: int | None) -> None:
        events = [event async for event in await ask(client, background=True, stream=True)]
        options: Any = {} if after is None else {"starting_after": after}
        again = await client.responses.retrieve(events[0].response.id, stream=True, **options)
        first = 0 if after is None else after + 1
        assert [event async for event in again] == events[first:]
        assert len(events[first:]) > 1

    async def test_one_that_was_not_streamed_can_be_streamed_later(self, client: Any) -> None:
        created = await ask(client, background=True)
        events = [event async for event in await client.responses.retrieve(created.id, stream=True)]
        assert events[-1].type == "response.completed"
        assert (await client.responses.retrieve(created.id)).status == "completed"

    async def test_it_must_be_stored(self, client: Any) -> None:
        with pytest.raises(openai.BadRequestError) as raised:
            await ask(client, background=True, store=False)
        assert raised.value.param == "background"

    @pytest.mark.parametrize("background", [True, False])
    async def test_dated_versions_do_not_know_it(self, simulators: Simulators, background: bool) -> None:
        async with simulators.client("2025-04-01-preview") as client:
            with pytest.raises(openai.BadRequestError) as raised:
                await ask(client, background=background)
        assert (raised.value.code, raised.value.param) == ("unknown_parameter", "background")
        assert raised.value.type == "invalid_request_error"
        assert "Unknown parameter: 'background'." in raised.value.message
