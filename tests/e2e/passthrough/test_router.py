"""Test what a client gets at any path and method of the OpenAI API, and that each invocation ends with a clean log."""

import json
import re
from http.client import HTTPResponse
from typing import NamedTuple

import aiohttp
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.support.openai_routes import BEARER
from tests.support.processes import Json, eventually
from tests.support.upstreams import Gateway

# The longest URL that the local host accepts.
MAX_LENGTH = 8190
ACCESS_LOG = (
    r"\[\S+\] Call caller=tests (method=[A-Z]+ path|operation)=[!-~]{1,64}( model=[!-~]{1,64})? "
    r"status=\d{3} error=\w+ attempts=0 request_id=\w{32}\n"
)
UPGRADE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}
SURFACES = ["/api/v1", "/api/openai/v1", "/api/openai"]


class Reply(NamedTuple):
    """Hold a response, and the lines that the app has printed about its request."""

    status: int
    headers: dict[str, str]
    body: bytes
    log: list[str]

    @property
    def error(self) -> Json:
        error: Json = json.loads(self.body)["error"]
        return error


def send(gateway: Gateway, method: str, path: str, headers: dict[str, str] = BEARER, body: bytes = b"") -> Reply:
    """Send a request exactly as given, and wait until its invocation has ended, if there is one."""
    gateway.app.forget_output()
    with gateway.app.send_raw(method, path, body, length=None, **headers) as connection:
        response = HTTPResponse(connection, method=method)
        response.begin()
        content = response.read()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Reply(response.status, headers, content, printed(gateway, int(headers["server"] == "uvicorn")))


def printed(gateway: Gateway, invocations: int = 1) -> list[str]:
    """Wait until all invocations have ended, and return the lines that the app, rather than the host, has printed."""
    # This leaves no line of the app's. When its invocation is in the output, the earlier ones are as well.
    gateway.http.options("/api/v1")

    def ids() -> tuple[list[str], list[str]]:
        functions = r" 'Functions\.\w*openai_api' .*Id=([\w-]+)"
        started, ended = (re.findall(word + functions, gateway.app.output) for word in ("Executing", "Executed"))
        return started, ended

    eventually(ids, lambda found: len(found[0]) == invocations + 1 and {*found[0]} <= {*found[1]})
    assert "responded without running the function" not in gateway.app.output
    return [line for line in gateway.app.output.splitlines(keepends=True) if "] Execut" not in line]


@pytest.fixture(autouse=True)
def configured(gateway: Gateway) -> None:
    """Build the clients, which logs a line."""
    gateway.configure("http://127.0.0.1:9")
    assert send(gateway, "GET", "/api/v1/models").status == 200


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("path", ["models", "models/chat"])
def test_head_has_the_headers_of_get_and_no_body(gateway: Gateway, surface: str, path: str) -> None:
    get, head = (send(gateway, method, f"{surface}/{path}") for method in ("GET", "HEAD"))
    assert (get.status, head.status) == (200, 200)
    assert int(head.headers["content-length"]) == len(get.body) > 0
    assert {**head.headers, "date": ""} == {**get.headers, "date": ""}
    assert head.body == b""


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("HEAD", "responses/resp_1", 405, "GET, DELETE, OPTIONS"),
        ("HEAD", "nothing", 404, None),
        ("HEAD", "", 404, None),
        ("PUT", "models", 405, "GET, HEAD, OPTIONS"),
        ("PATCH", "models/chat", 405, "GET, HEAD, OPTIONS"),
        ("PUT", "chat/completions", 405, "POST, OPTIONS"),
        ("DELETE", "Chat/Completions", 405, "POST, OPTIONS"),
        ("DELETE", "nothing", 404, None),
    ],
)
@pytest.mark.parametrize("surface", SURFACES)
def test_other_methods_are_405_with_allow_or_404(
    gateway: Gateway, surface: str, method: str, path: str, status: int, allow: str | None
) -> None:
    reply = send(gateway, method, f"{surface}/{path}")
    assert (reply.status, reply.headers.get("allow")) == (status, allow)
    assert (reply.body == b"") == (method == "HEAD")
    (line,) = reply.log
    assert re.fullmatch(ACCESS_LOG, line)
    assert (
        f" path={surface}/{path} status={status} error={'path_not_found' if status == 404 else 'method_not_allowed'} "
        in line
    )
    assert send(gateway, method, f"{surface}/{path}", {}).status == 401


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("models", "GET, HEAD, OPTIONS"),
        ("responses/resp_1", "GET, DELETE, OPTIONS"),
        ("embeddings/", "POST, OPTIONS"),
        ("nothing", "OPTIONS"),
        ("", "OPTIONS"),
    ],
)
@pytest.mark.parametrize("endpoints", [["http://127.0.0.1:9"], []])
@pytest.mark.parametrize("surface", SURFACES)
def test_options_needs_no_key_and_no_settings_and_leaves_no_line_in_the_log(
    gateway: Gateway, surface: str, path: str, allow: str, endpoints: list[str]
) -> None:
    gateway.configure(*endpoints)
    reply = send(gateway, "OPTIONS", f"{surface}/{path}", {})
    assert (reply.status, reply.headers["allow"], reply.body, reply.log) == (204, allow, b"", [])


