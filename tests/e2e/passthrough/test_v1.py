"""Test what the OpenAI-compatible routes forward unchanged, and what they drop."""

import json

import msgspec
import pytest

from tests.support.contract import ALLOWED_HEADERS, DROPPED_HEADERS, FORWARDED_HEADERS
from tests.support.openai_routes import BEARER, BODIES, BODY, CHAT, MESSAGES, post
from tests.support.processes import LocalApp
from tests.support.upstreams import CALLER_KEY

VERBATIM = {
    "odd whitespace": b' \n{ "messages"\t: [ {"role" : "user","content":\r\n"Hello"} ]  ,\n"model" :"gpt-4o" }\r\n ',
    "unknown fields": b'{"messages":%s,"model":"gpt-4o","x":{"y":[1,null,{}]},"":0}' % MESSAGES,
    "numbers": b'{"messages":%s,"temperature":0.50,"seed":12345678901234567890,"x":1e+2,"y":-0.0}' % MESSAGES,
    "escapes": rb'{"messages":[{"role":"user","content":"\u0048\/\ud83d\ude00"}],"us\u0065r":"a\tb\u0000"}',
    "non-ASCII": '{"messages":[{"role":"user","content":"Grüße 👋 \u2028"}],"übrig":"é"}'.encode(),
    "5 MB": b'{"messages":[{"role":"user","content":"%s"}]}' % (b"a \\u00e9 \xc3\xa9 " * 400_000),
}


@pytest.mark.parametrize("name", VERBATIM)
def test_with_a_dated_version_azure_gets_the_bytes_that_the_client_sent(dated: LocalApp, name: str) -> None:
    for path in (CHAT, "/api/openai/deployments/gpt-4o/chat/completions"):
        assert post(dated, VERBATIM[name], path) == {"status": 200}
    assert [seen.body == VERBATIM[name] for seen in dated.model.journal()] == [True, True]


@pytest.mark.parametrize("name", VERBATIM)
def test_with_v1_azure_gets_every_value_unchanged_except_the_model(v1: LocalApp, name: str) -> None:
    assert post(v1, VERBATIM[name]) == {"status": 200}
    sent, seen = values(VERBATIM[name]), values(v1.model.journal()[0].body)
    assert seen.pop("model") in (b'"prod-4o"', b'"chat"')
    sent.pop("model", None)
    assert seen == sent


def values(body: bytes) -> dict[str, bytes]:
    """Return the top-level values of a JSON object, each as its bytes."""
    return {name: bytes(value) for name, value in msgspec.json.decode(body, type=dict[str, msgspec.Raw]).items()}


RESPONSE = ' {"choices" : [],"id":"\\u0061", "überraschung":1.0}\n'


@pytest.mark.parametrize("path", BODIES)
def test_the_client_gets_the_bytes_that_azure_sent(app: LocalApp, path: str) -> None:
    app.model.script({"raw": RESPONSE, "headers": {"content-type": "application/json; charset=utf-8"}})
    response = app.http.post(path, content=BODIES[path], headers=BEARER)
    assert response.content == RESPONSE.encode()
    assert response.headers["content-type"] == "application/json; charset=utf-8"


@pytest.mark.parametrize("status", [400, 409, 413, 422, 429])
def test_the_client_gets_the_bytes_of_an_error_response(app: LocalApp, status: int) -> None:
    app.model.script({"raw": RESPONSE, "status": status, "headers": {"content-type": "text/plain"}})
    response = app.http.post(CHAT, content=BODY, headers=BEARER)
    assert (response.status_code, response.content) == (status, RESPONSE.encode())
    assert response.headers["content-type"] == "text/plain"


STREAM = (
    'data: {"choices":[],"id":""}\n\n'
    "event: x\ndata:  two\ndata: lines \n\n"
    ": a comment of Azure's\r\n\r\n"
    "data: ü 👋\r\rid: 7\r\n\n"
    "data: [DONE]\n\n"
)


@pytest.mark.parametrize("ending", ["", "data: without an end"])
@pytest.mark.parametrize("split", [0, 1, 2, 3, 5, 7, 11])
def test_the_client_gets_the_bytes_of_a_stream_however_they_are_split(app: LocalApp, split: int, ending: str) -> None:
    headers = {"content-type": "text/event-stream; x=y"}
    app.model.script({"raw": STREAM + ending, "split": split, "headers": headers})
    response = app.http.post(CHAT, content=BODY[:-1] + b',"stream":true}', headers=BEARER)
    assert response.content == (STREAM + ending).encode()
    assert response.headers["content-type"] == "text/event-stream; x=y"


