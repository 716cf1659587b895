"""Test that OpenAI's SDKs, and LangChain on top of them, work with the app after a change of URL and key."""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, OpenAI
from pydantic import BaseModel

from local.simulator import payloads
from tests.support.javascript import NODE_FOLDER, needs_node
from tests.support.processes import Json, LocalApp, local_app
from tests.support.sdk import SDK
from tests.support.upstreams import CALLER_KEY

SETTINGS = {"CALLER_KEYS": f"tests={CALLER_KEY}", "AZURE_OPENAI_DEPLOYMENTS": "gpt-4o=prod-4o,embed-3"}
MESSAGES: Any = [{"role": "user", "content": "Hello"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}
WEATHER_ARGUMENTS = {"city": "text", "days": 1}


class Event(BaseModel):
    name: str
    participants: list[str]


@pytest.fixture(scope="module", params=["2025-04-01-preview", "v1"])
def keyed_app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalApp]:
    with local_app(tmp_path_factory.mktemp("app"), **SETTINGS, AZURE_OPENAI_API_VERSION=request.param) as app:
        yield app


@pytest.fixture(params=[OpenAI, AsyncOpenAI, AzureOpenAI, AsyncAzureOpenAI], ids=lambda kind: kind.__name__)
def sdk(keyed_app: LocalApp, request: pytest.FixtureRequest) -> Iterator[SDK]:
    """Connect each of the SDK's clients to the app."""
    keyed_app.model.clear()
    sdk = SDK(keyed_app, request.param)
    yield sdk
    sdk.close()


@pytest.fixture
def make_sdk(keyed_app: LocalApp) -> Iterator[Callable[..., SDK]]:
    """Return a function that connects a client with the given options."""
    keyed_app.model.clear()
    sdks: list[SDK] = []

    def make(**options: Any) -> SDK:
        sdks.append(SDK(keyed_app, OpenAI, **options))
        return sdks[-1]

    yield make
    for sdk in sdks:
        sdk.close()


def test_the_sdk_reads_a_completion(sdk: SDK) -> None:
    sdk.app.model.script({"reply": "Hello to you"})
    completion = sdk.result(sdk.client.chat.completions.create(model="gpt-4o", messages=MESSAGES, temperature=0.5))
    assert completion.choices[0].message.content == "Hello to you"
    assert completion.usage.completion_tokens == 2
    (request,) = sdk.app.model.journal()
    body = json.loads(request.body)
    assert body["temperature"] == 0.5
    assert "prod-4o" in (body["model"], request.path.split("/")[3])


