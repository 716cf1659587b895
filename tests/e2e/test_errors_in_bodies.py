"""Test errors that Azure reports in the body of a 200: before any output they count like a status."""

import asyncio
from typing import Any

import httpx2
import openai
import pytest

from tests.support.gateway_calls import CALLER, MESSAGES, attempts
from tests.support.processes import Json, Simulator
from tests.support.sdk import SDK
from tests.support.upstreams import Gateway, Upstreams

RATE_LIMIT: Json = {"code": "rate_limit_exceeded", "message": "Your requests have exceeded the token rate limit."}
THROTTLED: Json = {"error": RATE_LIMIT, "headers": {"retry-after": "7"}}
# All ways in which Azure reports the error.
FORMS: dict[str, Json] = {
    "error after response.failed": {},
    "error object in the event": {"nested": True},
    "error alone": {"failed": False},
    "error in response.failed": {"failed": RATE_LIMIT},
}
OPERATIONS = {"/api/v1/chat/completions": MESSAGES, "/api/v1/responses": {"input": "Hello"}}


def send(gateway: Gateway, path: str, *, stream: bool) -> httpx2.Response:
    return gateway.http.post(path, json={**OPERATIONS[path], "stream": stream}, headers=CALLER)


def health(gateway: Gateway) -> Any:
    return gateway.http.get("/api/health").json()


class TestWithTheSDK:
    def create(self, sdk: SDK, operation: str, *, stream: bool) -> list[Any]:
        """Return the events of a stream, or the whole response."""
        if operation == "chat":
            created = sdk.client.chat.completions.create(model="chat", messages=MESSAGES["messages"], stream=stream)
        else:
            created = sdk.client.responses.create(model="chat", input="Hello", stream=stream)
        return sdk.events(created) if stream else [sdk.result(created)]

    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize("operation", ["chat", "responses"])
    def test_the_second_endpoint_serves_the_call(
        self, sdk: SDK, models: list[Simulator], operation: str, stream: bool
    ) -> None:
        models[0].script(THROTTLED)
        for calls in (1, 2):
            events = self.create(sdk, operation, stream=stream)
            assert "rate_limit" not in str(events)
            assert "You said" in str(events) or len(events) > 5
            # The first endpoint is cooling down.
            assert attempts(models) == [1, calls, 0]

    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize("operation", ["chat", "responses"])
    def test_without_another_endpoint_it_is_a_real_429(
        self, sdk: SDK, models: list[Simulator], operation: str, stream: bool
    ) -> None:
        for model in models[:2]:
            model.script(THROTTLED)
        with pytest.raises(openai.RateLimitError) as raised:
            self.create(sdk, operation, stream=stream)
        assert raised.value.response.headers["retry-after"] == "7"
        assert raised.value.code == "rate_limit_exceeded"
        assert "token rate limit" in raised.value.message


@pytest.mark.parametrize("form", FORMS)
def test_an_error_before_any_output_sends_the_call_to_the_next_endpoint(
    two: Gateway, models: list[Simulator], form: str
) -> None:
    models[0].script({**THROTTLED, **FORMS[form]})
    response = send(two, "/api/v1/responses", stream=True)
    assert response.status_code == 200
    assert "rate_limit" not in response.text
    assert "response.completed" in response.text
    assert attempts(models) == [1, 1, 0]
    (first, second) = health(two)["endpoints"]
    assert (first["state"], second["state"]) == ("throttled", "up")


@pytest.mark.parametrize("path", ["/api/chat", *OPERATIONS])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "error",
    [
        {"code": "server_error", "message": "The server had an error."},
        {"code": None, "type": "server_error", "message": "The server had an error."},
        {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."},
        {"code": None, "message": "Could not find an existing deployment to match the model in the request."},
        {"code": "429", "message": "Requests have exceeded the rate limit."},
    ],
)
def test_each_kind_of_error_of_the_endpoint_counts_like_its_status(
    two: Gateway, models: list[Simulator], path: str, stream: bool, error: Json
) -> None:
    body = {**OPERATIONS.get(path, MESSAGES), "stream": stream}
    for model in models[:2]:
        model.script({"error": error, "nested": True})
    assert two.http.post(path, json=body, headers=CALLER).status_code in (429, 500, 502)
    assert attempts(models) == [1, 1, 0]
    assert two.state()["cooldowns"] == [1, 1]


@pytest.mark.parametrize("path", OPERATIONS)
@pytest.mark.parametrize("code", ["content_filter", "invalid_prompt"])
def test_an_error_that_the_caller_must_fix_passes_on_unchanged(
    two: Gateway, models: list[Simulator], path: str, code: str
) -> None:
    models[0].script({"error": {"code": code, "message": "Change the prompt."}})
    assert code in text_of_stream(two, path)
    assert attempts(models) == [1, 0, 0]
    assert two.state()["cooldowns"] == [0, 0]


