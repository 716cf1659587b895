"""Test the control routes of the simulators: scripts of faults, and the journal."""

import asyncio
import base64
import time
from typing import Any

import pytest

from local.serving import Servers
from local.simulator.azure_openai import AzureOpenAISimulator
from tests.support.simulators import CHAT, DATED, KEY, V1, Simulators

pytestmark = pytest.mark.anyio


class TestFaults:
    """Test each field of a script on a plain socket."""

    async def test_an_error_response_can_be_scripted(self, simulators: Simulators) -> None:
        await simulators.script(status=429, headers={"retry-after": "7"}, body={"own": "body"})
        reader, writer = await simulators.raw_chat()
        response = await reader.read()
        writer.close()
        assert response.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: 7\r\n" in response
        assert response.endswith(b'\r\n\r\n{"own": "body"}')

    async def test_a_reply_can_be_scripted(self, simulators: Simulators) -> None:
        await simulators.script(reply="as scripted")
        reader, writer = await simulators.raw_chat()
        assert b'"content": "as scripted"' in await reader.read()
        writer.close()

    async def test_a_delay_comes_before_the_headers(self, simulators: Simulators) -> None:
        await simulators.script(delay=0.3)
        started = time.monotonic()
        reader, writer = await simulators.raw_chat()
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        assert time.monotonic() - started >= 0.3
        writer.close()

    async def test_a_hang_lasts_until_it_is_released(self, simulators: Simulators) -> None:
        await simulators.script(hang=True)
        reader, writer = await simulators.raw_chat()
        await simulators.http.get(f"{simulators.keyed_url}/control/journal", params={"requests": 1})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(1)
        await simulators.http.post(f"{simulators.keyed_url}/control/next")
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        writer.close()

    async def test_a_connection_can_be_reset(self, simulators: Simulators) -> None:
        await simulators.script(reset=True)
        reader, _ = await simulators.raw_chat()
        with pytest.raises(ConnectionResetError):
            await reader.read()

    async def test_a_pace_comes_before_each_chunk(self, simulators: Simulators) -> None:
        await simulators.script(reply="one and two and three", pace=0.1)
        started = time.monotonic()
        reader, writer = await simulators.raw_chat(stream=True)
        await reader.readuntil(b"three")
        assert time.monotonic() - started >= 0.3
        writer.close()

    async def test_each_step_waits_for_a_permit(self, simulators: Simulators) -> None:
        await simulators.script(reply="one and two", step=True)
        reader, writer = await simulators.raw_chat(stream=True)
        for chunk in (b"one and", b" two"):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await reader.readuntil(b'"content": "' + chunk)
            await simulators.http.post(f"{simulators.keyed_url}/control/next")
            await reader.readuntil(b'"content": "' + chunk)
        assert b"[DONE]" in await reader.read()
        writer.close()

    async def test_cut_resets_a_stream_after_the_scripted_number_of_chunks(self, simulators: Simulators) -> None:
        await simulators.script(reply="one and two and three", cut=1)
        reader, _ = await simulators.raw_chat(stream=True)
        received = await reader.readuntil(b"one and")
        with pytest.raises(ConnectionResetError):
            received += await reader.read()
        assert b"two" not in received
        assert b"[DONE]" not in received

    async def test_times_sets_the_number_of_requests_that_a_script_applies_to(self, simulators: Simulators) -> None:
        await simulators.script(status=500, times=2)
        assert [(await simulators.chat()).status_code for _ in range(3)] == [500, 500, 200]


