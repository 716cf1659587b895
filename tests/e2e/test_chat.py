"""Test POST /api/chat over HTTP, on the real runtime, against the simulator of Azure OpenAI."""

import json
from collections.abc import Iterator

import pytest

from tests.support.contract import ALLOWED_HEADERS, DROPPED_HEADERS, FORWARDED_HEADERS, error_of
from tests.support.core_tools import CORE_TOOLS
from tests.support.processes import LocalApp, local_app


@pytest.fixture(scope="module")
def v1_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalApp]:
    with local_app(tmp_path_factory.mktemp("app"), AZURE_OPENAI_API_VERSION="v1") as app:
        yield app


@pytest.mark.skipif(
    not CORE_TOOLS, reason="Core Tools (func) are not on the PATH: these tests run on `python -m local` only"
)
def test_the_tests_run_under_func_start_too(request: pytest.FixtureRequest) -> None:
    tests = [item.nodeid for item in request.session.items if "test_chat.py" in item.nodeid]
    assert any("[func" in test for test in tests)


def test_a_prompt_gets_a_reply(app: LocalApp) -> None:
    app.model.script({"reply": "Hello to you"})
    response = app.chat({"prompt": "Hello"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["id", "model", "reply", "finish_reason", "usage"]
    assert body["reply"] == "Hello to you"
    assert body["finish_reason"] == "stop"
    assert body["usage"]["completion_tokens"] == 2
    (seen,) = app.model.journal()
    assert json.loads(seen.body)["messages"] == [{"role": "user", "content": "Hello"}]


def test_messages_and_parameters_reach_azure_unchanged(app: LocalApp) -> None:
    messages = b'[ {"role":"system","content":"Be brief"},{"role": "user", "content": "\\u00fc \xc3\xbc"} ]'
    response = app.chat(b'{"temperature": 0.50, "messages": ' + messages + b', "seed":1}')
    assert response.status_code == 200
    (seen,) = app.model.journal()
    assert messages in seen.body
    assert b'"temperature":0.50' in seen.body
    assert b'"seed":1' in seen.body


def test_each_chunk_of_a_stream_arrives_at_once(app: LocalApp) -> None:
    app.model.script({"reply": "one and two and three", "step": True})
    with app.stream_chat() as events:
        for chunk in ("one and", " two and", " three"):
            # The simulator waits for this, so each chunk arrives before the next one is sent.
            app.model.permit()
            assert json.loads(next(events)) == {"delta": chunk}
        last = json.loads(next(events))
        assert last["finish_reason"] == "stop"
        assert last["usage"]["completion_tokens"] == 3
        assert list(events) == ["[DONE]"]


def test_with_a_dated_api_version_the_deployment_is_in_the_path(app: LocalApp) -> None:
    app.chat({"prompt": "Hello"})
    (seen,) = app.model.journal()
    assert seen.path == "/openai/deployments/chat/chat/completions"
    assert seen.query == {"api-version": "2025-04-01-preview"}
    assert "api-key" in seen.headers
    assert "authorization" not in seen.headers


def test_with_v1_the_deployment_is_in_the_body(v1_app: LocalApp) -> None:
    assert v1_app.chat({"prompt": "Hello"}).status_code == 200
    with v1_app.stream_chat() as events:
        assert list(events)[-1] == "[DONE]"
    for seen in v1_app.model.journal():
        assert seen.path == "/openai/v1/chat/completions"
        assert seen.query == {}
        assert json.loads(seen.body)["model"] == "chat"


@pytest.mark.parametrize("model", ["gpt-4o", "prod-4o"])
def test_a_model_is_a_deployment_or_an_alias(app: LocalApp, model: str) -> None:
    assert app.chat({"prompt": "Hello", "model": model}).status_code == 200
    (seen,) = app.model.journal()
    assert seen.path == "/openai/deployments/prod-4o/chat/completions"
    assert json.loads(seen.body)["model"] == "prod-4o"


def test_an_unknown_model_is_404_without_a_call_to_azure(app: LocalApp) -> None:
    response = app.chat({"prompt": "Hello", "model": "gpt-5"})
    assert response.status_code == 404
    assert error_of(response.content)["code"] == "model_not_found"
    assert error_of(response.content)["param"] == "model"
    assert app.model.journal() == []


DEEP = b"[" * 100_000 + b"]" * 100_000
BAD_BODIES = {
    "empty": (b"", "it is empty"),
    "not JSON": (b"Hello", "JSON is malformed"),
    "truncated": (b'{"prompt": "Hel', "truncated"),
    "an array": (b'["Hello"]', "must be a JSON object"),
    "a string": (b'"Hello"', "must be a JSON object"),
    "NaN": (b'{"prompt": NaN}', "JSON is malformed"),
    "neither prompt nor messages": (b"{}", "Give 'prompt', a string, or 'messages'"),
    "both prompt and messages": (b'{"prompt": "a", "messages": [{"role":"user","content":"a"}]}', "not both"),
    "prompt is a number": (b'{"prompt": 7}', "'prompt' must be a string"),
    "prompt is null": (b'{"prompt": null}', "'prompt' must be a non-empty string"),
    "prompt is empty": (b'{"prompt": ""}', "'prompt' must be a non-empty string"),
    "messages is empty": (b'{"messages": []}', "at least one message"),
    "messages is null": (b'{"messages": null}', "must be a list of messages"),
    "messages is a string": (b'{"messages": "Hello"}', "'messages' must be a list"),
    "messages contains strings": (b'{"messages": ["Hello"]}', "each a JSON object"),
    "stream is a string": (b'{"prompt": "a", "stream": "yes"}', "'stream' must be true or false"),
    "stream is a number": (b'{"prompt": "a", "stream": 1}', "'stream' must be true or false"),
    "tools": (b'{"prompt": "a", "tools": [{"type":"function"}]}', "/api/v1/chat/completions"),
    "functions": (b'{"prompt": "a", "functions": [{"name":"f"}]}', "/api/v1/chat/completions"),
    "n is above 1": (b'{"prompt": "a", "n": 2}', "/api/v1/chat/completions"),
    "n is a string": (b'{"prompt": "a", "n": "2"}', "'n' must be 1"),
    "model is a number": (b'{"prompt": "a", "model": 4}', "'model' must be a string"),
    "invalid UTF-8": (b'{"prompt": "\xff"}', "must be UTF-8"),
    "invalid UTF-8 in a list": (b'{"prompt": "a", "user": ["\xff"]}', "must be UTF-8"),
    "lone surrogate": (b'{"prompt": "\\ud800"}', "'prompt' has half a surrogate pair"),
    "nested arrays": (DEEP, "must be a JSON object"),
    "nested and unclosed arrays": (b"[" * 100_000, "must be a JSON object"),
    "nested messages": (b'{"messages": ' + DEEP + b"}", "nested too deeply"),
    "nested metadata": (b'{"prompt": "a", "metadata": ' + DEEP + b"}", "nested too deeply"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_the_400_for_invalid_input_says_what_to_change(app: LocalApp, name: str) -> None:
    body, expected = BAD_BODIES[name]
    response = app.chat(body)
    assert response.status_code == 400
    error = error_of(response.content)
    assert error["type"] == "invalid_request_error"
    assert expected in error["message"]
    assert app.model.journal() == []


def test_null_counts_as_absent_where_openai_accepts_it(app: LocalApp) -> None:
    assert app.chat(b'{"prompt":"a","stream":null,"tools":null,"n":null,"model":null}').status_code == 200


def test_only_listed_headers_reach_azure(app: LocalApp) -> None:
    app.chat({"prompt": "Hello"}, headers=DROPPED_HEADERS | FORWARDED_HEADERS, params={"code": "callers-own"})
    (seen,) = app.model.journal()
    assert set(seen.headers) == ALLOWED_HEADERS | set(FORWARDED_HEADERS)
    assert {name: seen.headers[name] for name in FORWARDED_HEADERS} == FORWARDED_HEADERS
    assert "callers-own" not in str(seen)
    assert "from-the-environment" not in str(seen)


def test_a_request_header_that_cannot_be_forwarded_is_dropped(app: LocalApp) -> None:
    assert app.chat({"prompt": "Hello"}, headers={"x-client-request-id": "ü".encode()}).status_code == 200
    (seen,) = app.model.journal()
    assert "x-client-request-id" not in seen.headers


def test_the_client_gets_azures_request_ids_and_rate_limits(app: LocalApp) -> None:
    app.model.script({"status": 429, "headers": {"set-cookie": "a=b", "x-secret": "1", "retry-after": "1"}})
    for response in (app.chat({"prompt": "Hello"}), app.chat({"prompt": "Hello"})):
        for name in ("apim-request-id", "x-request-id", "x-ms-region", "x-ratelimit-remaining-tokens"):
            assert name in response.headers
        assert "set-cookie" not in response.headers
        assert "x-secret" not in response.headers
