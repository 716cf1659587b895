"""The stand-ins: Azure's shapes, Azure's strictness, and each fault of the control route on a plain socket."""

import asyncio
import base64
import json
import time
from typing import Any

import httpx2
import jwt
import pytest

from local.tokens import AUDIENCE
from shared.sse import EventParser
from tests.stand_ins import CHAT, DATED, KEY, V1, World

pytestmark = pytest.mark.anyio

SAFE = {"filtered": False, "severity": "safe"}
FILTERED = {"hate": SAFE, "self_harm": SAFE, "sexual": SAFE, "violence": SAFE}


def code(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


class TestShapes:
    """Field by field.

    Completion and chunk: createChatCompletionResponse and createChatCompletionStreamResponse in
    https://github.com/Azure/azure-rest-api-specs/blob/main/specification/cognitiveservices/data-plane/AzureOpenAI/inference/stable/2024-10-21/inference.yaml
    Content filter: https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter
    Errors: https://learn.microsoft.com/azure/ai-foundry/openai/reference#errors
    """

    async def test_a_completion(self, world: World) -> None:
        await world.script(reply="one and two")
        answer = (await world.chat(body={**CHAT, "model": "chat"})).json()
        assert answer.pop("id").startswith("chatcmpl-")
        assert abs(answer.pop("created") - time.time()) < 60
        assert answer == {
            "object": "chat.completion",
            "model": "chat-2026-11-01",
            "system_fingerprint": "fp_standin",
            "prompt_filter_results": [
                {
                    "prompt_index": 0,
                    "content_filter_results": {**FILTERED, "jailbreak": {"filtered": False, "detected": False}},
                }
            ],
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "logprobs": None,
                    "message": {"role": "assistant", "content": "one and two", "refusal": None},
                    "content_filter_results": FILTERED,
                }
            ],
            "usage": {
                "prompt_tokens": 10,
                "completion_tokens": 2,
                "total_tokens": 12,
                "prompt_tokens_details": {"cached_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0},
            },
        }

    @pytest.mark.parametrize("include_usage", [True, False])
    async def test_a_stream(self, world: World, include_usage: bool) -> None:
        await world.script(reply="one and two")
        options = {"stream_options": {"include_usage": True}} if include_usage else {}
        response = await world.chat(body={**CHAT, "stream": True, **options})
        assert response.headers["content-type"] == "text/event-stream"
        *events, done = EventParser().feed(response.content)
        assert done == b"[DONE]"
        first, role, *body, end = map(json.loads, events[: -1 if include_usage else None])
        # The prompt's filter results come before everything else, in a chunk that has no choices.
        assert (first["choices"], first["id"], first["object"], first["created"], first["model"]) == ([], "", "", 0, "")
        assert first["prompt_filter_results"][0]["content_filter_results"]["hate"] == SAFE
        assert role["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
        assert [chunk["choices"][0]["delta"] for chunk in body] == [{"content": "one and"}, {"content": " two"}]
        for chunk in (role, *body, end):
            # Where the usage is asked for, every chunk has the field.
            usage = {"usage"} if include_usage else set()
            assert set(chunk) == {"choices", "created", "id", "model", "object", "system_fingerprint"} | usage
            assert chunk.get("usage") is None
            assert chunk["object"] == "chat.completion.chunk"
            (choice,) = chunk["choices"]
            assert set(choice) == {"content_filter_results", "delta", "finish_reason", "index", "logprobs"}
            assert choice["finish_reason"] == ("stop" if chunk is end else None)
        assert end["choices"][0]["delta"] == {}
        if include_usage:
            usage = json.loads(events[-1])
            assert usage["choices"] == []
            assert usage["usage"]["completion_tokens"] == 2

    async def test_an_error(self, world: World) -> None:
        await world.script(status=418)
        assert (await world.chat()).json() == {"error": {"code": "418", "message": "Scripted."}}

    async def test_a_content_filter_refusal(self, world: World) -> None:
        await world.script(status=400)
        response = await world.chat()
        assert response.status_code == 400
        error = response.json()["error"]
        assert set(error) == {"code", "message", "param", "type", "status", "innererror"}
        assert (error["code"], error["param"], error["type"], error["status"]) == ("content_filter", "prompt", None, 400)
        assert error["innererror"] == {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {**FILTERED, "violence": {"filtered": True, "severity": "medium"}},
        }

    @pytest.mark.parametrize("status", [200, 400, 429])
    async def test_the_headers(self, world: World, status: int) -> None:
        await world.script(**({"status": status} if status != 200 else {}))
        headers = (await world.chat()).headers
        for name in ("apim-request-id", "x-request-id", "x-ms-region"):
            assert headers[name]
        for name in ("x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens"):
            assert headers[name].isdigit()


class TestStrictness:
    @pytest.mark.parametrize(
        "query", ["", "?api-version=", "?api-version=latest", "?api-version=2024-1-1", "?api-version=v1"]
    )
    async def test_a_dated_route_needs_an_api_version(self, world: World, query: str) -> None:
        assert code(await world.chat(DATED.partition("?")[0] + query)) == (404, "404")

    async def test_v1_takes_no_dated_api_version(self, world: World) -> None:
        assert (await world.chat(V1 + "?api-version=2024-10-21", {**CHAT, "model": "chat"})).status_code == 400
        assert (await world.chat(V1 + "?api-version=preview", {**CHAT, "model": "chat"})).status_code == 200

    @pytest.mark.parametrize(
        "path", ["/openai/deployments/chat/files?api-version=2024-10-21", "/openai/v2/chat/completions", "/"]
    )
    async def test_other_routes_do_not_exist(self, world: World, path: str) -> None:
        assert code(await world.chat(path)) == (404, "404")

    async def test_a_key_comes_in_its_header_and_on_v1_as_bearer_too(self, world: World) -> None:
        v1_body = {**CHAT, "model": "chat"}
        assert (await world.chat(V1, v1_body)).status_code == 200
        assert (await world.chat(V1, v1_body, authorization=f"Bearer {KEY}")).status_code == 200
        assert code(await world.chat(authorization=f"Bearer {KEY}")) == (401, "Unauthorized")
        assert code(await world.chat(api_key="wrong")) == (401, "401")
        assert code(await world.chat(x_other="none")) == (401, "401")

    async def test_a_token_must_be_minted_for_the_service_and_alive(self, world: World) -> None:
        good, _ = world.mint.mint(AUDIENCE, "id", 60)
        other, _ = world.mint.mint("https://management.azure.com", "id", 60)
        late, _ = world.mint.mint(AUDIENCE, "id", -5)
        forged = jwt.encode({"aud": AUDIENCE, "exp": time.time() + 60}, "0" * 32, "HS256")
        assert (await world.keyless_chat(authorization=f"Bearer {good}")).status_code == 200
        for token in (other, late, forged, "abc"):
            assert code(await world.keyless_chat(authorization=f"Bearer {token}")) == (401, "Unauthorized")

    async def test_a_resource_without_keys_says_so(self, world: World) -> None:
        assert code(await world.keyless_chat(api_key=KEY)) == (403, "AuthenticationTypeDisabled")

    async def test_an_unknown_deployment(self, world: World) -> None:
        assert code(await world.chat(DATED.replace("/chat/", "/other/", 1))) == (404, "DeploymentNotFound")
        assert code(await world.chat(V1, {**CHAT, "model": "other"})) == (404, "DeploymentNotFound")
        assert code(await world.chat(V1)) == (404, "DeploymentNotFound")

    @pytest.mark.parametrize("messages", [[], None, "Hello"])
    async def test_empty_messages(self, world: World, messages: Any) -> None:
        response = await world.chat(body={"messages": messages})
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "messages"

    @pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 100_000])
    async def test_a_body_that_is_no_json_object(self, world: World, body: bytes) -> None:
        assert (await world.chat(body=body)).status_code == 400