def test_the_sdk_reads_the_chunks_and_the_usage_of_a_stream(sdk: SDK) -> None:
    sdk.app.model.script({"reply": "one and two"})
    chunks = sdk.events(
        sdk.client.chat.completions.create(
            model="gpt-4o", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    )
    assert [chunk.choices[0].delta.content for chunk in chunks if chunk.choices] == ["", "one and", " two", None]
    assert chunks[-1].usage.completion_tokens == 2


def test_the_sdks_stream_helper_works(sdk: SDK) -> None:
    sdk.app.model.script({"reply": "one and two"})
    events, completion = sdk.events_and_completion(sdk.client.chat.completions.stream(model="gpt-4o", messages=MESSAGES))
    assert [event.delta for event in events if event.type == "content.delta"] == ["", "one and", " two"]
    assert completion.choices[0].message.content == "one and two"


def test_a_tool_is_called_and_its_result_appears_in_the_reply(sdk: SDK) -> None:
    create = sdk.client.chat.completions.create
    message = sdk.result(create(model="gpt-4o", messages=MESSAGES, tools=[WEATHER])).choices[0].message
    (call,) = message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", WEATHER_ARGUMENTS)
    with_result = [*MESSAGES, message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    assert "sunny" in sdk.result(create(model="gpt-4o", messages=with_result, tools=[WEATHER])).choices[0].message.content


def test_the_sdk_reads_the_arguments_of_a_streamed_tool_call(sdk: SDK) -> None:
    call = sdk.client.chat.completions.create(model="gpt-4o", messages=MESSAGES, tools=[WEATHER], stream=True)
    deltas = [chunk.choices[0].delta for chunk in sdk.events(call) if chunk.choices]
    calls = [delta.tool_calls[0] for delta in deltas if delta.tool_calls]
    assert calls[0].id
    assert calls[0].function.name == "weather"
    assert len(calls) > 2
    assert json.loads("".join(call.function.arguments for call in calls)) == WEATHER_ARGUMENTS


def test_structured_output_is_parsed(sdk: SDK) -> None:
    completion = sdk.result(sdk.client.chat.completions.parse(model="gpt-4o", messages=MESSAGES, response_format=Event))
    assert completion.choices[0].message.parsed == Event(name="text", participants=["text"])


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
def test_embeddings_come_in_either_encoding(sdk: SDK, encoding: str | None) -> None:
    options = {"encoding_format": encoding} if encoding else {}
    response = sdk.result(sdk.client.embeddings.create(model="embed-3", input=["one", "two"], dimensions=8, **options))
    assert [item.index for item in response.data] == [0, 1]
    if encoding == "base64":
        assert isinstance(response.data[0].embedding, str)
    else:
        assert len(response.data[0].embedding) == 8
        assert sum(number**2 for number in response.data[0].embedding) == pytest.approx(1, abs=1e-5)
    assert response.usage.total_tokens > 0


def test_a_response_can_follow_another(sdk: SDK) -> None:
    first = sdk.result(sdk.client.responses.create(model="gpt-4o", input="Hello"))
    assert "Hello" in first.output_text
    assert first.usage.output_tokens > 0
    second = sdk.result(sdk.client.responses.create(model="gpt-4o", input="And?", previous_response_id=first.id))
    assert second.previous_response_id == first.id
    assert json.loads(sdk.app.model.journal()[0].body)["model"] == "prod-4o"


def test_the_sdk_reads_the_events_of_a_streamed_response(sdk: SDK) -> None:
    sdk.app.model.script({"reply": "one and two"})
    events = sdk.events(sdk.client.responses.create(model="gpt-4o", input="Hello", stream=True))
    assert [event.delta for event in events if event.type == "response.output_text.delta"] == ["one and", " two"]
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert events[-1].response.usage.output_tokens == 2


def test_stored_responses_are_read_listed_and_deleted(sdk: SDK) -> None:
    stored = sdk.client.responses
    created = sdk.result(stored.create(model="gpt-4o", input="Hello"))
    assert sdk.result(stored.retrieve(created.id)) == created
    listed = sdk.result(stored.input_items.list(created.id, order="asc", limit=5, include=["reasoning.encrypted_content"]))
    assert listed.data[0].content[0].text == "Hello"
    query = sdk.app.model.journal()[-1].query
    is_v1 = query.pop("api-version", None) is None
    include = "include[]" if is_v1 else "include"
    assert query == {"order": "asc", "limit": "5", include: "reasoning.encrypted_content"}
    if is_v1:
        background = sdk.result(stored.create(model="gpt-4o", input="Hello", background=True))
        assert sdk.result(stored.retrieve(background.id)).status == "queued"
        assert sdk.result(stored.cancel(background.id)).status == "cancelled"
    else:
        with pytest.raises(openai.NotFoundError, match=re.escape("does not have responses/{id}/cancel")):
            sdk.result(stored.cancel(created.id))
    assert sdk.result(stored.delete(created.id)) is None
    with pytest.raises(openai.NotFoundError):
        sdk.result(stored.retrieve(created.id))


def test_the_models_are_the_deployments_and_aliases(make_sdk: Callable[..., SDK]) -> None:
    models = make_sdk().client.models
    assert [model.id for model in models.list()] == ["chat", "prod-4o", "embed-3", "gpt-4o"]
    assert models.retrieve("gpt-4o").object == "model"
    with pytest.raises(openai.NotFoundError) as raised:
        models.retrieve("gpt-5")
    assert raised.value.code == "model_not_found"


class TestErrors:
    """Test that each failure raises the SDK's class for it."""

    def test_a_wrong_key_is_an_authentication_error(self, make_sdk: Callable[..., SDK]) -> None:
        with pytest.raises(openai.AuthenticationError) as raised:
            make_sdk(api_key="an-unknown-key").client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
        assert raised.value.code == "invalid_api_key"

    def test_an_unknown_model_is_not_found(self, sdk: SDK) -> None:
        with pytest.raises(openai.NotFoundError) as raised:
            sdk.result(sdk.client.chat.completions.create(model="gpt-5", messages=MESSAGES))
        assert raised.value.code == "model_not_found"
        assert sdk.app.model.journal() == []

    def test_an_unknown_response_is_not_found(self, sdk: SDK) -> None:
        with pytest.raises(openai.NotFoundError) as raised:
            sdk.result(sdk.client.responses.retrieve("resp_unknown"))
        assert "Response with id 'resp_unknown' not found" in str(raised.value)

    def test_an_unknown_previous_response_is_a_bad_request(self, sdk: SDK) -> None:
        with pytest.raises(openai.BadRequestError) as raised:
            sdk.result(sdk.client.responses.create(model="gpt-4o", input="a", previous_response_id="resp_unknown"))
        assert raised.value.param == "previous_response_id"

    def test_filtered_content_is_a_bad_request_with_the_reasons(self, sdk: SDK) -> None:
        sdk.app.model.script({"status": 400})
        with pytest.raises(openai.BadRequestError) as raised:
            sdk.result(sdk.client.chat.completions.create(model="gpt-4o", messages=MESSAGES))
        assert raised.value.code == "content_filter"
        assert isinstance(raised.value.body, dict)
        assert raised.value.body["innererror"] == payloads.CONTENT_FILTER["error"]["innererror"]

    def test_throttling_is_a_rate_limit_error(self, sdk: SDK) -> None:
        sdk.app.model.script({"status": 429, "headers": {"retry-after": "7"}})
        with pytest.raises(openai.RateLimitError) as raised:
            sdk.result(sdk.client.chat.completions.create(model="gpt-4o", messages=MESSAGES))
        assert raised.value.response.headers["retry-after"] == "7"

    def test_the_sdk_waits_as_long_as_azure_says(self, make_sdk: Callable[..., SDK]) -> None:
        sdk = make_sdk(max_retries=1)
        sdk.app.model.script({"status": 429, "headers": {"retry-after-ms": "1500"}})
        started = time.monotonic()
        assert sdk.client.chat.completions.create(model="gpt-4o", messages=MESSAGES).choices
        # By itself, the SDK would wait for half a second.
        assert time.monotonic() - started >= 1.5
        assert len(sdk.app.model.journal()) == 2

    def test_no_response_in_time_is_a_timeout_error(self, make_sdk: Callable[..., SDK]) -> None:
        sdk = make_sdk(timeout=0.5)
        sdk.app.model.script({"hang": True})
        with pytest.raises(openai.APITimeoutError):
            sdk.client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
        assert sdk.app.model.journal(ended=1)[0].disconnected

    @pytest.mark.parametrize("script", [{"status": 500}, {"status": 401}, {"status": 404}])
    def test_a_failure_that_callers_cannot_fix_is_a_server_error(self, sdk: SDK, script: Json) -> None:
        sdk.app.model.script(script)
        with pytest.raises(openai.InternalServerError):
            sdk.result(sdk.client.chat.completions.create(model="gpt-4o", messages=MESSAGES))

    @pytest.mark.parametrize("operation", ["chat", "responses"])
    def test_an_interrupted_stream_raises_an_error(self, sdk: SDK, operation: str) -> None:
        sdk.app.model.script({"reply": "one and two and three", "cut": 1})
        if operation == "chat":
            call = sdk.client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
        else:
            call = sdk.client.responses.create(model="gpt-4o", input="Hello", stream=True)
        with pytest.raises(openai.APIError, match="interrupted"):
            sdk.events(call)


def test_langchain_chats_streams_and_embeds(keyed_app: LocalApp) -> None:
    keyed_app.model.clear()
    options: Any = {"base_url": f"{keyed_app.url}/api/v1", "api_key": CALLER_KEY, "max_retries": 0}
    chat = ChatOpenAI(model="gpt-4o", **options)
    assert "Hello" in chat.invoke("Hello").content
    keyed_app.model.script({"reply": "one and two"})
    assert [chunk.content for chunk in chat.stream("Hello") if chunk.content] == ["one and", " two"]
    embeddings = OpenAIEmbeddings(model="embed-3", check_embedding_ctx_length=False, **options)
    assert len(embeddings.embed_query("Hello")) == 1536


@needs_node
def test_the_javascript_sdk_works_as_well(keyed_app: LocalApp) -> None:
    keyed_app.model.clear()
    keyed_app.model.script(
        {"reply": "Hello to you"}, {"reply": "one and two"}, {}, *[{"reply": "one and two", "cut": 1}] * 2
    )
    run = subprocess.run(
        ["node", "client.js"],
        cwd=NODE_FOLDER,
        env={"PATH": os.environ["PATH"], "OPENAI_BASE_URL": f"{keyed_app.url}/api/v1", "OPENAI_API_KEY": CALLER_KEY},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {
        "models": ["chat", "prod-4o", "embed-3", "gpt-4o"],
        "reply": "Hello to you",
        "chunks": ["", "one and", " two"],
        "dimensions": 1536,
        "error": "NotFoundError",
        "interrupted": dict.fromkeys(("chat", "responses"), "The stream was interrupted before its end. Try again."),
    }
