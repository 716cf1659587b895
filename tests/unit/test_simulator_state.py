"""Test that sealed reasoning, stored items, conversations and files belong to one simulator of Azure OpenAI."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from local.serving import Servers
from local.simulator import payloads
from local.simulator.azure_openai import AzureOpenAISimulator
from tests.support.simulators import KEY, Simulators

pytestmark = pytest.mark.anyio

ENCRYPTED: Any = ["reasoning.encrypted_content"]
QUESTION = {"role": "user", "content": [{"type": "input_text", "text": "And?"}]}


@pytest.fixture
async def clients(simulators: Simulators) -> AsyncIterator[list[openai.AsyncOpenAI]]:
    """Connect the SDK to two simulators. The first one is `simulators.keyed`."""
    async with Servers() as servers:
        second = await servers.start(AzureOpenAISimulator(["chat"], keys=[KEY]).application())
        urls = [simulators.keyed_url, second]
        clients = [openai.AsyncOpenAI(base_url=f"{url}/openai/v1", api_key=KEY, max_retries=0) for url in urls]
        yield clients
        for client in clients:
            await client.close()


async def ask(client: openai.AsyncOpenAI, given: Any = "Hello", **options: Any) -> Any:
    return await client.responses.create(model="chat", input=given, **options)


async def reason(client: openai.AsyncOpenAI, **options: Any) -> list[Any]:
    """Return the output of a response with reasoning: items that a request can repeat."""
    response = await ask(client, include=ENCRYPTED, **options)
    return [item.to_dict() for item in response.output]


async def error_of(client: openai.AsyncOpenAI, given: Any = "Hello", **options: Any) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as raised:
        await ask(client, given, **options)
    return raised.value


class TestReasoning:
    async def test_it_comes_before_the_message(self, clients: list[openai.AsyncOpenAI]) -> None:
        reasoning, message = await reason(clients[0])
        assert reasoning["id"].startswith("rs_")
        assert reasoning["encrypted_content"].startswith("gAAAA")
        assert message["type"] == "message"

    async def test_it_is_sealed_only_on_request(self, clients: list[openai.AsyncOpenAI]) -> None:
        (message,) = (await ask(clients[0])).output
        assert message.type == "message"
        reasoning, _ = (await ask(clients[0], reasoning={"effort": "low"})).output
        assert (reasoning.type, reasoning.encrypted_content) == ("reasoning", None)

    async def test_it_is_streamed_before_the_message(self, clients: list[openai.AsyncOpenAI]) -> None:
        events = [event async for event in await ask(clients[0], include=ENCRYPTED, stream=True)]
        items = [(event.type, event.output_index, event.item.type) for event in events if "output_item" in event.type]
        added, done = "response.output_item.added", "response.output_item.done"
        both = [(0, "reasoning"), (1, "message")]
        assert items == [(name, *item) for item in both for name in (added, done)]
        assert {event.output_index for event in events if event.type == "response.output_text.delta"} == {1}
        reasoning = next(event.item for event in events if event.type == done)
        assert reasoning == events[-1].response.output[0]
        assert [event.sequence_number for event in events] == list(range(len(events)))
        await ask(clients[0], [reasoning.to_dict(), QUESTION])

    @pytest.mark.parametrize("store", [False, True])
    async def test_only_the_resource_that_sealed_it_accepts_it(self, clients: list[openai.AsyncOpenAI], store: bool) -> None:
        output = await reason(clients[0], store=store)
        await ask(clients[0], [*output, QUESTION], store=store)
        error = await error_of(clients[1], [*output, QUESTION], store=store)
        assert (error.status_code, error.code) == (400, "invalid_encrypted_content")
        assert f"The encrypted content for item {output[0]['id']} could not be verified" in error.message

    async def test_it_is_checked_at_any_depth(self, clients: list[openai.AsyncOpenAI]) -> None:
        content = (await reason(clients[0]))[0]["encrypted_content"]
        item = {"type": "agent_message", "content": [{"type": "encrypted_content", "encrypted_content": content}]}
        await ask(clients[0], [item, QUESTION])
        assert (await error_of(clients[1], [item, QUESTION])).code == "invalid_encrypted_content"

    def test_the_error_can_have_no_code(self) -> None:
        error = payloads.invalid_encrypted_content("rs_1", code=None)["error"]
        assert (error["code"], error["param"], error["type"]) == (None, None, "invalid_request_error")


class TestCompaction:
    async def test_it_keeps_the_users_messages_and_seals_the_others(self, clients: list[openai.AsyncOpenAI]) -> None:
        history = ["Hello", {"role": "assistant", "content": "Hi."}, "And?"]
        given: Any = [item if isinstance(item, dict) else {"role": "user", "content": item} for item in history]
        compacted = await clients[0].responses.compact(model="chat", input=given)
        assert compacted.object == "response.compaction"
        # The SDK's types know this content only in requests, and so it would warn.
        *messages, item = [item.to_dict(warnings=False) for item in compacted.output]
        parts = [[{"type": "input_text", "text": text}] for text in ("Hello", "And?")]
        assert [(message["role"], message["content"]) for message in messages] == [("user", part) for part in parts]
        assert item["type"] == "compaction"
        assert compacted.usage.total_tokens == compacted.usage.input_tokens + compacted.usage.output_tokens
        await ask(clients[0], [*messages, item, QUESTION])
        assert (await error_of(clients[1], [*messages, item, QUESTION])).code == "invalid_encrypted_content"

    async def test_it_can_continue_a_stored_response(self, clients: list[openai.AsyncOpenAI]) -> None:
        previous = (await ask(clients[0])).id
        compact = clients[0].responses.compact
        whole = (await compact(model="chat", input="And?", previous_response_id=previous)).usage
        assert whole.input_tokens > (await compact(model="chat", input="And?")).usage.input_tokens
        with pytest.raises(openai.BadRequestError) as raised:
            await compact(model="chat", input="And?", previous_response_id="resp_1")
        assert raised.value.code == "previous_response_not_found"


async def test_the_tokens_of_an_input_are_those_of_its_response(clients: list[openai.AsyncOpenAI]) -> None:
    counted = await clients[0].responses.input_tokens.count(model="chat", input="Hello")
    assert counted.object == "response.input_tokens"
    assert counted.input_tokens == (await ask(clients[0])).usage.input_tokens


class TestItemReferences:
    @pytest.mark.parametrize("kind", [{"type": "item_reference"}, {}])
    async def test_a_stored_item_can_be_referred_to(self, clients: list[openai.AsyncOpenAI], kind: dict[str, str]) -> None:
        for item in await reason(clients[0]):
            response = await ask(clients[0], [{"id": item["id"], **kind}, QUESTION])
            inputs = [item.to_dict() async for item in clients[0].responses.input_items.list(response.id, order="asc")]
            assert inputs[0] == item
            error = await error_of(clients[1], [{"id": item["id"], **kind}, QUESTION])
            assert (error.status_code, error.code, error.param) == (400, None, "input")
            assert f"Item with id '{item['id']}' not found." in error.message

    async def test_reasoning_without_content_refers_to_a_stored_item(self, clients: list[openai.AsyncOpenAI]) -> None:
        output = [item.to_dict() for item in (await ask(clients[0], reasoning={"effort": "low"})).output]
        await ask(clients[0], [*output, QUESTION])
        assert "not found" in (await error_of(clients[1], [*output, QUESTION])).message

    async def test_items_are_not_stored_without_their_response(self, clients: list[openai.AsyncOpenAI]) -> None:
        _, message = await reason(clients[0], store=False)
        reference = [{"type": "item_reference", "id": message["id"]}]
        error = await error_of(clients[0], reference, store=False)
        assert "Items are not persisted when `store` is set to false." in error.message
        assert "persisted" not in (await error_of(clients[0], reference)).message

    async def test_items_are_deleted_with_their_response(self, clients: list[openai.AsyncOpenAI]) -> None:
        response = await ask(clients[0])
        await clients[0].responses.delete(response.id)
        error = await error_of(clients[0], [{"type": "item_reference", "id": response.output[0].id}])
        assert f"Item with id '{response.output[0].id}' not found." in error.message


class TestConversations:
    @pytest.mark.parametrize("given", ["conv_1", {"id": "conv_1"}])
    async def test_a_conversation_must_be_known(
        self, simulators: Simulators, clients: list[openai.AsyncOpenAI], given: Any
    ) -> None:
        await put(simulators, "conversations", ["conv_1"])
        assert (await ask(clients[0], conversation=given)).conversation.id == "conv_1"
        error = await error_of(clients[1], conversation=given)
        assert (error.status_code, error.code) == (404, None)
        assert "Conversation with id 'conv_1' not found." in error.message


class TestFiles:
    @pytest.mark.parametrize("kind", ["input_file", "input_image"])
    async def test_a_file_must_be_known(self, simulators: Simulators, clients: list[openai.AsyncOpenAI], kind: str) -> None:
        await put(simulators, "files", ["file-1"])
        given = [{"role": "user", "content": [{"type": kind, "file_id": "file-1"}]}]
        await ask(clients[0], given)
        error = await error_of(clients[1], given)
        assert (error.status_code, error.code) == (404, None)
        assert "Files [file-1] were not found" in error.message


async def put(simulators: Simulators, name: str, value: Any) -> None:
    response = await simulators.http.put(f"{simulators.keyed_url}/control/{name}", json=value)
    assert response.status_code == 204


async def test_the_journals_end_forgets_conversations_and_files_but_no_responses(
    simulators: Simulators, clients: list[openai.AsyncOpenAI]
) -> None:
    await put(simulators, "conversations", ["conv_1"])
    await put(simulators, "files", ["file-1"])
    output = await reason(clients[0])
    await simulators.http.delete(f"{simulators.keyed_url}/control/journal")
    file = [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]
    assert (await error_of(clients[0], conversation="conv_1")).status_code == 404
    assert (await error_of(clients[0], file)).status_code == 404
    await ask(clients[0], [*output, {"type": "item_reference", "id": output[1]["id"]}])
