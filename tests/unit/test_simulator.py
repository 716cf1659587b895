"""Test that the simulator of Azure OpenAI sends Azure's payloads, and that it is as strict as Azure."""

import json
import time
from typing import Any

import httpx2
import jwt
import pytest

from local.simulator.tokens import AUDIENCE
from shared.streaming.sse import EventParser
from tests.support.simulators import CHAT, DATED, KEY, V1, Simulators

pytestmark = pytest.mark.anyio

SAFE = {"filtered": False, "severity": "safe"}
FILTERED = {"hate": SAFE, "self_harm": SAFE, "sexual": SAFE, "violence": SAFE}


def status_and_code(response: httpx2.Response) -> tuple[int, str | None]:
    return response.status_code, response.json()["error"]["code"]


class TestPayloads:
    """Compare the payloads with Azure's, field by field.

    Completion and chunk: createChatCompletionResponse and createChatCompletionStreamResponse in
    https://github.com/Azure/azure-rest-api-specs/blob/main/specification/cognitiveservices/data-plane/AzureOpenAI/inference/stable/2024-10-21/inference.yaml
    Content filter: https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter
    Errors: https://learn.microsoft.com/azure/ai-foundry/openai/reference#errors
    """

    async def test_a_completion_has_azures_fields(self, simulators: Simulators) -> None:
        await simulators.script(reply="one and two")
        completion = (await simulators.chat(body={**CHAT, "model": "chat"})).json()
        assert completion.pop("id").startswith("chatcmpl-")
        assert abs(completion.pop("created") - time.time()) < 60
        assert completion == {
            "object": "chat.completion",
            "model": "chat-2026-11-01",
            "system_fingerprint": "fp_simulator",
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
    async def test_the_chunks_of_a_stream_have_azures_fields(self, simulators: Simulators, include_usage: bool) -> None:
        await simulators.script(reply="one and two")
        options = {"stream_options": {"include_usage": True}} if include_usage else {}
        response = await simulators.chat(body={**CHAT, "stream": True, **options})
        assert response.headers["content-type"] == "text/event-stream"
        *events, done = EventParser().feed(response.content)
        assert done == b"[DONE]"
        first, role, *content, end = map(json.loads, events[: -1 if include_usage else None])
        # The prompt's filter results come before everything else, in a chunk that has no choices.
        assert (first["choices"], first["id"], first["object"], first["created"], first["model"]) == ([], "", "", 0, "")
        assert first["prompt_filter_results"][0]["content_filter_results"]["hate"] == SAFE
        assert role["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
        assert [chunk["choices"][0]["delta"] for chunk in content] == [{"content": "one and"}, {"content": " two"}]
        for chunk in (role, *content, end):
            # With `include_usage`, every chunk has the field.
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

    async def test_an_error_has_azures_fields(self, simulators: Simulators) -> None:
        await simulators.script(status=418)
        assert (await simulators.chat()).json() == {"error": {"code": "418", "message": "Scripted."}}

    async def test_an_error_of_the_content_filter_has_azures_fields(self, simulators: Simulators) -> None:
        await simulators.script(status=400)
        response = await simulators.chat()
        assert response.status_code == 400
        error = response.json()["error"]
        assert set(error) == {"code", "message", "param", "type", "status", "innererror"}
        assert (error["code"], error["param"], error["type"], error["status"]) == ("content_filter", "prompt", None, 400)
        assert error["innererror"] == {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {**FILTERED, "violence": {"filtered": True, "severity": "medium"}},
        }

    @pytest.mark.parametrize("status", [200, 400, 429])
    async def test_every_response_has_azures_headers(self, simulators: Simulators, status: int) -> None:
        await simulators.script(**({"status": status} if status != 200 else {}))
        headers = (await simulators.chat()).headers
        for name in ("apim-request-id", "x-request-id", "x-ms-region"):
            assert headers[name]
        for name in ("x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens"):
            assert headers[name].isdigit()


class TestStrictness:
    @pytest.mark.parametrize(
        "query", ["", "?api-version=", "?api-version=latest", "?api-version=2024-1-1", "?api-version=v1"]
    )
    async def test_a_dated_route_needs_a_dated_api_version(self, simulators: Simulators, query: str) -> None:
        assert status_and_code(await simulators.chat(DATED.partition("?")[0] + query)) == (404, "404")

    async def test_v1_rejects_a_dated_api_version(self, simulators: Simulators) -> None:
        assert (await simulators.chat(V1 + "?api-version=2024-10-21", {**CHAT, "model": "chat"})).status_code == 400
        for version in ("v1", "preview"):
            assert (await simulators.chat(f"{V1}?api-version={version}", {**CHAT, "model": "chat"})).status_code == 200

    @pytest.mark.parametrize(
        "path", ["/openai/deployments/chat/files?api-version=2024-10-21", "/openai/v2/chat/completions", "/"]
    )
    async def test_other_routes_do_not_exist(self, simulators: Simulators, path: str) -> None:
        assert status_and_code(await simulators.chat(path)) == (404, "404")

    async def test_a_key_is_accepted_in_its_header_and_on_v1_as_a_bearer_token(self, simulators: Simulators) -> None:
        v1_body = {**CHAT, "model": "chat"}
        assert (await simulators.chat(V1, v1_body)).status_code == 200
        assert (await simulators.chat(V1, v1_body, authorization=f"Bearer {KEY}")).status_code == 200
        assert status_and_code(await simulators.chat(authorization=f"Bearer {KEY}")) == (401, "Unauthorized")
        assert status_and_code(await simulators.chat(api_key="wrong")) == (401, "401")
        assert status_and_code(await simulators.chat(x_other="none")) == (401, "401")

    async def test_a_token_must_be_genuine_unexpired_and_for_the_service(self, simulators: Simulators) -> None:
        valid, _ = simulators.issuer.issue(AUDIENCE, "id", 60)
        other, _ = simulators.issuer.issue("https://management.azure.com", "id", 60)
        expired, _ = simulators.issuer.issue(AUDIENCE, "id", -5)
        forged = jwt.encode({"aud": AUDIENCE, "exp": time.time() + 60}, "0" * 32, "HS256")
        assert (await simulators.keyless_chat(authorization=f"Bearer {valid}")).status_code == 200
        for token in (other, expired, forged, "abc"):
            assert status_and_code(await simulators.keyless_chat(authorization=f"Bearer {token}")) == (401, "Unauthorized")

    async def test_a_resource_without_keys_rejects_a_key(self, simulators: Simulators) -> None:
        assert status_and_code(await simulators.keyless_chat(api_key=KEY)) == (403, "AuthenticationTypeDisabled")

    async def test_an_unknown_deployment_is_not_found(self, simulators: Simulators) -> None:
        assert status_and_code(await simulators.chat(DATED.replace("/chat/", "/other/", 1))) == (404, "DeploymentNotFound")

    @pytest.mark.parametrize("body", [CHAT, {**CHAT, "model": "other"}])
    async def test_v1_has_its_own_words_for_an_unknown_deployment(self, simulators: Simulators, body: Any) -> None:
        response = await simulators.chat(V1, body)
        assert status_and_code(response) == (404, None)
        assert "Could not find an existing deployment to match the model in the request." in response.text

    async def test_a_model_can_be_retired(self, simulators: Simulators) -> None:
        await simulators.script(status=410)
        assert status_and_code(await simulators.chat()) == (410, "ModelDeprecated")

    @pytest.mark.parametrize("messages", [[], None, "Hello"])
    async def test_invalid_messages_are_rejected(self, simulators: Simulators, messages: Any) -> None:
        response = await simulators.chat(body={"messages": messages})
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "messages"

    @pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 100_000])
    async def test_a_body_must_be_a_json_object(self, simulators: Simulators, body: bytes) -> None:
        assert (await simulators.chat(body=body)).status_code == 400

    @pytest.mark.parametrize(
        ("operation", "fields", "code", "param"),
        [
            ("chat/completions", {"messages": []}, "empty_array", "messages"),
            ("chat/completions", {**CHAT, "n": 0}, "integer_out_of_range", "n"),
            ("chat/completions", {**CHAT, "n": []}, "invalid_type", None),
            ("completions", {}, "missing_required_parameter", "prompt"),
            ("embeddings", {"input": ""}, None, None),
            ("embeddings", {"input": "Hello", "encoding_format": "hex"}, None, None),
            ("embeddings", {"input": "Hello", "dimensions": 5000}, "integer_out_of_range", "dimensions"),
            ("responses", {}, "missing_required_parameter", "input"),
            ("responses", {"input": 7}, "invalid_type", "input"),
            ("responses", {"input": [{"role": "user"}]}, "invalid_type", None),
            ("images/generations", {"prompt": "A cat", "n": 11}, "integer_out_of_range", "n"),
        ],
    )
    async def test_an_error_about_a_field_has_openais_fields(
        self, simulators: Simulators, operation: str, fields: Any, code: str | None, param: str | None
    ) -> None:
        response = await simulators.chat(f"/openai/v1/{operation}", {"model": "chat", **fields})
        assert response.status_code == 400
        error = response.json()["error"]
        assert error.pop("message")
        assert error == {"type": "invalid_request_error", "code": code, "param": param}