@pytest.mark.parametrize("method", ["PROPFIND", "TRACE"])
def test_the_host_rejects_the_methods_that_the_functions_do_not_list(gateway: Gateway, method: str) -> None:
    reply = send(gateway, method, "/api/v1/models")
    assert (reply.status, reply.body, reply.log) == (404, b"", [])
    assert reply.headers["server"] == "Kestrel"


@pytest.mark.parametrize(
    ("path", "asked", "nearest"),
    [
        ("/api/v1//models", None, "/api/v1/models"),
        ("/api/v1/models//", None, "/api/v1/models"),
        ("/api/v1/modles/", None, "/api/v1/models"),
        ("/api/v1/x/../modles", "/api/v1/modles", "/api/v1/models"),
        ("/api/v1/chat%2Fcompletion", None, "/api/v1/chat/completions"),
        ("/api/v1/modles%01", "/api/v1/modles_", "/api/v1/models"),
        ("/api/v1/mod%0A%0D%20%C3%A9les", "/api/v1/mod_les", "/api/v1/models"),
        ("/api/v1/re%C5%BFponses", "/api/v1/re_ponses", "/api/v1/responses"),
        ("/API/V1/Modles", None, "/API/v1/models"),
        ("/api/OpenAI/v1/Modles", None, "/api/openai/v1/models"),
        ("/api/v1/deployments/x/embeddings", None, "/api/v1/embeddings"),
        ("/api/openai/deployments/gpt/responses", None, "/api/openai/responses"),
        (
            "/api/openai/deployments/files/chat/completion",
            None,
            "/api/openai/deployments/{deployment}/chat/completions",
        ),
    ],
)
def test_an_unknown_path_is_404_and_names_the_nearest(gateway: Gateway, path: str, asked: str | None, nearest: str) -> None:
    reply = send(gateway, "GET", path)
    assert (reply.status, reply.error["code"]) == (404, "path_not_found")
    assert reply.error["message"] == f"There is nothing at {asked or path}. Did you mean {nearest}?"
    (line,) = reply.log
    assert re.fullmatch(ACCESS_LOG, line)
    assert f" path={asked or path} status=404 " in line


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("files", "This app does not serve files."),
        ("files/file-1/content", "This app does not serve files."),
        ("Vector_Stores/vs_1/files", "This app does not serve vector_stores."),
        ("fine_tuning/jobs", "This app does not serve fine_tuning."),
        ("images/variations", "This app does not serve images/variations."),
        ("q" * 40, "GET /api/openapi.json describes all paths."),
    ],
)
def test_a_path_is_no_typing_error_if_nothing_is_near_or_the_app_does_not_serve_it(
    gateway: Gateway, surface: str, path: str, advice: str
) -> None:
    assert send(gateway, "POST", f"{surface}/{path}").error["message"] == f"There is nothing at {surface}/{path}. {advice}"


@pytest.mark.parametrize("path", ["/api/v1", "/api/v1/", "/api/openai", "/api/openai/", "/api/openai/v1/", "/API/V1"])
def test_a_base_url_is_recognized(gateway: Gateway, path: str) -> None:
    message = send(gateway, "GET", path).error["message"]
    assert (
        message == f"There is nothing at {path}. This is a base URL; clients append paths such as /chat/completions to it."
    )


def test_a_method_error_names_the_path(gateway: Gateway) -> None:
    reply = send(gateway, "POST", "/api/v1/responses/input_token")
    assert reply.error["message"] == (
        "/api/v1/responses/input_token does not have the method POST. It has GET, DELETE, OPTIONS."
    )


def test_the_log_has_the_name_of_an_unknown_model(gateway: Gateway) -> None:
    body = json.dumps({"model": "gpt 9 caller=x\n" + "y" * 100}).encode()
    (line,) = send(gateway, "POST", "/api/v1/chat/completions", body=body).log
    assert f" operation=chat/completions model=gpt_9_caller_x_{'y' * 49} status=404 error=model_not_found " in line


