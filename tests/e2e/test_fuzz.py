"""Send thousands of generated requests: the app neither fails nor hangs, and its responses reveal nothing internal."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from shared import openapi
from shared.errors import error_detail
from shared.openai_api.translate import FORWARDED_HEADERS
from tests.support.gateway_calls import CALLER
from tests.support.processes import Simulator
from tests.support.upstreams import CALLER_KEY, Gateway, gateway_app

PATHS = [
    "/api/chat",
    "/api/v1/chat/completions",
    "/api/v1/responses",
    "/api/v1/embeddings",
    "/api/openai/deployments/chat/chat/completions",
]
GOOD = b'{"messages":[{"role":"user","content":"Hello"}],"model":"chat","stream":false,"input":"Hello"}'
LIMIT = 50_000
# Seconds after which a request counts as hanging.
PATIENCE = 20.0
# What a function of this app, or the host before it, may answer to something that makes no sense.
REFUSALS = {400, 401, 404, 408, 411, 413, 414, 415, 431}

pytestmark = pytest.mark.fuzz

# The same examples in every run. Their number is the profile's (tests/conftest.py).
thorough = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
NAMES = st.sampled_from(
    ["messages", "prompt", "model", "MODEL", "stream", "n", "tools", "input", "previous_response_id", "dimensions", "role"]
) | st.text(max_size=10)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(["chat", "user"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
FRAGMENTS = [
    *(b'{ } [ ] , : " \\ 0 -1 1e999 NaN null true "" "model": "model":"hidden" "messages":[] "stream":true').split(),
    rb'"\ud800"',
    rb'"mod\u0065l":"hidden"',
    b"\xff",
    b"\xef\xbb\xbf",
    b"\x00",
    GOOD,
]
BODIES = st.one_of(
    st.binary(max_size=200),
    st.dictionaries(NAMES, VALUES, max_size=6).map(lambda fields: json.dumps(fields).encode()),
    st.lists(st.sampled_from(FRAGMENTS), max_size=12).map(b"".join),
    st.tuples(st.integers(0, len(GOOD)), st.integers(0, len(GOOD)), st.binary(max_size=5)).map(
        lambda cut: GOOD[: cut[0]] + cut[2] + GOOD[cut[1] :]
    ),
)
# What can stand in a header at all; the rest is for plain sockets.
HEADER_VALUES = st.binary(max_size=60).map(lambda text: bytes(b for b in text if b > 31 and b != 127).strip())


@pytest.fixture(scope="module", params=["2025-04-01-preview", "v1"])
def gateway(
    request: pytest.FixtureRequest, shared_model: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    with gateway_app(tmp_path_factory.mktemp("app")) as gateway:
        gateway.configure(shared_model.url, AZURE_OPENAI_API_VERSION=request.param, MAX_BODY_BYTES=str(LIMIT))
        yield gateway
        _, _, trace = gateway.app.output.partition("Traceback")
        assert not trace, trace[:3000]
        assert "Unexpected" not in gateway.app.output
        state = gateway.wait_for_state(lambda state: not state["calls_in_flight"])
        assert (state["calls_in_flight"], state["connections"], state["cooldowns"]) == (0, 0, [0])


def check(response: httpx2.Response, *allowed: int) -> None:
    """Fails unless the answer is one that a stranger may see."""
    assert response.status_code in ({200} | REFUSALS if not allowed else set(allowed)), response.text
    assert "Traceback" not in response.text
    assert "127.0.0.1" not in response.text
    if response.status_code >= 400 and response.content:
        error = error_detail(response.content)
        assert error.message, response.text


@thorough
@given(body=BODIES, path=st.sampled_from(PATHS))
def test_no_body_is_too_much(gateway: Gateway, body: bytes, path: str) -> None:
    check(gateway.http.post(path, content=body, headers=CALLER, timeout=PATIENCE), 200, 400, 404)


@thorough
@given(headers=st.dictionaries(st.from_regex("[A-Za-z0-9!#$%&'*+.^_`|~-]{1,20}", fullmatch=True), HEADER_VALUES, max_size=5))
def test_no_headers_are_too_much(gateway: Gateway, headers: dict[str, bytes]) -> None:
    # These say how long the body is, and for whom.
    framing = {"content-length", "transfer-encoding", "connection", "upgrade", "expect", "host"}
    sent: Any = {name: value for name, value in headers.items() if name.lower() not in framing}
    check(gateway.http.post(PATHS[1], content=GOOD, headers=sent | CALLER, timeout=PATIENCE))


@thorough
@given(value=HEADER_VALUES, name=st.sampled_from(["content-type", "accept", *FORWARDED_HEADERS]))
def test_headers_that_mean_something(gateway: Gateway, name: str, value: bytes) -> None:
    headers: Any = CALLER | {name: value}
    check(gateway.http.post(PATHS[1], content=GOOD, headers=headers, timeout=PATIENCE), 200)


@thorough
@given(key=HEADER_VALUES, header=st.sampled_from(["authorization", "api-key", "x-api-key"]))
def test_keys(gateway: Gateway, key: bytes, header: str) -> None:
    headers: Any = {header: key}
    check(gateway.http.post(PATHS[1], content=GOOD, headers=headers, timeout=PATIENCE), 401)


@thorough
@given(query=st.dictionaries(st.sampled_from(["api-version", "stream", "limit"]) | st.text(max_size=10), st.text()))
def test_query_strings(gateway: Gateway, query: dict[str, str]) -> None:
    text: Any = {name.encode(errors="replace"): value.encode(errors="replace") for name, value in query.items()}
    for path in ("/api/v1/models", "/api/v1/responses/resp_1/input_items"):
        check(gateway.http.get(path, params=text, headers=CALLER, timeout=PATIENCE), 200, 400, 404)


RAW = st.binary(max_size=40).map(lambda text: text.replace(b"\r\n\r\n", b""))


@thorough
@given(line=RAW, path=RAW)
def test_what_no_http_client_would_send(gateway: Gateway, line: bytes, path: bytes) -> None:
    head = b"POST /api/chat%s HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-odd: %s\r\ncontent-length: 2\r\n\r\n{}"
    with gateway.app.connection() as connection:
        connection.settimeout(PATIENCE)
        connection.sendall(head % (path, line))
        answer = connection.makefile("rb").read()
    if answer:
        found = re.match(rb"HTTP/1\.[01] (\d{3}) ", answer)
        assert found, answer
        assert int(found[1]) in REFUSALS
        assert b"Traceback" not in answer


DEEP = b"[" * 20_000 + b"]" * 20_000
MESSAGES = b'"messages":[{"role":"user","content":"Hello"}]'
ODDITIES: dict[str, tuple[bytes, dict[str, str], int, str]] = {
    "deep JSON": (b'{"messages":%s}' % DEEP, {}, 400, "nested too deeply"),
    "deep JSON elsewhere": (b'{%s,"metadata":%s}' % (MESSAGES, DEEP), {}, 400, "nested too deeply"),
    "NaN": (b'{%s,"temperature":NaN}' % MESSAGES, {}, 400, "malformed"),
    "Infinity": (b'{%s,"temperature":-Infinity}' % MESSAGES, {}, 400, "malformed"),
    "a lone surrogate": (rb'{"messages":[{"role":"user","content":"\ud800"}]}', {}, 400, "JSON"),
    "bytes that are no UTF-8": (b'{%s,"user":"\xc3"}' % MESSAGES, {}, 400, "UTF-8"),
    "a byte order mark": (b"\xef\xbb\xbf{%s}" % MESSAGES, {}, 400, "JSON"),
    "UTF-16": (b"{%s}".replace(b"%s", MESSAGES).decode().encode("utf-16"), {}, 400, "UTF-8"),
    "two documents": (b"{%s}{}" % MESSAGES, {}, 400, "trailing"),
    "a form": (b"prompt=Hello", {"content-type": "application/x-www-form-urlencoded"}, 400, "JSON"),
    "gzip": (b"\x1f\x8b\x08\x00", {"content-encoding": "gzip"}, 415, "content-encoding"),
    "a bomb": (b"\x1f\x8b" * 1000, {"content-encoding": "GZIP, br"}, 415, "content-encoding"),
    "too large": (b'{%s,"x":"%s"}' % (MESSAGES, b"a" * LIMIT), {}, 413, str(LIMIT)),
    "a duplicate key": (b'{"messages":[],%s}' % MESSAGES, {}, 200, ""),
    "a wrong content type": (b"{%s}" % MESSAGES, {"content-type": "text/html; charset=x"}, 200, ""),
    "no encoding at all": (b"{%s}" % MESSAGES, {"content-encoding": "identity"}, 200, ""),
}


@pytest.mark.parametrize("path", ["/api/chat", "/api/v1/chat/completions"])
@pytest.mark.parametrize("name", ODDITIES)
def test_each_oddity_has_its_answer(gateway: Gateway, name: str, path: str) -> None:
    body, headers, status, text = ODDITIES[name]
    response = gateway.http.post(path, content=body, headers=CALLER | headers, timeout=PATIENCE)
    assert response.status_code == status, response.text
    assert text in response.text


@pytest.mark.parametrize("line", [b"x: a\rb", b"x: a\nb: c", b"x: a\x00b", b" x: folded", b"x : blank", b"api-key"])
def test_a_header_that_would_be_two_does_not_get_through(gateway: Gateway, shared_model: Simulator, line: bytes) -> None:
    shared_model.clear()
    head = f"POST /api/v1/chat/completions HTTP/1.1\r\nhost: a\r\nconnection: close\r\napi-key: {CALLER_KEY}\r\n".encode()
    with gateway.app.connection() as connection:
        connection.sendall(head + line + b"\r\ncontent-length: %d\r\n\r\n" % len(GOOD) + GOOD)
        status = int(connection.makefile("rb").readline().split()[1])
    assert status in (200, 400)
    for seen in shared_model.journal():
        assert not {"x", "b"} & set(seen.headers)


schema = schemathesis.openapi.from_dict(openapi.description("/api/openapi.json"))
CHECKS: list[Callable[..., Any]] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@schema.parametrize()
@settings(thorough, max_examples=thorough.max_examples // 8)
def test_the_description_is_kept(gateway: Gateway, case: schemathesis.Case[Any]) -> None:
    case.call_and_validate(base_url=f"{gateway.app.url}/api", headers=CALLER, checks=CHECKS, timeout=PATIENCE)
