"""Test POST /api/chat when something goes wrong: limits, time-outs, clients that disconnect, and errors of Azure."""

import json
from collections.abc import Iterator

import pytest

from local.simulator import payloads
from tests.support.contract import error_in_event, error_of
from tests.support.processes import Json, LocalApp, local_app
from tests.support.streams import rest_of_unfinished

LIMIT = 20_000


@pytest.fixture(scope="module")
def limited_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalApp]:
    settings = {"MAX_CONCURRENT_CALLS": "1", "REQUEST_TIMEOUT_SECONDS": "0.5", "STREAM_IDLE_SECONDS": "0.5"}
    with local_app(tmp_path_factory.mktemp("app"), **settings) as app:
        yield app


@pytest.fixture(scope="module")
def small_body_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalApp]:
    with local_app(tmp_path_factory.mktemp("app"), MAX_BODY_BYTES=str(LIMIT)) as app:
        yield app


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
@pytest.mark.parametrize("excess", [1, 40_000_000])
def test_a_body_above_the_limit_is_413(small_body_app: LocalApp, declared: bool, excess: int) -> None:
    small_body_app.model.clear()
    body = b'{"prompt":"' + b"a" * (LIMIT + excess - 13) + b'"}'
    chunks = (body[i : i + 1_000_000] for i in range(0, len(body), 1_000_000))
    response = small_body_app.http.post("/api/chat", content=body if declared else chunks)
    assert response.status_code == 413
    assert str(LIMIT) in error_of(response.content)["message"]
    assert small_body_app.model.journal() == []


def test_a_body_at_the_limit_is_accepted(small_body_app: LocalApp) -> None:
    body = b'{"prompt":"' + b"a" * (LIMIT - 13) + b'"}'
    assert small_body_app.chat(body).status_code == 200


def test_a_body_that_never_arrives_is_408(limited_app: LocalApp) -> None:
    with limited_app.send_raw("POST", "/api/chat", b"{", length=100) as connection:
        assert connection.makefile("rb").readline().startswith(b"HTTP/1.1 408")


def test_no_response_before_the_deadline_is_504(limited_app: LocalApp) -> None:
    limited_app.model.clear()
    limited_app.model.script({"hang": True})
    response = limited_app.chat({"prompt": "Hello"})
    assert response.status_code == 504
    assert error_of(response.content)["code"] == "deadline_exceeded"
    assert limited_app.model.journal(ended=1)[0].disconnected


def test_a_call_above_the_limit_gets_503_with_retry_after(limited_app: LocalApp) -> None:
    limited_app.model.clear()
    limited_app.model.script({"reply": "one and two", "step": True})
    with limited_app.stream_chat() as events:
        limited_app.model.permit()
        next(events)
        response = limited_app.chat({"prompt": "Hello"})
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert error_of(response.content)["code"] == "too_many_calls"
    limited_app.model.journal(ended=1)
    assert limited_app.chat({"prompt": "Hello"}).status_code == 200


def test_a_stream_that_goes_silent_ends_with_an_error_event(limited_app: LocalApp) -> None:
    limited_app.model.clear()
    limited_app.model.script({"reply": "one and two", "step": True})
    with limited_app.stream_chat() as events:
        limited_app.model.permit()
        assert json.loads(next(events)) == {"delta": "one and"}
        (last,) = rest_of_unfinished(events)
    error = error_in_event(last)
    assert error["code"] == "stream_broken"
    assert "nothing for 0.5 seconds" in error["message"]
    assert limited_app.model.journal(ended=1)[0].disconnected


def test_an_interrupted_stream_ends_with_an_error_event(app: LocalApp) -> None:
    app.model.script({"reply": "one and two and three", "cut": 2})
    with app.stream_chat() as events:
        assert [json.loads(next(events)) for _ in range(2)] == [{"delta": "one and"}, {"delta": " two and"}]
        (last,) = rest_of_unfinished(events)
    assert error_in_event(last)["code"] == "stream_broken"


def test_a_disconnect_during_a_stream_ends_the_call_to_azure(app: LocalApp) -> None:
    app.model.script({"reply": "one and two", "step": True})
    with app.stream_chat() as events:
        app.model.permit()
        next(events)
    (seen,) = app.model.journal(ended=1)
    assert seen.disconnected
    assert seen.chunks == 1


@pytest.mark.parametrize("stream", [True, False])
def test_a_disconnect_before_the_response_ends_the_call_to_azure(app: LocalApp, stream: bool) -> None:
    app.model.script({"hang": True})
    body = json.dumps({"prompt": "Hello", "stream": stream}).encode()
    with app.send_raw("POST", "/api/chat", body):
        app.model.journal(requests=1)
    (seen,) = app.model.journal(ended=1)
    assert seen.disconnected


def test_an_error_of_the_content_filter_is_forwarded_unchanged(app: LocalApp) -> None:
    app.model.script({"status": 400})
    response = app.chat({"prompt": "Hello"})
    assert response.status_code == 400
    assert response.json() == payloads.CONTENT_FILTER
    assert response.json()["error"]["innererror"]["content_filter_result"]["violence"]["filtered"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_throttling_response_is_forwarded_with_its_retry_after(app: LocalApp, stream: bool) -> None:
    app.model.script({"status": 429, "headers": {"retry-after": "7", "retry-after-ms": "6500"}})
    response = app.chat({"prompt": "Hello", "stream": stream})
    assert response.status_code == 429
    assert response.headers["retry-after"] == "7"
    assert response.headers["retry-after-ms"] == "6500"
    assert response.json() == payloads.THROTTLED


@pytest.mark.parametrize(
    ("script", "code", "logged"),
    [
        ({"status": 401, "body": payloads.WRONG_KEY}, "upstream_auth", "check AZURE_OPENAI_KEY"),
        ({"status": 403, "body": payloads.KEYS_DISABLED}, "upstream_auth", "403 AuthenticationTypeDisabled"),
        (
            {"status": 404},
            "deployment_not_found",
            "there is no deployment 'chat'",
        ),
        (
            {"status": 404, "body": payloads.RESOURCE_NOT_FOUND},
            "upstream_error",
            "(chat), responded with 404",
        ),
        (
            {"status": 302, "headers": {"location": "http://127.0.0.1:9/"}},
            "upstream_error",
            "(chat), responded with 302",
        ),
    ],
)
def test_an_error_that_the_operator_must_fix_is_502_and_logged(app: LocalApp, script: Json, code: str, logged: str) -> None:
    app.model.script(script)
    response = app.chat({"prompt": "Hello"})
    assert response.status_code == 502
    assert error_of(response.content)["code"] == code
    app.wait_for(logged)
    assert len(app.model.journal()) == 1


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_a_failure_of_azure_keeps_its_status_but_not_its_text(app: LocalApp, status: int) -> None:
    app.model.script({"status": status, "body": "at NAME.openai.azure.com", "headers": {"retry-after": "3"}})
    response = app.chat({"prompt": "Hello"})
    assert response.status_code == status
    assert response.headers["retry-after"] == "3"
    assert error_of(response.content)["code"] == "upstream_error"
    assert "NAME" not in response.text


def test_a_response_without_a_completion_is_502(app: LocalApp) -> None:
    app.model.script({"status": 200, "body": {"choices": []}})
    response = app.chat({"prompt": "Hello"})
    assert response.status_code == 502
    assert error_of(response.content)["code"] == "upstream_error"