class TestJournal:
    async def test_it_records_every_request_unchanged(self, simulators: Simulators) -> None:
        body = b'{"messages":[{"role":"user","content":"\xc3\xbc"}], "x": 1.0 }'
        await simulators.chat(body=body, api_key=KEY, X_Own="1")
        (entry,) = (await simulators.http.get(f"{simulators.keyed_url}/control/journal")).json()
        assert (entry["method"], entry["path"], entry["query"]) == (
            "POST",
            DATED.partition("?")[0],
            {"api-version": "2024-10-21"},
        )
        assert ["api-key", KEY] in entry["headers"]
        assert ["x-own", "1"] in entry["headers"]
        assert base64.b64decode(entry["body"]) == body
        assert entry["status"] == 200
        assert entry["ended"] >= entry["started"]
        assert not entry["disconnected"]

    async def test_it_records_a_disconnect_and_its_time(self, simulators: Simulators) -> None:
        await simulators.script(reply="one and two", step=True)
        _, writer = await simulators.raw_chat(stream=True)
        await simulators.http.post(f"{simulators.keyed_url}/control/next")
        await simulators.http.get(f"{simulators.keyed_url}/control/journal", params={"requests": 1})
        writer.close()
        (entry,) = (await simulators.http.get(f"{simulators.keyed_url}/control/journal", params={"ended": 1})).json()
        assert entry["disconnected"]
        assert entry["chunks"] <= 1
        assert entry["ended"] > entry["started"]

    async def test_clearing_it_discards_requests_and_scripts(self, simulators: Simulators) -> None:
        await simulators.chat()
        await simulators.script(status=500)
        await simulators.http.delete(f"{simulators.keyed_url}/control/journal")
        assert (await simulators.http.get(f"{simulators.keyed_url}/control/journal")).json() == []
        assert (await simulators.chat()).status_code == 200


class TestDeployments:
    EMBEDDINGS = DATED.replace("chat/completions", "embeddings")
    RESPONSES = "/openai/responses?api-version=2025-04-01-preview"

    async def replace(self, simulators: Simulators, deployments: Any) -> None:
        response = await simulators.http.put(f"{simulators.keyed_url}/control/deployments", json=deployments)
        assert response.status_code == 204

    async def test_a_deployment_can_have_some_operations_only(self, simulators: Simulators) -> None:
        await self.replace(simulators, {"chat": ["responses"], "other": ["chat/completions", "embeddings"]})
        for path, body, names in (
            (DATED, CHAT, "chatCompletion operation"),
            (DATED, {"messages": []}, "chatCompletion operation"),
            (DATED, b"no JSON", "chatCompletion operation"),
            (V1, {**CHAT, "model": "chat"}, "model, chat."),
            (self.EMBEDDINGS, {"input": "a"}, "embeddings operation"),
            (self.RESPONSES, {"input": "a", "model": "other"}, "model, other."),
        ):
            response = await simulators.chat(path, body)
            assert response.status_code == 400
            assert response.json()["error"]["code"] == "OperationNotSupported"
            assert names in response.json()["error"]["message"]
        assert (await simulators.chat(self.RESPONSES, {"input": "a", "model": "chat"})).status_code == 200
        assert (await simulators.chat(V1, {**CHAT, "model": "other"})).status_code == 200

    async def test_null_stands_for_all_operations(self, simulators: Simulators) -> None:
        await self.replace(simulators, {"chat": None})
        for path in (DATED, self.EMBEDDINGS, self.RESPONSES):
            assert (await simulators.chat(path, {**CHAT, "input": "a", "model": "chat"})).status_code == 200

    async def test_the_credential_and_the_deployment_are_checked_before_the_operation(self, simulators: Simulators) -> None:
        await self.replace(simulators, {"chat": ["responses"]})
        assert (await simulators.chat(api_key="wrong")).status_code == 401
        assert (await simulators.chat(DATED.replace("/chat/", "/other/", 1))).status_code == 404

    async def test_the_journals_end_restores_the_deployments(self, simulators: Simulators) -> None:
        await self.replace(simulators, {"other": None})
        assert (await simulators.chat()).status_code == 404
        await simulators.http.delete(f"{simulators.keyed_url}/control/journal")
        assert (await simulators.chat()).status_code == 200

    async def test_the_constructor_takes_the_operations(self, simulators: Simulators) -> None:
        async with Servers() as servers:
            simulator = AzureOpenAISimulator(["chat", "codex"], keys=[KEY], operations={"codex": {"responses"}})
            simulators.keyed_url = await servers.start(simulator.application())
            assert (await simulators.chat(V1, {**CHAT, "model": "chat"})).status_code == 200
            assert (await simulators.chat(V1, {**CHAT, "model": "codex"})).status_code == 400