def test_each_chunk_of_a_stream_arrives_at_once(app: LocalApp) -> None:
    app.model.script({"reply": "one and two", "step": True})
    with app.http.stream("POST", CHAT, content=BODY[:-1] + b',"stream":true}', headers=BEARER) as response:
        lines = (line for line in response.iter_lines() if line)
        for chunk in ("one and", " two"):
            # The simulator waits for this, so each chunk arrives before the next one is sent.
            app.model.permit()
            assert any(json.dumps(chunk) in line for line in lines)
        assert list(lines)[-1] == "data: [DONE]"


@pytest.mark.parametrize("path", BODIES)
def test_only_listed_headers_reach_azure(dated: LocalApp, path: str) -> None:
    headers = (
        DROPPED_HEADERS
        | FORWARDED_HEADERS
        | {"api-key": CALLER_KEY, "openai-project": "callers-own", "x-stainless-lang": "python"}
    )
    dated.http.post(path, content=BODIES[path], headers=headers)
    created = dated.http.post("/api/v1/responses", content=BODIES["/api/v1/responses"], headers=headers).json()
    for method, suffix in (("GET", ""), ("GET", "/input_items"), ("DELETE", "")):
        assert dated.http.request(method, f"/api/v1/responses/{created['id']}{suffix}", headers=headers).status_code == 200
    journal = dated.model.journal()
    assert len(journal) == 5
    for seen in journal:
        assert set(seen.headers) <= ALLOWED_HEADERS | set(FORWARDED_HEADERS)
        assert {name: seen.headers[name] for name in FORWARDED_HEADERS} == FORWARDED_HEADERS
        for secret in ("callers-own", "from-the-environment", CALLER_KEY):
            assert secret not in str(seen)


@pytest.mark.parametrize("name", FORWARDED_HEADERS)
@pytest.mark.parametrize("value", ["", "a=1" + 600 * " " + "x", "a" * 600])
def test_an_empty_or_too_long_header_does_not_reach_azure(dated: LocalApp, name: str, value: str) -> None:
    assert dated.http.post(CHAT, content=BODY, headers=BEARER | FORWARDED_HEADERS | {name: value}).status_code == 200
    (seen,) = dated.model.journal()
    assert name not in seen.headers


def test_with_v1_only_one_header_has_the_key(v1: LocalApp) -> None:
    v1.http.post(CHAT, content=BODY, headers=DROPPED_HEADERS | {"api-key": CALLER_KEY})
    (seen,) = v1.model.journal()
    assert set(seen.headers) == (ALLOWED_HEADERS - {"api-key"}) | {"authorization"}
    assert "callers-own" not in str(seen)


def test_only_listed_headers_reach_the_client(app: LocalApp) -> None:
    secret = {"set-cookie": "a=b", "x-secret": "1", "azureml-model-session": "x", "x-ms-deployment-name": "prod-4o"}
    app.model.script({"raw": "{}", "headers": secret}, {"status": 400, "headers": secret})
    for _ in range(2):
        response = app.http.post(CHAT, content=BODY, headers=BEARER)
        received = {name for name in response.headers if not name.startswith("x-ratelimit-")}
        assert received == {
            "apim-request-id",
            "content-length",
            "content-type",
            "date",
            "server",
            "x-ms-region",
            "x-request-id",
        }


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", [CHAT, "/api/v1/responses", "/api/openai/deployments/gpt-4o/chat/completions"])
def test_a_disconnect_before_the_response_ends_the_call_to_azure(app: LocalApp, path: str, stream: bool) -> None:
    app.model.script({"hang": True})
    body = b'{"messages":%s,"input":"a","stream":%s}' % (MESSAGES, str(stream).lower().encode())
    with app.send_raw("POST", path, body, api_key=CALLER_KEY):
        app.model.journal(requests=1)
    assert app.model.journal(ended=1)[0].disconnected


def test_a_disconnect_from_a_stored_response_ends_the_call_to_azure(app: LocalApp) -> None:
    for method, suffix in (("GET", ""), ("DELETE", ""), ("GET", "/input_items")):
        app.model.clear()
        app.model.script({"hang": True})
        with app.send_raw(method, f"/api/v1/responses/resp_1{suffix}", api_key=CALLER_KEY):
            app.model.journal(requests=1)
        assert app.model.journal(ended=1)[0].disconnected