@pytest.mark.parametrize("path", OPERATIONS)
def test_an_error_after_output_reaches_the_caller_and_starts_the_cooldown(
    two: Gateway, models: list[Simulator], path: str
) -> None:
    models[0].script({**THROTTLED, "after": 2})
    text = text_of_stream(two, path)
    assert "You said" in text
    assert "rate_limit_exceeded" in text
    assert attempts(models) == [1, 0, 0]
    assert health(two)["endpoints"][0]["state"] == "throttled"
    assert send(two, path, stream=True).status_code == 200
    # One of them is the probe of the second endpoint.
    assert attempts(models) == [1, 2, 0]


def text_of_stream(gateway: Gateway, path: str) -> str:
    """Return what arrives of a stream, which may end in the middle."""
    received = b""
    body = {**OPERATIONS.get(path, MESSAGES), "stream": True}
    with gateway.http.stream("POST", path, json=body, headers=CALLER) as response:
        assert response.status_code == 200
        try:
            for chunk in response.iter_raw():
                received += chunk
        except httpx2.HTTPError:
            pass
    return received.decode()


@pytest.mark.parametrize("path", OPERATIONS)
def test_a_stream_without_output_is_not_held_back_for_long(two: Gateway, models: list[Simulator], path: str) -> None:
    models[0].script({"step": True, "reply": "one"})
    body = {**OPERATIONS[path], "stream": True}
    with two.http.stream("POST", path, json=body, headers=CALLER) as response:
        # Only the test itself lets the output come.
        first = next(response.iter_raw())
        assert b"response.created" in first or b"prompt_filter_results" in first
        models[0].permit(9)
    assert attempts(models) == [1, 0, 0]


@pytest.mark.parametrize(
    "events",
    [
        'event: error\ndata: {"code":"rate_limit_exceeded","message":"m"}\n\n',
        'data: {"statusCode":429,"message":"Rate limit is exceeded. Try again in 7 seconds."}\n\n',
        'data: {"error":{"code":"rate_limit_exceeded","message":"m"},"status":429}\n\n',
        'data: {"type":"error","status":429,"error":{"code":"rate_limit_exceeded","message":"m"}}\r\n\r\n',
        'data: {"choices":null,"prompt_filter_results":[]}\n\ndata: {"error":{"code":"429","message":"m"}}\n\n',
        'event: keepalive\ndata: {"type":"keepalive"}\n\ndata: {"error":{"code":429,"message":"m"}}\n\n',
        ': a comment\n\ndata: {"error":"overloaded"}\n\n',
        # These end before there is any output.
        'data: {"choices":[]}\n\n',
        'data: {"type":"response.created","response":{}}\n\n',
        "",
    ],
)
@pytest.mark.parametrize("path", OPERATIONS)
def test_the_next_endpoint_serves_the_call_whatever_takes_the_place_of_output(
    two: Gateway, models: list[Simulator], path: str, events: str
) -> None:
    models[0].script({"raw": events, "split": 7, "headers": {"content-type": "text/event-stream", "retry-after": "7"}})
    assert send(two, path, stream=True).status_code == 200
    assert attempts(models) == [1, 1, 0]


PREAMBLES = {
    "/api/v1/chat/completions": b'data: {"choices":[],"prompt_filter_results":[]}\n\n',
    "/api/v1/responses": b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_1"}}\n\n',
}


@pytest.mark.parametrize(("end", "error"), [(b"", 502), (b"0\r\n\r\n", 500)], ids=["lost", "in order"])
@pytest.mark.parametrize("store", [False, True])
@pytest.mark.parametrize("path", OPERATIONS)
def test_a_stream_that_ends_before_any_output_is_sent_again_unless_two_responses_would_remain(
    gateway: Gateway, upstreams: Upstreams, models: list[Simulator], path: str, store: bool, end: bytes, error: int
) -> None:
    async def interrupt(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        chunk = PREAMBLES[path]
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(head + b"%x\r\n%s\r\n" % (len(chunk), chunk) + end)
        await writer.drain()
        writer.close()

    gateway.configure(f"http://127.0.0.1:{upstreams.serve(interrupt)}", models[0].url)
    body = {**OPERATIONS[path], "stream": True, "store": store}
    response = gateway.http.post(path, json=body, headers=CALLER)
    assert response.status_code == (error if store else 200)
    assert attempts(models) == [1 - store, 0, 0]


def test_retrieving_a_stream_that_failed_starts_no_cooldown(gateway: Gateway, model: Simulator) -> None:
    created = send(gateway, "/api/v1/responses", stream=False).json()["id"]
    failed = (
        f'data: {{"type":"response.created","response":{{"id":"{created}"}}}}\n\n'
        f'data: {{"type":"response.failed","response":{{"id":"{created}","status":"failed","error":{{"code":"500"}}}}}}\n\n'
    )
    model.script({"raw": failed, "headers": {"content-type": "text/event-stream"}})
    response = gateway.http.get(f"/api/v1/responses/{created}?stream=true", headers=CALLER)
    assert response.text == failed
    assert gateway.state()["cooldowns"] == [0]
