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
# The statuses with which the app, or the host in front of it, may reject an invalid request.
REJECTIONS = {400, 401, 404, 408, 411, 413, 414, 415, 431}

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
# Values that an HTTP client can send. Other bytes need a plain socket.
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
    """Fail if the status is not allowed, or if the response reveals anything internal."""
    assert response.status_code in ({200} | REJECTIONS if not allowed else set(allowed)), response.text
    assert "Traceback" not in response.text
    assert "127.0.0.1" not in response.text
    if response.status_code >= 400 and response.content:
        error = error_detail(response.content)
        assert error.message, response.text


@thorough
@given(body=BODIES, path=st.sampled_from(PATHS))
def test_the_app_handles_any_body(gateway: Gateway, body: bytes, path: str) -> None:
    check(gateway.http.post(path, content=body, headers=CALLER, timeout=PATIENCE), 200, 400, 404)


@thorough
@given(headers=st.dictionaries(st.from_regex("[A-Za-z0-9!#$%&'*+.^_`|~-]{1,20}", fullmatch=True), HEADER_VALUES, max_size=5))
def test_the_app_handles_any_headers(gateway: Gateway, headers: dict[str, bytes]) -> None:
    # These headers set the length of the body, the use of the connection, or the host.
    framing = {"content-length", "transfer-encoding", "connection", "upgrade", "expect", "host"}
    sent: Any = {name: value for name, value in headers.items() if name.lower() not in framing}
    check(gateway.http.post(PATHS[1], content=GOOD, headers=sent | CALLER, timeout=PATIENCE))


@thorough
@given(value=HEADER_VALUES, name=st.sampled_from(["content-type", "accept", *FORWARDED_HEADERS]))
def test_the_app_handles_any_value_of_the_headers_that_it_reads(gateway: Gateway, name: str, value: bytes) -> None:
    headers: Any = CALLER | {name: value}
    check(gateway.http.post(PATHS[1], content=GOOD, headers=headers, timeout=PATIENCE), 200)


@thorough
@given(key=HEADER_VALUES, header=st.sampled_from(["authorization", "api-key", "x-api-key"]))
def test_any_wrong_key_is_401(gateway: Gateway, key: bytes, header: str) -> None:
    headers: Any = {header: key}
    check(gateway.http.post(PATHS[1], content=GOOD, headers=headers, timeout=PATIENCE), 401)


@thorough
@given(query=st.dictionaries(st.sampled_from(["api-version", "stream", "limit"]) | st.text(max_size=10), st.text()))
def test_the_app_handles_any_query(gateway: Gateway, query: dict[str, str]) -> None:
    text: Any = {name.encode(errors="replace"): value.encode(errors="replace") for name, value in query.items()}
    for path in ("/api/v1/models", "/api/v1/responses/resp_1/input_items"):
        check(gateway.http.get(path, params=text, headers=CALLER, timeout=PATIENCE), 200, 400, 404)


RAW = st.binary(max_size=40).map(lambda text: text.replace(b"\r\n\r\n", b""))


@thorough
@given(line=RAW, path=RAW)
def test_a_request_that_no_http_client_would_send_is_rejected(gateway: Gateway, line: bytes, path: bytes) -> None:
    head = b"POST /api/chat%s HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-odd: %s\r\ncontent-length: 2\r\n\r\n{}"
    with gateway.app.connection() as connection:
        connection.settimeout(PATIENCE)
        connection.sendall(head % (path, line))
        response = connection.makefile("rb").read()
    if response:
        found = re.match(rb"HTTP/1\.[01] (\d{3}) ", response)
        assert found, response
        assert int(found[1]) in REJECTIONS
        assert b"Traceback" not in response