def test_literals_ignore_case_and_a_slash_at_the_end(gateway: Gateway) -> None:
    assert send(gateway, "GET", "/api/V1/Models/").status == 200
    reply = send(gateway, "POST", "/API/V1/Chat/Completions", body=b'{"model":"none"}')
    assert reply.error["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("path", "code", "text"),
    [
        ("/api/v1/models/a%2Fb", "model_not_found", "'a/b'"),
        ("/api/v1/models/a/b%2fc", "model_not_found", "'a/b/c'"),
        ("/api/v1/models/..%2Fx", "model_not_found", "'../x'"),
        ("/api/v1/responses/a%2Fb", "response_not_found", "No response has this id."),
        ("/api/v1/responses/a%01b", "response_not_found", "No response has this id."),
        ("/api/v1/responses/a/b", "path_not_found", "/api/v1/responses/a/b"),
    ],
)
def test_models_may_have_slashes_and_ids_may_not(gateway: Gateway, path: str, code: str, text: str) -> None:
    reply = send(gateway, "GET", path)
    assert (reply.status, reply.error["code"]) == (404, code)
    assert text in reply.error["message"]
    (line,) = reply.log
    assert re.fullmatch(ACCESS_LOG, line)


@given(
    surface=st.sampled_from(SURFACES),
    path=st.lists(st.sampled_from("aZ09-._~!$&'()*+,;=:@/|^`\"<>\\{}%") | st.binary(max_size=8), max_size=40),
    repeat=st.sampled_from([1, 100, 10_000]),
)
def test_any_path_leaves_one_short_line_in_the_log(
    gateway: Gateway, surface: str, path: list[str | bytes], repeat: int
) -> None:
    escaped = "".join(part if isinstance(part, str) else "".join(f"%{byte:02X}" for byte in part) for part in path)
    # The host rejects the former, and resolves the latter.
    assume(not re.search(r"%00|/(?:\.|%2E)", escaped * 2))
    reply = send(gateway, "GET", f"{surface}/x{escaped * repeat}"[:MAX_LENGTH])
    assert reply.status == 404
    assert len(reply.error["message"]) < 250
    (line,) = reply.log
    assert re.fullmatch(ACCESS_LOG, line)


@pytest.mark.parametrize("path", ["/api/v1/a\nb", "/api/v1/\0", "/api/v1/\x7f", "/api/v1/ü", "/api/v1/a b", "api/v1/models"])
def test_the_host_rejects_a_url_with_control_characters(gateway: Gateway, path: str) -> None:
    reply = send(gateway, "GET", path)
    assert (reply.status, reply.log) == (400, [])


@pytest.mark.anyio
@pytest.mark.parametrize(
    "path", ["/api/v1/responses", "/api/v1/realtime", "/api/v1/nothing", "/api/openai/v1/responses", "/api/openai/realtime"]
)
async def test_a_websocket_client_gets_426_after_401(gateway: Gateway, path: str) -> None:
    for headers, status, code in ((BEARER, 426, "websocket_not_supported"), ({}, 401, "invalid_api_key")):
        gateway.app.forget_output()
        async with aiohttp.ClientSession() as http:
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await http.ws_connect(gateway.app.url + path, headers=headers)
        assert caught.value.status == status
        # No line of the runtime's server among them.
        (line,) = printed(gateway)
        assert f" path={path} status={status} error={code} attempts=0 " in line


def test_after_426_the_connection_serves_other_requests(gateway: Gateway) -> None:
    headers = {**BEARER, "host": "a"}
    with gateway.app.connection() as connection:
        for path, more, status in (("responses", UPGRADE, 426), ("models", {}, 200)) * 2:
            lines = [f"GET /api/v1/{path} HTTP/1.1", *(f"{k}: {v}" for k, v in (headers | more).items()), "", ""]
            connection.sendall("\r\n".join(lines).encode())
            response = HTTPResponse(connection)
            response.begin()
            assert response.status == status
            assert ("no WebSockets" in response.read().decode()) == (status == 426)


def test_a_request_with_a_body_is_served_although_it_asks_for_a_websocket(gateway: Gateway) -> None:
    reply = send(gateway, "POST", "/api/v1/embeddings", BEARER | UPGRADE, b'{"model":"none"}')
    assert reply.error["code"] == "model_not_found"
    (line,) = reply.log
    assert " operation=embeddings model=none status=404 " in line