class TestFaults:
    """Every entry of the control route, seen on a plain socket."""

    async def test_status_headers_and_body(self, world: World) -> None:
        await world.script(status=429, headers={"retry-after": "7"}, body={"own": "body"})
        reader, writer = await world.raw()
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: 7\r\n" in answer
        assert answer.endswith(b'\r\n\r\n{"own": "body"}')

    async def test_reply(self, world: World) -> None:
        await world.script(reply="as told")
        reader, writer = await world.raw()
        assert b'"content": "as told"' in await reader.read()
        writer.close()

    async def test_delay(self, world: World) -> None:
        await world.script(delay=0.3)
        started = time.monotonic()
        reader, writer = await world.raw()
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        assert time.monotonic() - started >= 0.3
        writer.close()

    async def test_hang_until_next(self, world: World) -> None:
        await world.script(hang=True)
        reader, writer = await world.raw()
        await world.http.get(f"{world.keyed_address}/control/journal", params={"requests": 1})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(1)
        await world.http.post(f"{world.keyed_address}/control/next")
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        writer.close()

    async def test_reset(self, world: World) -> None:
        await world.script(reset=True)
        reader, _ = await world.raw()
        with pytest.raises(ConnectionResetError):
            await reader.read()

    async def test_pace(self, world: World) -> None:
        await world.script(reply="one and two and three", pace=0.1)
        started = time.monotonic()
        reader, writer = await world.raw(stream=True)
        await reader.readuntil(b"three")
        assert time.monotonic() - started >= 0.3
        writer.close()

    async def test_step(self, world: World) -> None:
        await world.script(reply="one and two", step=True)
        reader, writer = await world.raw(stream=True)
        for piece in (b"one and", b" two"):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await reader.readuntil(b'"content": "' + piece)
            await world.http.post(f"{world.keyed_address}/control/next")
            await reader.readuntil(b'"content": "' + piece)
        assert b"[DONE]" in await reader.read()
        writer.close()

    async def test_cut(self, world: World) -> None:
        await world.script(reply="one and two and three", cut=1)
        reader, _ = await world.raw(stream=True)
        received = await reader.readuntil(b"one and")
        with pytest.raises(ConnectionResetError):
            received += await reader.read()
        assert b"two" not in received
        assert b"[DONE]" not in received

    async def test_times(self, world: World) -> None:
        await world.script(status=500, times=2)
        assert [(await world.chat()).status_code for _ in range(3)] == [500, 500, 200]


