"""POST /api/chat over HTTP, on the real runtime, against the stand-in for Azure OpenAI."""

import json
from collections.abc import Iterator

import pytest

from local import shapes
from tests.core_tools import CORE_TOOLS
from tests.running import Json, LocalApp, local_app


def error_of(body: bytes) -> Json:
    error: Json = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.skipif(
    not CORE_TOOLS, reason="Core Tools (func) are not on the PATH: these tests run on `python -m local` alone"
)
def test_the_tests_run_under_func_start_too(request: pytest.FixtureRequest) -> None:
    tests = [item.nodeid for item in request.session.items if "test_chat.py" in item.nodeid]
    assert any("[func" in test for test in tests)


def test_a_prompt_gets_a_reply(app: LocalApp) -> None:
    app.model.script({"reply": "Hello to you"})
    response = app.chat({"prompt": "Hello"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    assert list(answer) == ["id", "model", "reply", "finish_reason", "usage"]
    assert answer["reply"] == "Hello to you"
    assert answer["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == 2
    (seen,) = app.model.journal()
    assert json.loads(seen.body)["messages"] == [{"role": "user", "content": "Hello"}]


def test_messages_and_parameters_reach_azure_as_they_are(app: LocalApp) -> None:
    messages = b'[ {"role":"system","content":"Be brief"},{"role": "user", "content": "\\u00fc \xc3\xbc"} ]'
    response = app.chat(b'{"temperature": 0.50, "messages": ' + messages + b', "seed":1}')
    assert response.status_code == 200
    (seen,) = app.model.journal()
    assert messages in seen.body
    assert b'"temperature":0.50' in seen.body
    assert b'"seed":1' in seen.body


def test_a_stream_comes_piece_by_piece(app: LocalApp) -> None:
    app.model.script({"reply": "one and two and three", "step": True})
    with app.streamed() as events:
        for piece in ("one and", " two and", " three"):
            # The stand-in sends nothing before this; so each piece is here before the next exists.
            app.model.permit()
            assert json.loads(next(events)) == {"delta": piece}
        last = json.loads(next(events))
        assert last["finish_reason"] == "stop"
        assert last["usage"]["completion_tokens"] == 3
        assert list(events) == ["[DONE]"]


def test_a_dated_api_version_has_the_deployment_in_the_path(app: LocalApp) -> None:
    app.chat({"prompt": "Hello"})
    (seen,) = app.model.journal()
    assert seen.path == "/openai/deployments/gpt-4o-mini/chat/completions"
    assert seen.query == {"api-version": "2025-04-01-preview"}
    assert "api-key" in seen.headers
    assert "authorization" not in seen.headers


def test_v1_has_the_deployment_in_the_body(v1_app: LocalApp) -> None:
    assert v1_app.chat({"prompt": "Hello"}).status_code == 200
    with v1_app.streamed() as events:
        assert list(events)[-1] == "[DONE]"
    for seen in v1_app.model.journal():
        assert seen.path == "/openai/v1/chat/completions"
        assert seen.query == {}
        assert json.loads(seen.body)["model"] == "gpt-4o-mini"


@pytest.mark.parametrize("model", ["gpt-4o", "prod-4o"])
def test_a_model_is_a_deployment_or_an_alias(app: LocalApp, model: str) -> None:
    assert app.chat({"prompt": "Hello", "model": model}).status_code == 200
    (seen,) = app.model.journal()
    assert seen.path == "/openai/deployments/prod-4o/chat/completions"
    assert json.loads(seen.body)["model"] == "prod-4o"


def test_an_unknown_model_is_404_and_goes_nowhere(app: LocalApp) -> None:
    response = app.chat({"prompt": "Hello", "model": "gpt-5"})
    assert response.status_code == 404
    assert error_of(response.content)["code"] == "model_not_found"
    assert error_of(response.content)["param"] == "model"
    assert app.model.journal() == []


DEEP = b"[" * 100_000 + b"]" * 100_000
BAD_BODIES = {
    "empty": (b"", "it is empty"),
    "not JSON": (b"Hello", "JSON is malformed"),
    "cut off": (b'{"prompt": "Hel', "truncated"),
    "array": (b'["Hello"]', "must be a JSON object"),
    "string": (b'"Hello"', "must be a JSON object"),
    "NaN": (b'{"prompt": NaN}', "JSON is malformed"),
    "neither": (b"{}", "Give 'prompt', a string, or 'messages'"),
    "both": (b'{"prompt": "a", "messages": [{"role":"user","content":"a"}]}', "not both"),
    "prompt a number": (b'{"prompt": 7}', "'prompt' must be a string"),
    "prompt null": (b'{"prompt": null}', "'prompt' must be a string"),
    "prompt empty": (b'{"prompt": ""}', "'prompt' must be a string that is not empty"),
    "messages empty": (b'{"messages": []}', "at least one message"),
    "messages null": (b'{"messages": null}', "at least one message"),
    "messages a string": (b'{"messages": "Hello"}', "'messages' must be a list"),
    "messages of strings": (b'{"messages": ["Hello"]}', "each a JSON object"),
    "stream a string": (b'{"prompt": "a", "stream": "yes"}', "'stream' must be true or false"),
    "stream a number": (b'{"prompt": "a", "stream": 1}', "'stream' must be true or false"),
    "tools": (b'{"prompt": "a", "tools": [{"type":"function"}]}', "/api/v1/chat/completions"),
    "functions": (b'{"prompt": "a", "functions": [{"name":"f"}]}', "/api/v1/chat/completions"),
    "n above 1": (b'{"prompt": "a", "n": 2}', "/api/v1/chat/completions"),
    "n not a number": (b'{"prompt": "a", "n": "2"}', "'n' must be 1"),
    "model a number": (b'{"prompt": "a", "model": 4}', "'model' must be a string"),
    "invalid UTF-8": (b'{"prompt": "\xff"}', "must be UTF-8"),
    "invalid UTF-8 deep inside": (b'{"prompt": "a", "user": ["\xff"]}', "must be UTF-8"),
    "lone surrogate": (b'{"prompt": "\\ud800"}', "must be a JSON object"),
    "nested": (DEEP, "must be a JSON object"),
    "nested and open": (b"[" * 100_000, "must be a JSON object"),
    "nested messages": (b'{"messages": ' + DEEP + b"}", "nested too deeply"),
    "nested elsewhere": (b'{"prompt": "a", "metadata": ' + DEEP + b"}", "nested too deeply"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_bad_input_is_400_and_says_what_to_change(app: LocalApp, name: str) -> None:
    body, expected = BAD_BODIES[name]
    response = app.chat(body)
    assert response.status_code == 400
    error = error_of(response.content)
    assert error["type"] == "invalid_request_error"
    assert expected in error["message"]
    assert app.model.journal() == []


def test_null_is_as_good_as_absent_where_openai_takes_it_so(app: LocalApp) -> None:
    assert app.chat(b'{"prompt":"a","stream":null,"tools":null,"n":null,"model":null}').status_code == 200


LIMIT = 20_000_000


@pytest.fixture(scope="module")
def limited_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalApp]:
    settings = {
        "MAX_BODY_BYTES": str(LIMIT),
        "MAX_CONCURRENT_CALLS": "1",
        "REQUEST_TIMEOUT_SECONDS": "0.5",
        "STREAM_IDLE_SECONDS": "0.5",
    }
    with local_app(tmp_path_factory.mktemp("app"), **settings) as app:
        yield app


@pytest.fixture(scope="module")
def v1_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalApp]:
    with local_app(tmp_path_factory.mktemp("app"), AZURE_OPENAI_API_VERSION="v1") as app:
        yield app


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
@pytest.mark.parametrize("excess", [1, 40_000_000])
def test_a_body_above_the_limit_is_413(limited_app: LocalApp, declared: bool, excess: int) -> None:
    limited_app.model.clear()
    body = b'{"prompt":"' + b"a" * (LIMIT + excess - 13) + b'"}'
    pieces = (body[i : i + 1_000_000] for i in range(0, len(body), 1_000_000))
    response = limited_app.http.post("/api/chat", content=body if declared else pieces)
    assert response.status_code == 413
    assert str(LIMIT) in error_of(response.content)["message"]
    assert limited_app.model.journal() == []


def test_a_body_at_the_limit_is_accepted(limited_app: LocalApp) -> None:
    body = b'{"prompt":"' + b"a" * (LIMIT - 13) + b'"}'
    # Accepted; the deadline of this app's settings may still be too short for it.
    assert limited_app.chat(body).status_code in (200, 504)


def test_no_headers_before_the_deadline_is_504(limited_app: LocalApp) -> None:
    limited_app.model.clear()
    limited_app.model.script({"hang": True})
    response = limited_app.chat({"prompt": "Hello"})
    assert response.status_code == 504
    assert error_of(response.content)["code"] == "deadline_exceeded"
    assert limited_app.model.journal(ended=1)[0].hung_up


def test_more_calls_than_allowed_get_503_with_retry_after(limited_app: LocalApp) -> None:
    limited_app.model.clear()
    limited_app.model.script({"reply": "one and two", "step": True})
    with limited_app.streamed() as events:
        limited_app.model.permit()
        next(events)
        response = limited_app.chat({"prompt": "Hello"})
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert error_of(response.content)["code"] == "too_many_calls"
    limited_app.model.journal(ended=1)
    assert limited_app.chat({"prompt": "Hello"}).status_code == 200


def test_a_stream_that_falls_silent_ends_with_an_error_event(limited_app: LocalApp) -> None:
    limited_app.model.clear()
    limited_app.model.script({"reply": "one and two", "step": True})
    with limited_app.streamed() as events:
        limited_app.model.permit()
        assert json.loads(next(events)) == {"delta": "one and"}
        assert error_of(next(events).encode())["code"] == "stream_broken"
        assert list(events) == []
    assert limited_app.model.journal(ended=1)[0].hung_up


def test_a_stream_that_breaks_off_ends_with_an_error_event(app: LocalApp) -> None:
    app.model.script({"reply": "one and two and three", "cut": 2})
    with app.streamed() as events:
        assert [json.loads(next(events)) for _ in range(2)] == [{"delta": "one and"}, {"delta": " two and"}]
        assert error_of(next(events).encode())["code"] == "stream_broken"
        assert list(events) == []


def test_a_caller_who_leaves_in_mid_stream_ends_the_call_to_azure(app: LocalApp) -> None:
    app.model.script({"reply": "one and two", "step": True})
    with app.streamed() as events:
        app.model.permit()
        next(events)
    (seen,) = app.model.journal(ended=1)
    assert seen.hung_up
    assert seen.pieces == 1


@pytest.mark.parametrize("stream", [True, False])
def test_a_caller_who_leaves_before_the_answer_ends_the_call_to_azure(app: LocalApp, stream: bool) -> None:
    app.model.script({"hang": True})
    body = json.dumps({"prompt": "Hello", "stream": stream}).encode()
    with app.sent("POST", "/api/chat", body):
        app.model.journal(requests=1)
    (seen,) = app.model.journal(ended=1)
    assert seen.hung_up


def test_a_content_filter_refusal_comes_through_verbatim(app: LocalApp) -> None:
    app.model.script({"status": 400})
    response = app.chat({"prompt": "Hello"})
    assert response.status_code == 400
    assert response.json() == shapes.CONTENT_FILTER
    assert response.json()["error"]["innererror"]["content_filter_result"]["violence"]["filtered"]


@pytest.mark.parametrize("stream", [True, False])
def test_throttling_comes_through_with_its_retry_after(app: LocalApp, stream: bool) -> None:
    app.model.script({"status": 429, "headers": {"retry-after": "7", "retry-after-ms": "6500"}})
    response = app.chat({"prompt": "Hello", "stream": stream})
    assert response.status_code == 429
    assert response.headers["retry-after"] == "7"
    assert response.headers["retry-after-ms"] == "6500"
    assert response.json() == shapes.THROTTLED


@pytest.mark.parametrize(
    ("script", "code", "logged"),
    [
        ({"status": 401, "body": shapes.WRONG_KEY}, "upstream_auth", "Check AZURE_OPENAI_KEY"),
        ({"status": 403, "body": shapes.KEYS_DISABLED}, "upstream_auth", "403 AuthenticationTypeDisabled"),
        (
            {"status": 404},
            "deployment_not_found",
            "Endpoint 1, called by (chat), has no deployment 'gpt-4o-mini'",
        ),
        (
            {"status": 404, "body": shapes.RESOURCE_NOT_FOUND},
            "upstream_error",
            "(chat), answered 404",
        ),
        (
            {"status": 302, "headers": {"location": "http://127.0.0.1:9/"}},
            "upstream_error",
            "(chat), answered 302",
        ),
    ],
)
def test_what_the_operator_must_mend_is_502_and_logged(app: LocalApp, script: Json, code: str, logged: str) -> None:
    app.model.script(script)
    response = app.chat({"prompt": "Hello"})
    assert response.status_code == 502
    assert error_of(response.content)["code"] == code
    app.wait_for(logged)
    assert len(app.model.journal()) == 1


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_a_failure_of_azure_keeps_its_status_and_not_its_text(app: LocalApp, status: int) -> None:
    app.model.script({"status": status, "body": "at NAME.openai.azure.com", "headers": {"retry-after": "3"}})
    response = app.chat({"prompt": "Hello"})
    assert response.status_code == status
    assert response.headers["retry-after"] == "3"
    assert error_of(response.content)["code"] == "upstream_error"
    assert "NAME" not in response.text


def test_an_answer_that_is_no_completion_is_502(app: LocalApp) -> None:
    app.model.script({"status": 200, "body": {"choices": []}})
    response = app.chat({"prompt": "Hello"})
    assert response.status_code == 502
    assert error_of(response.content)["code"] == "upstream_error"


CALLERS_SECRETS = {
    "authorization": "Bearer callers-own",
    "cookie": "session=callers-own",
    "x-functions-key": "callers-own",
    "x-api-key": "callers-own",
    "openai-organization": "callers-own",
}
PASSED_ON = {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "tracestate": "a=b", "x-client-request-id": "17"}
ALLOWED = {"host", "content-length", "content-type", "accept", "accept-encoding", "user-agent", "api-key"}


def test_azure_sees_the_listed_headers_and_no_others(app: LocalApp) -> None:
    app.chat({"prompt": "Hello"}, headers=CALLERS_SECRETS | PASSED_ON, params={"code": "callers-own"})
    (seen,) = app.model.journal()
    assert set(seen.headers) == ALLOWED | set(PASSED_ON)
    assert {name: seen.headers[name] for name in PASSED_ON} == PASSED_ON
    assert "callers-own" not in str(seen)
    assert "from-the-environment" not in str(seen)


def test_a_header_that_cannot_be_passed_on_is_dropped(app: LocalApp) -> None:
    assert app.chat({"prompt": "Hello"}, headers={"x-client-request-id": "ü".encode()}).status_code == 200
    (seen,) = app.model.journal()
    assert "x-client-request-id" not in seen.headers


def test_the_caller_sees_azures_request_ids_and_limits(app: LocalApp) -> None:
    app.model.script({"status": 429, "headers": {"set-cookie": "a=b", "x-secret": "1", "retry-after": "1"}})
    for response in (app.chat({"prompt": "Hello"}), app.chat({"prompt": "Hello"})):
        for name in ("apim-request-id", "x-request-id", "x-ms-region", "x-ratelimit-remaining-tokens"):
            assert name in response.headers
        assert "set-cookie" not in response.headers
        assert "x-secret" not in response.headers
