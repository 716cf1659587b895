"""Test that the local host routes requests, and limits their bodies, as the real host is known to do."""

import json
from pathlib import Path

import httpx2
import pytest

from local.host.forwarding import BODY_LIMIT
from local.host.routes import Route
from local.host.worker import Function
from tests.support.local_host import SETTINGS, HostApp, host_app


class TestRouting:
    def test_routes_begin_with_the_prefix_api(self, open_host: HostApp) -> None:
        assert open_host.http.get("/api/environ").status_code == 200
        assert open_host.http.get("/environ").status_code == 404

    def test_the_prefix_comes_from_host_json_and_can_be_empty(self, tmp_path: Path) -> None:
        for prefix, url in (("", "/echo"), ("my/own", "/my/own/echo")):
            with host_app(tmp_path / f"app{len(prefix)}", prefix=prefix, environ=SETTINGS) as host:
                assert f"http://localhost:{host.port}{url}/{{first?}}" in host.output
                assert host.http.get(url).status_code == 200

    def test_a_function_without_a_route_is_at_its_name(self, open_host: HostApp) -> None:
        assert open_host.http.get("/api/unrouted").text == "GET"

    def test_a_function_accepts_all_methods_by_default(self, open_host: HostApp) -> None:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            assert open_host.http.request(method, "/api/unrouted").text == method

    @pytest.mark.parametrize(
        ("path", "parameters"),
        [
            ("/api/echo", {}),
            ("/api/echo/one", {"first": "one"}),
            ("/api/echo/a%20b", {"first": "a b"}),
            ("/api/echo/a%2Fb%3Ac", {"first": "a%2Fb:c"}),
            ("/api/rest/a%2fb/c", {"path": "a%2fb/c"}),
            ("/api/rest/a/b/c", {"path": "a/b/c"}),
            ("/api/rest/a//b", {"path": "a//b"}),
            ("/api/rest/a%25b", {"path": "a%b"}),
            ("/api/rest/%C3%A9%FF%zz", {"path": "é%FF%zz"}),
            ("/api/rest/", {}),
            ("/api/rest", {}),
            ("/api/number/17", {"id": "17"}),
        ],
    )
    def test_parameters_are_strings_decoded_except_for_slashes_and_empty_ones_are_omitted(
        self, open_host: HostApp, path: str, parameters: dict[str, str]
    ) -> None:
        found = open_host.http.get(path).json()
        assert found.get("parameters", found) == parameters

    @pytest.mark.parametrize(
        ("path", "forwarded"),
        [
            ("/api/rest/../echo", "/api/echo"),
            ("/api/rest/x/%2e%2E/../echo/a", "/api/echo/a"),
            ("/../api/./echo/.", "/api/echo/"),
            ("/api/echo/x/..", "/api/echo/"),
            ("/api/echo/..%2fa", "/api/echo/..%252fa"),
            ("/api/echo/..a", "/api/echo/..a"),
        ],
    )
    def test_dot_segments_are_resolved_before_routing(self, open_host: HostApp, path: str, forwarded: str) -> None:
        _, body = open_host.exchange(f"GET {path}?a=/../b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode())
        seen = json.loads(body)
        assert (seen["path"], seen["query"]) == (forwarded, "a=/../b")

    def test_a_parameter_that_violates_its_constraint_is_404(self, open_host: HostApp) -> None:
        assert open_host.http.get("/api/number/seventeen").status_code == 404

    def test_functions_match_in_order_of_their_names_even_a_parameter_before_a_literal(self, open_host: HostApp) -> None:
        assert open_host.http.get("/api/order/literal").text == "parameter"

    @pytest.mark.parametrize(
        ("method", "path"),
        [("POST", "/api/environ"), ("HEAD", "/api/environ"), ("OPTIONS", "/api/environ"), ("GET", "/api/nothing")],
    )
    def test_a_request_that_matches_no_function_is_an_empty_404_and_never_405(
        self, open_host: HostApp, method: str, path: str
    ) -> None:
        response = open_host.http.request(method, path)
        assert response.status_code == 404
        assert response.content == b""
        assert response.headers.get("content-length") == (None if method == "HEAD" else "0")

    def test_a_trailing_slash_is_ignored(self, open_host: HostApp) -> None:
        assert open_host.http.get("/api/environ/").status_code == 200

    def test_literals_ignore_case(self, open_host: HostApp) -> None:
        assert open_host.http.get("/API/Environ").status_code == 200

    @pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
    def test_the_homepage_accepts_any_method(self, open_host: HostApp, method: str) -> None:
        response = open_host.http.request(method, "/")
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/html"

    def test_the_homepage_can_be_disabled(self, tmp_path: Path) -> None:
        with host_app(tmp_path / "app", environ={**SETTINGS, "AzureWebJobsDisableHomepage": "true"}) as host:
            assert host.http.get("/").status_code == 204

    def test_a_reserved_route_puts_only_that_function_in_error(self, open_host: HostApp) -> None:
        assert "The 'reserved' function is in error: " in open_host.output
        assert open_host.http.get("/api/administer").status_code == 404

    def test_a_duplicate_of_a_route_and_method_puts_the_later_function_in_error(self, open_host: HostApp) -> None:
        assert "The 'twin_b' function is in error: " in open_host.output
        assert open_host.http.post("/api/twin").text == "a"

    def test_functions_can_share_a_route_with_different_methods(self) -> None:
        get, post, all_methods = (route("x", methods) for methods in (["GET"], ["POST"], None))
        assert not get.conflicts_with(post)
        assert get.conflicts_with(all_methods)


class TestBadRequests:
    @pytest.mark.parametrize(
        ("status", "request_line", "headers"),
        [
            (400, b"GET /api/echo/a%00b", b"host: a\r\n"),
            (400, "GET /api/echo/é".encode(), b"host: a\r\n"),
            (400, b"GET /api/echo", b""),
            (400, b"GET /api/echo", b"host: a\r\nhost: b\r\n"),
            (400, b"POST /api/echo", b"host: a\r\ncontent-length: x\r\n"),
            (400, b"GET /api/echo", b"host: a\r\nnot a header\r\n"),
            (414, b"GET /api/echo?" + b"a" * 9000, b"host: a\r\n"),
            (414, b"GET /api/echo/" + b"a" * 9000, b"host: a\r\n"),
            (431, b"GET /api/echo", b"host: a\r\na: " + b"a" * 40_000 + b"\r\n"),
            (431, b"GET /api/echo", b"host: a\r\n" + (b"a: " + b"a" * 700 + b"\r\n") * 50),
            (431, b"GET /api/echo", b"host: a\r\n" + b"a: b\r\n" * 100),
            (431, b"GET /api/echo", b"host: a\r\n" + b"a: b\r\n" * 1000),
        ],
    )
    def test_a_bad_request_gets_an_empty_response_and_its_connection_is_closed(
        self, open_host: HostApp, status: int, request_line: bytes, headers: bytes
    ) -> None:
        received, body = open_host.exchange(request_line + b" HTTP/1.1\r\n" + headers + b"\r\n")
        status_line, *lines = received.split(b"\r\n")
        assert status_line.startswith(b"HTTP/1.1 %d " % status)
        assert body == b""
        assert {b"Content-Length: 0", b"Connection: close", b"Server: Kestrel"} < {*lines}

    def test_a_long_url_and_many_headers_within_the_limits_are_forwarded(self, open_host: HostApp) -> None:
        filler = [(f"x-{number}", "a" * 340) for number in range(90)]
        response = open_host.http.get("/api/echo", params={"a": "a" * 8100}, headers=filler)
        assert dict(filler).items() <= dict(response.json()["headers"]).items()

    def test_a_body_above_the_limit_is_an_empty_500(self, open_host: HostApp) -> None:
        start = b"POST /api/echo HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\nhello" % (BODY_LIMIT + 1)
        headers, body = open_host.exchange(start)
        assert headers.startswith(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nServer: Kestrel\r\n")
        assert headers.endswith(b"\r\nConnection: close")
        assert body == b""

    def test_a_chunked_body_above_the_limit_is_an_empty_500(self, open_host: HostApp) -> None:
        chunks = (b"a" * 1_000_000 for _ in range(BODY_LIMIT // 1_000_000 + 1))
        try:
            response = open_host.http.post("/api/echo", content=chunks)
        except httpx2.WriteError:
            pytest.fail("the response was lost")
        assert (response.status_code, response.content) == (500, b"")

    @pytest.mark.parametrize("bad", [b"zz\r\n", b"5\r\nhello, and more\r\n"])
    @pytest.mark.parametrize("waits", [False, True])
    def test_a_badly_chunked_body_is_an_empty_500(self, open_host: HostApp, bad: bytes, waits: bool) -> None:
        headers = b"host: a\r\ntransfer-encoding: chunked\r\n" + (b"expect: 100-continue\r\n" if waits else b"")
        with open_host.connection() as client, client.makefile("rb") as received:
            client.sendall(b"POST /api/echo HTTP/1.1\r\n" + headers + b"\r\n" + (b"" if waits else bad))
            if waits:
                # By now the host has begun to forward the request.
                assert received.readline() + received.readline() == b"HTTP/1.1 100 Continue\r\n\r\n"
                client.sendall(bad)
            response, _, rest = received.read().partition(b"\r\n\r\n")
        assert response.startswith(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nServer: Kestrel\r\n")
        assert response.endswith(b"\r\nConnection: close")
        assert rest == b""


def route(template: str, methods: list[str] | None) -> Route:
    trigger = {"type": "httpTrigger", "route": template} | ({"methods": methods} if methods else {})
    return Route(Function("id", "name", (trigger,)), "api")