DEEP = b"[" * 20_000 + b"]" * 20_000
MESSAGES = b'"messages":[{"role":"user","content":"Hello"}]'
UNUSUAL_BODIES: dict[str, tuple[bytes, dict[str, str], int, str]] = {
    "deeply nested messages": (b'{"messages":%s}' % DEEP, {}, 400, "nested too deeply"),
    "deeply nested metadata": (b'{%s,"metadata":%s}' % (MESSAGES, DEEP), {}, 400, "nested too deeply"),
    "NaN": (b'{%s,"temperature":NaN}' % MESSAGES, {}, 400, "malformed"),
    "Infinity": (b'{%s,"temperature":-Infinity}' % MESSAGES, {}, 400, "malformed"),
    "a lone surrogate": (rb'{"messages":[{"role":"user","content":"\ud800"}]}', {}, 400, "half a surrogate pair"),
    "invalid UTF-8": (b'{%s,"user":"\xc3"}' % MESSAGES, {}, 400, "UTF-8"),
    "a byte order mark": (b"\xef\xbb\xbf{%s}" % MESSAGES, {}, 200, ""),
    "UTF-16": (b"{%s}".replace(b"%s", MESSAGES).decode().encode("utf-16"), {}, 400, "UTF-8"),
    "two documents": (b"{%s}{}" % MESSAGES, {}, 400, "trailing"),
    "a form": (b"prompt=Hello", {"content-type": "application/x-www-form-urlencoded"}, 400, "JSON"),
    "gzip": (b"\x1f\x8b\x08\x00", {"content-encoding": "gzip"}, 415, "content-encoding"),
    "a compression bomb": (b"\x1f\x8b" * 1000, {"content-encoding": "GZIP, br"}, 415, "content-encoding"),
    "a body above the limit": (b'{%s,"x":"%s"}' % (MESSAGES, b"a" * LIMIT), {}, 413, str(LIMIT)),
    "a duplicate key": (b'{"messages":[],%s}' % MESSAGES, {}, 200, ""),
    "a wrong content type": (b"{%s}" % MESSAGES, {"content-type": "text/html; charset=x"}, 200, ""),
    "the encoding identity": (b"{%s}" % MESSAGES, {"content-encoding": "identity"}, 200, ""),
}


@pytest.mark.parametrize("path", ["/api/chat", "/api/v1/chat/completions"])
@pytest.mark.parametrize("name", UNUSUAL_BODIES)
def test_each_unusual_body_gets_its_status_and_message(gateway: Gateway, name: str, path: str) -> None:
    body, headers, status, text = UNUSUAL_BODIES[name]
    response = gateway.http.post(path, content=body, headers=CALLER | headers, timeout=PATIENCE)
    assert response.status_code == status, response.text
    assert text in response.text


@pytest.mark.parametrize("line", [b"x: a\rb", b"x: a\nb: c", b"x: a\x00b", b" x: folded", b"x : blank", b"api-key"])
def test_a_malformed_header_does_not_reach_azure(gateway: Gateway, shared_model: Simulator, line: bytes) -> None:
    shared_model.clear()
    head = f"POST /api/v1/chat/completions HTTP/1.1\r\nhost: a\r\nconnection: close\r\napi-key: {CALLER_KEY}\r\n".encode()
    with gateway.app.connection() as connection:
        connection.sendall(head + line + b"\r\ncontent-length: %d\r\n\r\n" % len(GOOD) + GOOD)
        status = int(connection.makefile("rb").readline().split()[1])
    assert status in (200, 400)
    for seen in shared_model.journal():
        assert not {"x", "b"} & set(seen.headers)


# Of the paths with the deployment, one is enough. The other paths of Azure have the same operations as those of v1.
schema = schemathesis.openapi.from_dict(openapi.description("/api/openapi.json")).exclude(
    path_regex="^/openai/(?!deployments/.*/chat)"
)
CHECKS: list[Callable[..., Any]] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.mark.deep
@schema.parametrize()
@settings(thorough, max_examples=thorough.max_examples // 8)
def test_the_app_conforms_to_its_openapi_description(gateway: Gateway, case: schemathesis.Case[Any]) -> None:
    case.call_and_validate(base_url=f"{gateway.app.url}/api", headers=CALLER, checks=CHECKS, timeout=PATIENCE)
