"""Test who gets which error, what is sent twice, what cools down, and how equal endpoints share calls."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from local.simulator import payloads
from tests.support.gateway_calls import CALLER, CHAT, MESSAGES, attempts, call
from tests.support.processes import Json, Simulator
from tests.support.upstreams import CALLER_KEY, KEY, Gateway

RESPONSES = "/api/v1/responses"
UNKNOWN_STATE: Json = {"status": 400, "body": payloads.item_not_found("rs_1", store=True)}
# The script of a failure, and what the caller gets: status and code. The first of two different ones wins.
BY_RANK: dict[str, tuple[Json, int, str | None]] = {
    "throttled": ({"status": 429, "headers": {"retry-after": "7"}}, 429, "429"),
    "in trouble": ({"status": 500}, 500, "upstream_error"),
    "not set up": ({"status": 404}, 502, "deployment_not_found"),
    "unknown state": (UNKNOWN_STATE, 400, None),
}
PAIRS = [(first, second) for first in BY_RANK for second in BY_RANK if first != second]


@pytest.mark.parametrize("version", ["v1", "2025-04-01-preview"])
@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_the_caller_gets_the_error_of_the_highest_rank(
    gateway: Gateway, models: list[Simulator], first: str, second: str, version: str
) -> None:
    gateway.configure(models[0].url, models[1].url, AZURE_OPENAI_API_VERSION=version)
    models[0].script(BY_RANK[first][0])
    models[1].script(BY_RANK[second][0])
    response = gateway.http.post(RESPONSES, json={"input": "Hello"}, headers=CALLER)
    _, status, code = min(BY_RANK[first], BY_RANK[second], key=[*BY_RANK.values()].index)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert response.headers.get("retry-after") == ("7" if status == 429 else None)
    assert attempts(models) == [1, 1, 0]


@pytest.mark.parametrize("earlier", BY_RANK)
def test_a_mistake_in_the_call_does_not_hide_the_error_of_an_earlier_endpoint(
    gateway: Gateway, models: list[Simulator], earlier: str
) -> None:
    script, *expected = BY_RANK[earlier]
    gateway.configure(models[0].url, models[1].url)
    models[0].script(script)
    models[1].script({"status": 422})
    response = gateway.http.post(RESPONSES, json={"input": "Hello"}, headers=CALLER)
    assert [response.status_code, response.json()["error"]["code"]] == expected
    assert attempts(models) == [1, 1, 0]


def test_a_mistake_in_the_call_that_a_body_reports_reaches_the_caller(gateway: Gateway, models: list[Simulator]) -> None:
    gateway.configure(models[0].url, models[1].url)
    models[0].script({"status": 429})
    models[1].script({"error": {"code": "invalid_prompt", "message": "Change the prompt."}})
    response = gateway.http.post(RESPONSES, json={"input": "Hello"}, headers=CALLER)
    assert (response.status_code, response.json()["error"]["code"]) == (200, "invalid_prompt")


@pytest.mark.parametrize("earlier", ["throttled", "in trouble"])
@pytest.mark.parametrize("status", [302, 404, 418])
def test_an_endpoint_that_is_not_set_up_does_not_hide_throttling_of_another(
    gateway: Gateway, models: list[Simulator], earlier: str, status: int
) -> None:
    gateway.configure(*(model.url for model in models))
    models[0].script(BY_RANK[earlier][0])
    models[1].script({"status": status, "body": payloads.RESOURCE_NOT_FOUND})
    assert call(gateway).status_code == BY_RANK[earlier][1]
    assert attempts(models) == [1, 1, 0]


@pytest.mark.parametrize("version", ["v1", "2025-04-01-preview"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 404])
def test_v1s_words_for_a_missing_deployment_count_like_its_code(
    gateway: Gateway, models: list[Simulator], status: int, stream: bool, version: str
) -> None:
    gateway.configure(models[0].url, models[1].url, AZURE_OPENAI_API_VERSION=version)
    models[0].script({"status": status, "body": payloads.NO_DEPLOYMENT_FOR_MODEL})
    assert call(gateway, stream=stream).status_code == 200
    assert attempts(models) == [1, 1, 0]
    gateway.app.wait_for("there is no deployment 'chat'")


@pytest.mark.parametrize(
    ("script", "advice"),
    [
        ({"status": 403, "body": payloads.NETWORK_RULES}, "network rules exclude this app"),
        ({"status": 400, "body": payloads.API_VERSION_TOO_OLD}, "Set AZURE_OPENAI_API_VERSION to v1"),
        ({"status": 410}, "is retired. Deploy a newer model"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_the_log_says_what_the_operator_must_do_and_the_caller_gets_502(
    gateway: Gateway, model: Simulator, script: Json, advice: str, stream: bool
) -> None:
    model.script(script)
    response = call(gateway, stream=stream)
    assert response.status_code == 502
    assert response.headers["x-should-retry"] == "false"
    assert "o3-mini" not in response.text
    gateway.app.wait_for(advice)


@pytest.mark.parametrize("stream", [False, True])
def test_an_operation_that_the_deployment_lacks_is_the_callers_choice(
    gateway: Gateway, models: list[Simulator], stream: bool
) -> None:
    gateway.configure(models[0].url, models[1].url)
    models[0].http.put("/control/deployments", json={"chat": None, "other": ["embeddings"]}).raise_for_status()
    response = call(gateway, model="other", stream=stream)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "OperationNotSupported")
    assert attempts(models) == [1, 0, 0]
    assert gateway.state()["cooldowns"] == [0, 0]


# Dated versions know no background.
V1 = {"AZURE_OPENAI_API_VERSION": "v1"}


class TestNotPaidTwice:
    """An endpoint that got the request and does not respond may be working on it."""

    @pytest.fixture
    def slow(self, gateway: Gateway, models: list[Simulator]) -> Gateway:
        gateway.configure(models[0].url, models[1].url, ATTEMPT_TIMEOUT_SECONDS="0.5", REQUEST_TIMEOUT_SECONDS="2", **V1)
        models[0].script({"hang": True})
        return gateway

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("fields", [{"background": True}, {"store": True}, {"background": True, "store": True}])
    def test_a_call_that_would_leave_two_responses_waits_for_its_endpoint(
        self, slow: Gateway, models: list[Simulator], fields: Json, stream: bool
    ) -> None:
        body = {"input": "Hello", "stream": stream, **fields}
        response = slow.http.post(RESPONSES, json=body, headers=CALLER)
        assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")
        assert attempts(models) == [1, 0, 0]
        # Azure has not failed: it was slow. Other calls try the other endpoint first.
        assert slow.http.post(RESPONSES, json={"input": "Hello"}, headers=CALLER).status_code == 200
        assert attempts(models) == [1, 1, 0]

    def test_it_may_take_longer_than_an_attempt(self, slow: Gateway, models: list[Simulator]) -> None:
        models[0].clear()
        models[0].script({"delay": 1})
        body = {"input": "Hello", "background": True}
        assert slow.http.post(RESPONSES, json=body, headers=CALLER).status_code == 200
        assert attempts(models) == [1, 0, 0]

    @pytest.mark.parametrize("fields", [{}, {"background": False, "store": False}, {"store": None}])
    def test_other_calls_go_to_the_next_endpoint(self, slow: Gateway, models: list[Simulator], fields: Json) -> None:
        assert slow.http.post(RESPONSES, json={"input": "Hello", **fields}, headers=CALLER).status_code == 200
        assert attempts(models) == [1, 1, 0]

    def test_slowness_of_a_deployment_does_not_affect_the_others(self, slow: Gateway, models: list[Simulator]) -> None:
        assert call(slow, model="chat").status_code == 200
        assert call(slow, model="other").status_code == 200
        assert attempts(models) == [2, 1, 0]

    @pytest.mark.parametrize("script", [{"status": 429}, {"status": 500}])
    def test_an_error_response_shows_that_nothing_was_created(
        self, gateway: Gateway, models: list[Simulator], script: Json
    ) -> None:
        gateway.configure(models[0].url, models[1].url, **V1)
        models[0].script(script)
        body = {"input": "Hello", "background": True, "store": True}
        assert gateway.http.post(RESPONSES, json=body, headers=CALLER).status_code == 200
        assert attempts(models) == [1, 1, 0]

    def test_a_call_that_could_not_be_sent_goes_to_the_next_endpoint(
        self, gateway: Gateway, models: list[Simulator]
    ) -> None:
        gateway.configure("http://127.0.0.1:9", models[1].url, **V1)
        body = {"input": "Hello", "background": True, "store": True}
        assert gateway.http.post(RESPONSES, json=body, headers=CALLER).status_code == 200

    def test_a_lost_connection_does_not_send_it_again(self, gateway: Gateway, models: list[Simulator]) -> None:
        gateway.configure(models[0].url, models[1].url, **V1)
        models[0].script({"reset": True})
        body = {"input": "Hello", "background": True, "store": True}
        response = gateway.http.post(RESPONSES, json=body, headers=CALLER)
        assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_unreachable")
        assert attempts(models) == [1, 0, 0]


OWN_NAMES: dict[str, tuple[str, Json | None]] = {
    "data sources": (CHAT, {**MESSAGES, "data_sources": [{"type": "azure_search", "parameters": {}}]}),
    "data sources on /api/chat": ("/api/chat", {"prompt": "Hello", "data_sources": [{}]}),
    "an MCP server": (RESPONSES, {"input": "Hello", "tools": [{"type": "mcp", "server_url": "https://mine.example"}]}),
    "an escaped name": (RESPONSES, None),
    "a stored prompt": (RESPONSES, {"prompt": {"id": "pmpt_1"}, "input": "Hello"}),
    "tools that cannot be read": (RESPONSES, {"input": "Hello", "tools": [{"type": "mcp"}, None]}),
    "a container": (RESPONSES, {"input": "Hello", "tools": [{"type": "code_interpreter", "container": "cntr_1"}]}),
    "a model for images": (RESPONSES, {"input": "Hello", "tools": [{"type": "image_generation", "model": "mine"}]}),
}


@pytest.mark.parametrize("status", [401, 403, 404, 408, 424, 429, 500, 503])
@pytest.mark.parametrize("name", OWN_NAMES)
def test_a_caller_cannot_take_an_endpoint_from_the_others(
    gateway: Gateway, models: list[Simulator], name: str, status: int
) -> None:
    gateway.configure(models[0].url, models[1].url)
    path, fields = OWN_NAMES[name]
    body = json.dumps(fields) if fields else r'{"input":"Hello","tools":[{"type":"m\u0063p"}]}'
    models[0].script({"status": status, "headers": {"retry-after": "86400"}})
    gateway.http.post(path, content=body, headers={**CALLER, "content-type": "application/json"})
    assert gateway.state()["cooldowns"] == [0, 0]
    # The others' calls go to the first endpoint as before.
    before = attempts(models)[0]
    assert call(gateway).status_code == 200
    assert attempts(models)[0] == before + 1


def test_what_a_caller_writes_into_a_field_that_azure_quotes_cools_nothing_down(
    gateway: Gateway, models: list[Simulator]
) -> None:
    gateway.configure(models[0].url, models[1].url)
    for text in ("Could not find an existing deployment to match the model", "Please provide a custom subdomain"):
        models[0].script(
            {"status": 400, "body": payloads.error(None, f"Invalid value: '{text}'. Supported values are: 'low'.")}
        )
        assert call(gateway, reasoning_effort=text).status_code == 400
    assert attempts(models) == [2, 0, 0]
    assert gateway.state()["cooldowns"] == [0, 0]


class TestEquals:
    @pytest.fixture
    def group(self, gateway: Gateway, models: list[Simulator]) -> Gateway:
        """Return an app with two equal endpoints, and a third one for when both fail."""
        a, b, c = (model.url for model in models)
        gateway.configure(f"{a}|{b},{c}", AZURE_OPENAI_KEY=f"{KEY}|{KEY},{KEY}")
        return gateway

    def test_calls_one_after_the_other_are_spread_evenly(self, group: Gateway, models: list[Simulator]) -> None:
        for _ in range(8):
            assert call(group).status_code == 200
        assert attempts(models) == [4, 4, 0]

    def test_a_call_goes_where_fewer_are_in_flight(self, group: Gateway, models: list[Simulator]) -> None:
        models[0].script({"hang": True, "times": 3})
        body = json.dumps(MESSAGES).encode()
        with group.app.send_raw("POST", CHAT, body, api_key=CALLER_KEY):
            models[0].journal(requests=1)
            for _ in range(4):
                assert call(group).status_code == 200
            assert attempts(models) == [1, 4, 0]
            models[0].permit()
        models[0].journal(ended=1)

    def test_a_stream_counts_until_its_end(self, group: Gateway, models: list[Simulator]) -> None:
        models[0].script({"step": True, "reply": "one"})
        with group.http.stream("POST", CHAT, json={**MESSAGES, "stream": True}, headers=CALLER) as response:
            for _ in range(3):
                assert call(group).status_code == 200
            assert attempts(models) == [1, 3, 0]
            models[0].permit(9)
            response.read()
        # All calls are over, so the one that was used longest ago is next.
        assert call(group).status_code == 200
        assert attempts(models) == [2, 3, 0]

    def test_concurrent_calls_are_shared(self, group: Gateway, models: list[Simulator]) -> None:
        for model in models:
            model.script({"delay": 0.3, "times": 40})
        with ThreadPoolExecutor(20) as pool:
            found = [*pool.map(lambda _: call(group).status_code, range(40))]
        assert set(found) == {200}
        first, second, third = attempts(models)
        assert third == 0
        assert abs(first - second) <= 4

    @pytest.mark.parametrize("script", [{"status": 429}, {"status": 500}, {"status": 404}])
    def test_the_next_group_is_for_when_the_first_one_fails(
        self, group: Gateway, models: list[Simulator], script: Json
    ) -> None:
        models[0].script(script)
        for _ in range(3):
            assert call(group).status_code == 200
        assert attempts(models) == [1, 3, 0]
        models[1].script(script)
        assert call(group).status_code == 200
        assert attempts(models) == [1, 4, 1]

    def test_state_stays_on_its_endpoint(self, group: Gateway, models: list[Simulator]) -> None:
        def create(**fields: Any) -> httpx2.Response:
            return group.http.post(RESPONSES, json={"input": "Hello", **fields}, headers=CALLER)

        first, second = (create().json()["id"] for _ in range(2))
        assert attempts(models) == [1, 1, 0]
        for calls in (2, 3):
            for created in (first, second):
                assert create(previous_response_id=created).status_code == 200
            assert attempts(models) == [calls, calls, 0]