class TestJournal:
    async def test_it_has_every_request_as_it_came(self, world: World) -> None:
        body = b'{"messages":[{"role":"user","content":"\xc3\xbc"}], "x": 1.0 }'
        await world.chat(body=body, api_key=KEY, X_Own="1")
        (entry,) = (await world.http.get(f"{world.keyed_address}/control/journal")).json()
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
        assert not entry["hung_up"]

    async def test_it_knows_who_hung_up_and_when(self, world: World) -> None:
        await world.script(reply="one and two", step=True)
        _, writer = await world.raw(stream=True)
        await world.http.post(f"{world.keyed_address}/control/next")
        await world.http.get(f"{world.keyed_address}/control/journal", params={"requests": 1})
        writer.close()
        (entry,) = (await world.http.get(f"{world.keyed_address}/control/journal", params={"ended": 1})).json()
        assert entry["hung_up"]
        assert entry["pieces"] <= 1
        assert entry["ended"] > entry["started"]

    async def test_it_can_be_emptied(self, world: World) -> None:
        await world.chat()
        await world.script(status=500)
        await world.http.delete(f"{world.keyed_address}/control/journal")
        assert (await world.http.get(f"{world.keyed_address}/control/journal")).json() == []
        assert (await world.chat()).status_code == 200


class TestIdentityEndpoint:
    """https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference"""

    async def test_a_token_of_the_system_assigned_identity(self, world: World) -> None:
        answer = (await world.token()).json()
        assert set(answer) == {"access_token", "expires_on", "resource", "token_type"}
        assert (answer["resource"], answer["token_type"]) == (AUDIENCE, "Bearer")
        assert 86_000 < int(answer["expires_on"]) - time.time() <= 86_400
        assert world.mint.is_valid(answer["access_token"])
        assert jwt.decode(answer["access_token"], options={"verify_signature": False})["appid"] == "system-assigned"

    async def test_a_token_of_a_user_assigned_identity(self, world: World) -> None:
        answer = (await world.token(query={"client_id": "user-assigned"})).json()
        assert jwt.decode(answer["access_token"], options={"verify_signature": False})["appid"] == "user-assigned"

    async def test_an_identity_that_is_not_assigned_is_400(self, world: World) -> None:
        response = await world.token(query={"client_id": "somebody-else"})
        assert response.status_code == 400
        assert response.json()["statusCode"] == 400

    @pytest.mark.parametrize("query", [{"api-version": "2017-09-01"}, {"resource": ""}])
    async def test_a_query_that_is_not_the_protocols_is_400(self, world: World, query: dict[str, str]) -> None:
        assert (await world.token(query=query)).status_code == 400

    @pytest.mark.parametrize("header", [{}, {"x-identity-header": "wrong"}])
    async def test_the_header_proves_that_the_app_asks(self, world: World, header: dict[str, str]) -> None:
        assert (await world.token(header)).status_code == 401

    @pytest.mark.parametrize("status", [400, 500])
    async def test_status(self, world: World, status: int) -> None:
        await world.http.post(f"{world.identity_address}/control/scripts", json=[{"status": status}])
        assert (await world.token()).status_code == status
        assert (await world.token()).status_code == 200

    async def test_lifetime(self, world: World) -> None:
        await world.http.post(f"{world.identity_address}/control/scripts", json=[{"lifetime": 5}])
        assert int((await world.token()).json()["expires_on"]) <= time.time() + 5

    async def test_delay(self, world: World) -> None:
        await world.http.post(f"{world.identity_address}/control/scripts", json=[{"delay": 0.3}])
        started = time.monotonic()
        await world.token()
        assert time.monotonic() - started >= 0.3

    async def test_hang_until_next(self, world: World) -> None:
        await world.http.post(f"{world.identity_address}/control/scripts", json=[{"hang": True}])
        asking = asyncio.create_task(world.token())
        await world.http.get(f"{world.identity_address}/control/journal", params={"requests": 1})
        await asyncio.sleep(0.1)
        assert not asking.done()
        await world.http.post(f"{world.identity_address}/control/next")
        assert (await asking).status_code == 200
