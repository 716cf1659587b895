"""The local host against what is known of the real one: a test for each fact, named after it.

What the real host does and this one does not is listed in local/README.md.
"""

import gzip
import re
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import httpx2
import pytest
from aiohttp import web

from local.forwarding import BODY_LIMIT, CONNECT_TRIES, Forwarder, NotForwarded
from local.host import empty
from local.routes import Route
from local.serving import Servers
from local.timers import Schedule
from local.worker import Function
from tests.host import HostApp, host_app
from tests.running import PATIENCE

STAMP = r"\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\] "
GUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
TRACE, SPAN = "a" * 32, "b" * 16
SETTINGS = {"SCHEDULE": "0 0 9 * * *", "AzureWebJobs.switched_off.Disabled": "true"}


@pytest.fixture(scope="module")
def open_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostApp]:
    with host_app(tmp_path_factory.mktemp("app"), environ=SETTINGS) as host:
        yield host


@pytest.fixture(scope="module")
def locked_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostApp]:
    """The host with --enable-auth."""
    with host_app(tmp_path_factory.mktemp("app"), "--enable-auth", environ=SETTINGS) as host:
        yield host


class TestRouting:
    def test_routes_are_below_the_prefix_api(self, open_host: HostApp) -> None:
        assert open_host.http.get("/api/environ").status_code == 200
        assert open_host.http.get("/environ").status_code == 404

    def test_the_prefix_comes_from_host_json_and_may_be_empty(self, tmp_path: Path) -> None:
        for prefix, url in (("", "/seen"), ("my/own", "/my/own/seen")):
            with host_app(tmp_path / f"app{len(prefix)}", prefix=prefix, environ=SETTINGS) as host:
                assert f"http://localhost:{host.port}{url}/{{first?}}" in host.output
                assert host.http.get(url).status_code == 200

    def test_a_function_without_a_route_answers_to_its_name(self, open_host: HostApp) -> None:
        assert open_host.http.get("/api/unrouted").text == "GET"

    def test_a_function_without_methods_takes_them_all(self, open_host: HostApp) -> None:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            assert open_host.http.request(method, "/api/unrouted").text == method

    @pytest.mark.parametrize(
        ("path", "parameters"),
        [
            ("/api/seen", {}),
            ("/api/seen/one", {"first": "one"}),
            ("/api/seen/a%20b", {"first": "a b"}),
            ("/api/rest/a/b/c", {"path": "a/b/c"}),
            ("/api/number/17", {"id": "17"}),
        ],
    )
    def test_parameters_are_strings_and_absent_ones_left_out(
        self, open_host: HostApp, path: str, parameters: dict[str, str]
    ) -> None:
        found = open_host.http.get(path).json()
        assert found.get("parameters", found) == parameters

    def test_a_failed_constraint_is_404(self, open_host: HostApp) -> None:
        assert open_host.http.get("/api/number/seventeen").status_code == 404

    def test_functions_are_tried_by_name_so_a_literal_does_not_beat_a_parameter(self, open_host: HostApp) -> None:
        assert open_host.http.get("/api/order/literal").text == "parameter"

    @pytest.mark.parametrize(
        ("method", "path"),
        [("POST", "/api/environ"), ("HEAD", "/api/environ"), ("OPTIONS", "/api/environ"), ("GET", "/api/nothing")],
    )
    def test_what_nobody_takes_is_an_empty_404_and_never_405(self, open_host: HostApp, method: str, path: str) -> None:
        response = open_host.http.request(method, path)
        assert response.status_code == 404
        assert response.content == b""
        assert response.headers["content-length"] == "0"

    def test_a_trailing_slash_is_ignored(self, open_host: HostApp) -> None:
        assert open_host.http.get("/api/environ/").status_code == 200

    def test_literals_ignore_case(self, open_host: HostApp) -> None:
        assert open_host.http.get("/API/Environ").status_code == 200

    @pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
    def test_the_homepage_answers_any_method(self, open_host: HostApp, method: str) -> None:
        response = open_host.http.request(method, "/")
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/html")

    def test_the_homepage_can_be_switched_off(self, tmp_path: Path) -> None:
        with host_app(tmp_path / "app", environ={**SETTINGS, "AzureWebJobsDisableHomepage": "true"}) as host:
            assert host.http.get("/").status_code == 204

    def test_a_reserved_route_puts_that_function_alone_in_error(self, open_host: HostApp) -> None:
        assert "The 'reserved' function is in error: " in open_host.output
        assert open_host.http.get("/api/administer").status_code == 404

    def test_an_equal_route_with_a_common_method_puts_the_later_function_in_error(self, open_host: HostApp) -> None:
        assert "The 'twin_b' function is in error: " in open_host.output
        assert open_host.http.post("/api/twin").text == "a"

    def test_equal_routes_with_other_methods_are_fine(self) -> None:
        get, post, all_methods = (route("x", methods) for methods in (["GET"], ["POST"], None))
        assert not get.clashes_with(post)
        assert get.clashes_with(all_methods)

    def test_a_body_above_the_limit_is_413(self, open_host: HostApp) -> None:
        with open_host.connection() as caller:
            caller.sendall(b"POST /api/seen HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % (BODY_LIMIT + 1))
            assert caller.recv(100).startswith(b"HTTP/1.1 413 ")

    def test_a_chunked_body_above_the_limit_is_413(self, open_host: HostApp) -> None:
        pieces = (b"a" * 1_000_000 for _ in range(BODY_LIMIT // 1_000_000 + 1))
        try:
            assert open_host.http.post("/api/seen", content=pieces).status_code == 413
        except httpx2.WriteError:
            pytest.fail("the answer was lost")


def received_by(caller: socket.socket) -> bytes:
    """What comes next; empty at the end, however that came."""
    try:
        return caller.recv(65536)
    except ConnectionResetError:
        return b""


def route(template: str, methods: list[str] | None) -> Route:
    trigger = {"type": "httpTrigger", "route": template} | ({"methods": methods} if methods else {})
    return Route(Function("id", "name", (trigger,)), "api")


class TestKeys:
    def test_func_start_asks_for_no_key_at_all(self, open_host: HostApp) -> None:
        for path in ("/api/secured", "/api/chiefs", "/admin/host/status"):
            assert open_host.http.get(path).status_code == 200

    def test_a_refusal_is_an_empty_401(self, locked_host: HostApp) -> None:
        for headers in ({}, {"x-functions-key": "wrong"}):
            response = locked_host.http.get("/api/secured", headers=headers)
            assert (response.status_code, response.content) == (401, b"")
            assert "www-authenticate" not in response.headers

    def test_a_key_comes_in_the_header_or_the_query(self, locked_host: HostApp) -> None:
        key = locked_host.key("all functions")
        assert locked_host.get("/api/secured", key).status_code == 200
        assert locked_host.http.get("/api/secured", params={"code": key}).status_code == 200

    @pytest.mark.parametrize("header", ["", "wrong"])
    def test_a_header_hides_the_query(self, locked_host: HostApp, header: str) -> None:
        response = locked_host.http.get(
            "/api/secured", params={"code": locked_host.key("all functions")}, headers={"x-functions-key": header}
        )
        assert response.status_code == 401

    def test_a_functions_own_key_opens_that_function(self, locked_host: HostApp) -> None:
        assert locked_host.get("/api/secured", locked_host.key("secured")).status_code == 200

    def test_the_master_key_opens_all_and_lower_keys_do_not_open_the_admin_level(self, locked_host: HostApp) -> None:
        master, host = locked_host.key("master"), locked_host.key("all functions")
        assert locked_host.get("/api/secured", master).status_code == 200
        assert locked_host.get("/api/chiefs", master).status_code == 200
        assert locked_host.get("/api/chiefs", host).status_code == 401

    def test_a_wrong_key_on_an_anonymous_function_is_fine(self, locked_host: HostApp) -> None:
        assert locked_host.get("/api/seen", "wrong").status_code == 200

    def test_a_disabled_function_is_404_unless_to_the_master(self, open_host: HostApp, locked_host: HostApp) -> None:
        assert open_host.http.get("/api/switched_off").status_code == 404
        assert locked_host.get("/api/switched_off", locked_host.key("all functions")).status_code == 404
        assert locked_host.get("/api/switched_off", locked_host.key("master")).text == "on"

    def test_keys_are_forwarded_to_the_app(self, locked_host: HostApp) -> None:
        key = locked_host.key("all functions")
        response = locked_host.http.get("/api/secured", params={"code": "x"}, headers={"x-functions-key": key})
        assert response.json() == {"header": key, "code": "x"}


class TestStart:
    def test_it_binds_loopback_alone(self, open_host: HostApp) -> None:
        listening = Path(f"/proc/{open_host.process.pid}/net/tcp").read_text()
        assert re.search(rf" 0100007F:{open_host.port:04X} 00000000:0000 0A", listening)
        assert not re.search(rf" 00000000:{open_host.port:04X} ", listening)

    def test_the_port_can_be_in_local_settings(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        local_settings = {"IsEncrypted": False, "Host": {"LocalHttpPort": port}}
        with host_app(tmp_path / "app", port=None, local_settings=local_settings, environ=SETTINGS) as host:
            assert host.port == port

    def test_without_cors_there_is_none(self, open_host: HostApp) -> None:
        response = open_host.http.get("/api/seen", headers={"origin": "https://page.example"})
        assert not any(name.startswith("access-control") for name in response.headers)

    def test_cors_answers_preflights_and_marks_answers(self, tmp_path: Path) -> None:
        preflight = {"access-control-request-method": "POST", "access-control-request-headers": "x-functions-key"}
        cors = {"CORS": "https://page.example,https://other.example", "CORSCredentials": True}
        local_settings = {"IsEncrypted": False, "Host": cors}
        with host_app(tmp_path / "app", "--enable-auth", local_settings=local_settings, environ=SETTINGS) as host:
            for origin, allowed in (("https://page.example", True), ("https://evil.example", False)):
                asked = host.http.options("/api/secured", headers={"origin": origin, **preflight})
                assert asked.status_code == 204
                answered = host.http.get("/api/seen", headers={"origin": origin})
                for response in (asked, answered):
                    assert response.headers.get("access-control-allow-origin") == (origin if allowed else None)
                assert asked.headers.get("access-control-allow-headers") == ("x-functions-key" if allowed else None)
                assert asked.headers.get("access-control-allow-methods") == ("POST" if allowed else None)
                assert answered.headers.get("access-control-allow-credentials") == ("true" if allowed else None)

    def test_cors_on_the_command_line_takes_any_origin(self, tmp_path: Path) -> None:
        with host_app(tmp_path / "app", "--cors", "*", environ=SETTINGS) as host:
            response = host.http.get("/api/stream/short", headers={"origin": "https://page.example"})
            assert response.headers["access-control-allow-origin"] == "*"

    def test_values_yield_to_what_is_set_and_an_empty_value_is_set(self, tmp_path: Path) -> None:
        values = {"TAKEN": "file", "OVER_EMPTY": "file", "EMPTY": "", "AZURE_FUNCTIONS_ENVIRONMENT": "Production"}
        local_settings = {"IsEncrypted": False, "Values": values}
        environ = {**SETTINGS, "TAKEN": "os", "OVER_EMPTY": ""}
        with host_app(tmp_path / "app", local_settings=local_settings, environ=environ) as host:
            environ = host.http.get("/api/environ").json()
            assert (environ["TAKEN"], environ["OVER_EMPTY"], environ["EMPTY"]) == ("os", "file", "")
            assert environ["AZURE_FUNCTIONS_ENVIRONMENT"] == "Development"
            assert (
                "Skipping 'TAKEN' from local settings as it's already defined in current environment variables."
                in host.output
            )

    def test_the_hosts_own_settings(self, open_host: HostApp) -> None:
        environ = open_host.http.get("/api/environ").json()
        assert environ["FUNCTIONS_CORETOOLS_ENVIRONMENT"] == "true"
        assert environ["WEBSITE_HOSTNAME"] == f"localhost:{open_host.port}"
        assert environ["AzureWebJobsScriptRoot"] == str(open_host.folder)
        assert environ["AZURE_FUNCTIONS_ENVIRONMENT"] == "Development"
        assert environ["FUNCTIONS_WORKER_RUNTIME_VERSION"] == "{}.{}".format(*sys.version_info[:2])
        assert environ["PYTHON_ENABLE_DEBUG_LOGGING"] == "1"
        assert environ["PYTHON_THREADPOOL_THREAD_COUNT"] == "1000"

    def test_the_list_of_functions(self, open_host: HostApp) -> None:
        listed = open_host.output.partition("\nFunctions:\n\n")[2].partition("Ctrl-C")[0]
        url = f"http://localhost:{open_host.port}/api"
        assert f"\tseen: [GET,POST] {url}/seen/{{first?}}\n\n" in listed
        assert f"\tunrouted:  {url}/unrouted\n\n" in listed
        assert "\toften: timerTrigger\n\n" in listed


class TestForwarding:
    def test_path_query_and_body_arrive_unchanged(self, open_host: HostApp) -> None:
        response = open_host.http.post("/api/seen/%C3%BC%20x?a=%2F&b=1&a=2", content=b"x" * 100_000)
        seen = response.json()
        assert (seen["path"], seen["query"]) == ("/api/seen/%C3%BC%20x", "a=%2F&b=1&a=2")
        assert seen["body"] == 100_000

    def test_a_chunked_body_is_streamed(self, open_host: HostApp) -> None:
        assert open_host.http.post("/api/seen", content=iter([b"one", b"two"])).json()["body"] == 6

    def test_an_encoded_body_arrives_as_it_was_sent(self, open_host: HostApp) -> None:
        for body in (gzip.compress(b"a" * 1000), b"not gzip at all"):
            headers = {"content-encoding": "gzip"}
            seen = open_host.http.post("/api/seen", content=body, headers=headers).json()
            assert seen["body"] == len(body)
            assert dict(seen["headers"])["content-encoding"] == "gzip"

    def test_a_request_with_the_whole_url_in_it_is_understood(self, open_host: HostApp) -> None:
        with open_host.connection() as caller:
            caller.sendall(b"GET http://localhost/api/seen?a=b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            assert caller.recv(65536).startswith(b"HTTP/1.1 200 ")

    def test_a_body_that_is_no_chunks_is_refused_and_nothing_hangs(self, open_host: HostApp) -> None:
        with open_host.connection() as caller:
            caller.sendall(b"POST /api/seen HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n")
            assert caller.recv(65536).partition(b"\r\n")[0] in (b"HTTP/1.0 400 Bad Request", b"HTTP/1.1 400 Bad Request")

    def test_a_request_that_the_runtime_refuses_by_itself_ends(self, open_host: HostApp) -> None:
        headers = {f"x-long-{number}": "a" * 5000 for number in range(80)}
        assert open_host.http.get("/api/seen", headers=headers).status_code == 400
        open_host.wait_for("The runtime answered by itself")

    def test_headers_are_added_and_a_callers_own_invocation_id_is_overwritten(self, open_host: HostApp) -> None:
        seen = open_host.http.get("/api/seen", headers={"x-ms-invocation-id": "mine", "x-own": "kept"}).json()
        headers = dict(seen["headers"])
        assert headers["x-own"] == "kept"
        assert headers["x-ms-invocation-id"] == seen["invocation"] != "mine"
        assert headers["x-forwarded-for"] == "127.0.0.1"
        assert headers["x-forwarded-host"] == f"127.0.0.1:{open_host.port}"
        assert headers["x-forwarded-proto"] == "http"

    def test_the_request_shows_the_workers_address_and_the_forwarded_caller(self, open_host: HostApp) -> None:
        seen = open_host.http.get("/api/seen").json()
        assert not seen["url"].startswith(open_host.url)
        assert dict(seen["headers"])["host"] in seen["url"]
        assert seen["client"] == "127.0.0.1"

    def test_hop_by_hop_headers_are_dropped_both_ways(self, open_host: HostApp) -> None:
        sent = {"te": "trailers", "proxy-authorization": "Basic eA==", "keep-alive": "timeout=5", "upgrade": "h2c"}
        seen = dict(open_host.http.get("/api/seen", headers=sent).json()["headers"])
        assert not set(sent) & set(seen)
        got = open_host.http.get("/api/headers").headers
        assert not {"alt-svc", "proxy-authenticate", "keep-alive"} & set(got)
        assert (got["x-kept"], got["set-cookie"]) == ("yes", "a=b")

    def test_cookies_are_the_callers_business(self, open_host: HostApp) -> None:
        open_host.http.get("/api/headers")
        open_host.http.cookies.clear()
        assert "cookie" not in dict(open_host.http.get("/api/seen").json()["headers"])

    def test_answers_of_functions_say_uvicorn_and_the_hosts_own_kestrel(self, open_host: HostApp) -> None:
        assert open_host.http.get("/api/seen").headers["server"] == "uvicorn"
        assert open_host.http.get("/api/nothing").headers["server"] == "Kestrel"

    def test_the_invocation_is_a_span_in_the_callers_trace(self, open_host: HostApp) -> None:
        seen = open_host.http.get("/api/seen", headers={"traceparent": f"00-{TRACE}-{SPAN}-01"}).json()
        assert re.fullmatch(rf"00-{TRACE}-(?!{SPAN})[0-9a-f]{{16}}-01", seen["trace"])
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", open_host.http.get("/api/seen").json()["trace"])

    def test_a_function_that_raises_is_a_plain_500_and_the_connection_closes(self, open_host: HostApp) -> None:
        response = open_host.http.get("/api/fail")
        assert (response.status_code, response.text) == (500, "Internal Server Error")
        assert response.headers["content-type"].startswith("text/plain")
        with open_host.connection() as caller:
            caller.sendall(b"GET /api/fail HTTP/1.1\r\nhost: a\r\n\r\n")
            while received := caller.recv(1000):
                last = received
            assert last.endswith(b"Internal Server Error")
        open_host.wait_for("Executed 'Functions.fail' (Failed, Id=")

    def test_an_http_exception_keeps_its_status(self, open_host: HostApp) -> None:
        response = open_host.http.get("/api/refuse")
        assert (response.status_code, response.json()) == (418, {"detail": "told to refuse"})
        open_host.wait_for("Executed 'Functions.refuse' (Failed, Id=")

    def test_a_stream_that_breaks_is_cut_without_its_final_chunk(self, open_host: HostApp) -> None:
        with open_host.connection() as caller:
            caller.sendall(b"GET /api/stream/broken HTTP/1.1\r\nhost: a\r\n\r\n")
            received = b""
            while more := received_by(caller):
                received += more
        assert received.endswith(b"\r\n\r\n5\r\nfirst\r\n")
        open_host.wait_for("Failed to proxy request: the answer broke off")

    def test_the_invocation_lasts_as_long_as_its_stream(self, open_host: HostApp) -> None:
        assert open_host.http.get("/api/stream/short").text == "firstlast"
        open_host.wait_for("Executed 'Functions.stream' (Succeeded")
        durations = re.findall(r"Functions\.stream' \(Succeeded, Id=.*, Duration=(\d+)ms\)", open_host.output)
        assert max(map(int, durations)) >= 300

    def test_a_caller_who_leaves_a_stream_fails_the_invocation_and_closes_the_workers_connection(
        self, open_host: HostApp
    ) -> None:
        with open_host.http.stream("GET", "/api/stream/endless") as response:
            assert next(response.iter_bytes()) == b"first"
        open_host.wait_for("the stream was left")
        open_host.wait_for("Failed to proxy request with ForwarderError: RequestCanceled")
        open_host.wait_for("Executed 'Functions.stream' (Failed")

    def test_a_caller_who_leaves_before_the_answer_is_told_to_the_app_by_its_request_alone(self, open_host: HostApp) -> None:
        with open_host.connection() as caller:
            caller.sendall(b"GET /api/wait HTTP/1.1\r\nhost: a\r\n\r\n")
            open_host.wait_for("waiting")
        open_host.wait_for("the request was left")

    def test_log_lines_of_an_invocation(self, open_host: HostApp) -> None:
        invocation = open_host.http.get("/api/seen").json()["invocation"]
        open_host.wait_for(f"Executed 'Functions.seen' (Succeeded, Id={invocation}")
        reason = "This function was programmatically called via the host APIs."
        begin = rf"{STAMP}Executing 'Functions\.seen' \(Reason='{re.escape(reason)}', Id={invocation}\)\n"
        assert re.search(begin, open_host.output)
        assert re.search(
            rf"{STAMP}Executed 'Functions\.seen' \(Succeeded, Id={invocation}, Duration=\d+ms\)\n", open_host.output
        )
        assert re.fullmatch(GUID, invocation)


type Front = Callable[[Forwarder], Awaitable[str]]


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    """Serves a forwarder alone; returns its address."""
    async with Servers() as servers:

        async def start(forwarder: Forwarder) -> str:
            async def forward(request: web.Request) -> web.StreamResponse:
                try:
                    return await forwarder.forward(request, "id")
                except NotForwarded as exc:
                    return empty(exc.status)

            application = web.Application()
            application.router.add_route("*", "/{path:.*}", forward)
            await servers.enter_async_context(forwarder)
            return await servers.start(application)

        yield start


@pytest.mark.anyio
class TestForwarder:
    async def test_an_answer_without_bytes_for_the_limit_of_silence_is_an_empty_500(self, front: Front) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            forwarder = Forwarder(f"http://127.0.0.1:{silent.getsockname()[1]}", silence_limit=0.2)
            assert forwarder.silence_limit < Forwarder("").silence_limit == 240
            address = await front(forwarder)
            async with httpx2.AsyncClient(timeout=PATIENCE) as http:
                response = await http.get(address)
        assert (response.status_code, response.content) == (500, b"")

    async def test_a_worker_that_does_not_listen_is_tried_ten_times(self, front: Front) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        address = await front(Forwarder(f"http://127.0.0.1:{port}"))
        started = time.monotonic()
        async with httpx2.AsyncClient(timeout=PATIENCE) as http:
            response = await http.get(address)
        assert (response.status_code, response.content) == (500, b"")
        assert time.monotonic() - started >= (CONNECT_TRIES - 1) * 0.05


class TestTimers:
    def test_it_fires_on_its_schedule_in_local_time(self, open_host: HostApp) -> None:
        open_host.wait_for("Executed 'Functions.often' (Succeeded")
        fired = re.search(r"Executing 'Functions\.often' \(Reason='Timer fired at (\S+)', Id=", open_host.output)
        assert fired
        assert int(fired[1][17:19]) % 2 == 0

    def test_one_that_fires_within_a_minute_is_not_monitored(self, open_host: HostApp) -> None:
        open_host.wait_for("often {} False")

    def test_run_on_startup_fires_at_once_and_the_first_last_run_is_a_minimum_date(self, open_host: HostApp) -> None:
        open_host.wait_for("seldom {'Last': '0001-01-01T00:00:00', 'Next': '")
        assert "{'AdjustForDST': True}" in open_host.output

    def test_runs_never_overlap_and_missed_ones_are_not_made_up_for(self, open_host: HostApp) -> None:
        while open_host.output.count("Executed 'Functions.slow'") < 3:
            open_host.wait_for_more()
        lines = re.findall(rf"{STAMP}(Executing|Executed) 'Functions\.slow'", open_host.output)
        assert lines[:6] == ["Executing", "Executed"] * 3
        # Each takes 2.2 s, so the next full second is the third one after it fired.
        seconds = [
            datetime.fromisoformat(fired)
            for fired in re.findall(r"Functions\.slow' \(Reason='Timer fired at ([^']+)'", open_host.output)
        ]
        assert all((later - earlier).total_seconds() > 2.2 for earlier, later in pairwise(seconds))

    def test_an_error_does_not_stop_a_timer(self, open_host: HostApp) -> None:
        while open_host.output.count("Executed 'Functions.grumpy' (Failed") < 2:
            open_host.wait_for_more()

    def test_a_schedule_can_be_the_name_of_a_setting(self, open_host: HostApp) -> None:
        found = re.search(r"seldom \{.*'Next': '\d{4}-\d\d-\d\dT09:00:00", open_host.output)
        assert found

    def test_a_schedule_that_cannot_be_read_puts_that_function_alone_in_error(self, open_host: HostApp) -> None:
        assert "The 'unreadable' function is in error: The schedule expression 'every now and then'" in open_host.output
        assert "The 'unresolved' function is in error: '%UNSET%' does not resolve to a value." in open_host.output

    @pytest.mark.parametrize(
        ("schedule", "due"),
        [
            ("0 */5 * * * *", "2026-11-23T12:05:00"),
            ("*/5 * * * *", "2026-11-23T12:05:00"),
            ("30 0 12 * * *", "2026-11-23T12:00:30"),
            ("0 0 9-17 * * MON-FRI", "2026-11-23T13:00:00"),
            ("0 0 0 1 1 *", "2027-01-01T00:00:00"),
            ("00:00:10", "2026-11-23T12:00:11"),
            ("1.00:00:00", "2026-11-24T12:00:01"),
        ],
    )
    def test_six_fields_five_fields_or_a_time_span(self, schedule: str, due: str) -> None:
        assert Schedule(schedule).after(datetime.fromisoformat("2026-11-23T12:00:01")).isoformat() == due

    @pytest.mark.parametrize("schedule", ["", "x", "* * * *", "* * * * * * *", "61 * * * * *", "00:00:00", "@daily"])
    def test_other_schedules_are_refused(self, schedule: str) -> None:
        with pytest.raises(ValueError, match="was not recognized as a valid cron expression"):
            Schedule(schedule)


class TestAdmin:
    def post(self, host: HostApp, name: str, key: str = "", json: object = None) -> httpx2.Response:
        return host.http.post(f"/admin/functions/{name}", headers={"x-functions-key": key}, json=json)

    @pytest.mark.parametrize("body", [{}, {"input": ""}])
    def test_a_function_is_run_on_demand_and_its_errors_are_invisible(self, locked_host: HostApp, body: object) -> None:
        response = self.post(locked_host, "failing", locked_host.key("master"), json=body)
        assert (response.status_code, response.content) == (202, b"")
        locked_host.wait_for("Executed 'Functions.failing' (Failed")
        locked_host.wait_for("ValueError: told to fail at that time")

    def test_a_timer_without_monitor_has_no_status(self, locked_host: HostApp) -> None:
        self.post(locked_host, "unmonitored", locked_host.key("master"), json={})
        locked_host.wait_for("unmonitored {}")

    def test_bad_runs_on_demand(self, locked_host: HostApp) -> None:
        master = locked_host.key("master")
        json_type = {"x-functions-key": master, "content-type": "application/json"}
        assert locked_host.http.post("/admin/functions/failing", content=b"null", headers=json_type).status_code == 400
        assert locked_host.http.post("/admin/functions/nothing", content=b"{}", headers=json_type).status_code == 404
        plain = {"x-functions-key": master, "content-type": "text/plain"}
        assert locked_host.http.post("/admin/functions/failing", content=b"{}", headers=plain).status_code == 415

    def test_no_key_is_401_and_too_low_a_key_403(self, locked_host: HostApp) -> None:
        assert self.post(locked_host, "failing", json={}).status_code == 401
        assert self.post(locked_host, "failing", locked_host.key("all functions"), json={}).status_code == 403
        assert locked_host.http.get("/admin/host/status").status_code == 401
        assert locked_host.get("/admin/host/status", locked_host.key("all functions")).status_code == 403

    def test_ping_is_empty_and_needs_no_key(self, locked_host: HostApp) -> None:
        for method in ("GET", "POST"):
            response = locked_host.http.request(method, "/admin/host/ping")
            assert (response.status_code, response.content) == (200, b"")

    def test_status(self, locked_host: HostApp) -> None:
        status = locked_host.get("/admin/host/status", locked_host.key("master")).json()
        assert status["state"] == "Running"
        assert {"id", "version", "processUptime"} <= set(status)
