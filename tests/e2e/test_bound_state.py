"""Test conversations over several endpoints: responses, items and sealed reasoning exist only where they were created."""

import json
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest

from local.simulator import payloads
from tests.support.gateway_calls import CALLER, attempts
from tests.support.processes import Json, Simulator
from tests.support.sdk import SDK
from tests.support.upstreams import Gateway

THROTTLED: Json = {"status": 429, "headers": {"retry-after": "7"}}
QUESTION = {"role": "user", "content": "And?"}

type NextTurn = Callable[[Any], Json]


def with_item(item: Json) -> list[Any]:
    return [item, QUESTION]


# The fields by which a second turn refers to the first, whose response is the argument.
TURNS: dict[str, NextTurn] = {
    "previous_response_id": lambda first: {"input": "And?", "previous_response_id": first.id},
    "encrypted_content": lambda first: {"input": [*(item.to_dict() for item in first.output), QUESTION], "store": False},
    "encrypted_content in a list of items": lambda first: {
        "input": with_item({"role": "user", "content": [{"type": "items", "items": [[first.output[0].to_dict()]]}]})
    },
    "item_reference": lambda first: {"input": with_item({"type": "item_reference", "id": first.output[1].id})},
    "item_reference without a type": lambda first: {"input": with_item({"id": first.output[1].id})},
}


def create(sdk: SDK, *, stream: bool, **fields: Any) -> Any:
    """Create a response with sealed reasoning, and return it."""
    fields = {"model": "chat", "include": ["reasoning.encrypted_content"], "stream": stream, **fields}
    created = sdk.client.responses.create(**fields)
    return sdk.events(created)[-1].response if stream else sdk.result(created)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("turn", TURNS)
class TestConversations:
    def test_throttling_of_the_right_endpoint_is_a_429_and_not_an_unknown_item(
        self, sdk: SDK, models: list[Simulator], turn: str, stream: bool
    ) -> None:
        first = create(sdk, stream=stream, input="Hello")
        models[0].script(THROTTLED)
        with pytest.raises(openai.RateLimitError) as raised:
            create(sdk, stream=stream, **TURNS[turn](first))
        assert raised.value.response.headers["retry-after"] == "7"
        assert attempts(models) == [2, 1, 0]
        # It is still cooling down, but the others do not know the state.
        assert create(sdk, stream=stream, **TURNS[turn](first)).status == "completed"
        assert attempts(models) == [3, 1, 0]

    def test_a_conversation_stays_on_the_second_endpoint_when_the_first_one_recovers(
        self, sdk: SDK, models: list[Simulator], turn: str, stream: bool
    ) -> None:
        models[0].script({"status": 429, "headers": {"retry-after-ms": "1"}})
        first = create(sdk, stream=stream, input="Hello")
        assert attempts(models) == [1, 1, 0]
        sent = TURNS[turn](first)
        assert create(sdk, stream=stream, **sent).status == "completed"
        assert attempts(models) == [1, 2, 0]
        # Nothing of the input is removed.
        assert json.loads(models[1].journal()[-1].body)["input"] == sent["input"]
        assert sdk.result(sdk.client.responses.create(model="chat", input="Another one")).status == "completed"
        assert attempts(models) == [2, 2, 0]

    def test_an_app_that_does_not_know_the_endpoint_asks_all_of_them(
        self, sdk: SDK, gateway: Gateway, models: list[Simulator], turn: str, stream: bool
    ) -> None:
        models[0].script({"status": 429, "headers": {"retry-after-ms": "1"}})
        first = create(sdk, stream=stream, input="Hello")
        # Another instance of the app has learned nothing.
        gateway.configure(models[0].url, models[1].url, AZURE_OPENAI_API_VERSION="v1")
        assert create(sdk, stream=stream, **TURNS[turn](first)).status == "completed"
        assert attempts(models) == [2, 2, 0]
        assert gateway.state()["cooldowns"] == [0, 0]

    def test_if_no_endpoint_knows_the_state_the_caller_gets_azures_error(
        self, sdk: SDK, gateway: Gateway, models: list[Simulator], turn: str, stream: bool
    ) -> None:
        first = create(sdk, stream=stream, input="Hello")
        gateway.configure(models[1].url, models[2].url, AZURE_OPENAI_API_VERSION="v1")
        with pytest.raises((openai.BadRequestError, openai.NotFoundError)):
            create(sdk, stream=stream, **TURNS[turn](first))
        assert attempts(models) == [1, 1, 1]
        assert gateway.state()["cooldowns"] == [0, 0]


def post(gateway: Gateway, **fields: Any) -> httpx2.Response:
    return gateway.http.post("/api/v1/responses", json={"input": "Hello", **fields}, headers=CALLER)


def registered(model: Simulator, kind: str, *ids: str) -> None:
    model.http.put(f"/control/{kind}", json=ids).raise_for_status()


NAMES: dict[str, tuple[str, Json]] = {
    "a conversation": ("conversations", {"conversation": "conv_1"}),
    "a conversation as an object": ("conversations", {"conversation": {"id": "conv_1"}}),
    "a file": ("files", {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]}),
}


@pytest.mark.parametrize("name", NAMES)
def test_conversations_and_files_are_found_on_their_endpoint(two: Gateway, models: list[Simulator], name: str) -> None:
    kind, fields = NAMES[name]
    registered(models[1], kind, "conv_1", "file-1")
    assert post(two, **fields).status_code == 200
    assert attempts(models) == [1, 1, 0]
    models[1].script(THROTTLED)
    response = post(two, **fields)
    assert (response.status_code, response.headers["retry-after"]) == (429, "7")


def test_a_conversation_is_remembered(two: Gateway, models: list[Simulator]) -> None:
    registered(models[1], "conversations", "conv_1")
    for calls in (1, 2):
        assert post(two, conversation="conv_1").status_code == 200
        assert attempts(models) == [1, calls, 0]


def test_repeated_items_go_to_the_endpoint_that_created_them(two: Gateway, models: list[Simulator]) -> None:
    models[0].script(
        {"status": 429, "headers": {"retry-after-ms": "1"}}, {"status": 400, "body": payloads.DIFFERENT_RESOURCE}
    )
    output = post(two).json()["output"]
    assert post(two, input=[*output, QUESTION]).status_code == 200
    assert attempts(models) == [1, 2, 0]
    # An app that does not know where they were created finds out.
    two.configure(models[0].url, models[1].url)
    assert post(two, input=[*output, QUESTION]).status_code == 200
    assert attempts(models) == [2, 3, 0]


def test_an_endpoint_in_trouble_is_asked_last_unless_it_has_the_state(two: Gateway, models: list[Simulator]) -> None:
    first = post(two).json()["id"]
    models[0].script({"status": 500})
    assert post(two).status_code == 200
    assert attempts(models) == [2, 1, 0]
    assert post(two, previous_response_id=first).status_code == 200
    assert attempts(models) == [3, 1, 0]
    # It has never created this one, so it comes last.
    assert post(two, previous_response_id="resp_unknown").status_code == 400
    assert attempts(models) == [4, 2, 0]


def test_trouble_at_the_right_endpoint_is_not_reported_as_an_unknown_item(two: Gateway, models: list[Simulator]) -> None:
    first = post(two).json()["id"]
    models[0].script({"status": 500})
    response = post(two, previous_response_id=first)
    assert (response.status_code, response.json()["error"]["code"]) == (500, "upstream_error")
