"""Test that the local host forwards requests and responses as the real host is known to do."""

import asyncio
import gzip
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import BinaryIO

import httpx2
import pytest
from aiohttp import web

from local.host.forwarding import CONNECT_TRIES, Forwarder, ForwardingFailed
from local.host.kestrel import empty_response
from local.serving import Servers
from tests.support.local_host import TIMESTAMP, HostApp
from tests.support.processes import TIMEOUT, Json, eventually

GUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
TRACE, SPAN = "a" * 32, "b" * 16
UPGRADE = b"host: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n"


def read_json(received: BinaryIO) -> Json:
    """Return the body of the next response on a connection."""
    headers: dict[bytes, bytes] = {}
    while line := received.readline().rstrip():
        name, _, value = line.partition(b":")
        headers[name.lower()] = value
    found: Json = json.loads(received.read(int(headers[b"content-length"])))
    return found


class TestForwarding:
    def test_path_query_and_body_arrive_unchanged(self, open_host: HostApp) -> None:
        response = open_host.http.post("/api/echo/%C3%BC%20x;!$&'()*+,=:@-._~?a=%2F&b=1&a=2", content=b"x" * 100_000)
        seen = response.json()
        assert (seen["path"], seen["query"]) == ("/api/echo/%C3%BC%20x;!$&'()*+,=:@-._~", "a=%2F&b=1&a=2")
        assert seen["body"] == 100_000

    @pytest.mark.parametrize(
        ("segment", "forwarded"),
        [("a%2Fb", "a%252Fb"), ("a%2fb", "a%252fb"), ("%", "%25"), ("%zz", "%25zz"), ("%25", "%25"), ("%3a%41", ":A")],
    )
    def test_a_path_is_decoded_except_for_slashes_and_encoded_again(
        self, open_host: HostApp, segment: str, forwarded: str
    ) -> None:
        request = f"GET /api/echo/{segment} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        _, body = open_host.exchange(request.encode())
        assert json.loads(body)["path"] == f"/api/echo/{forwarded}"

    def test_a_chunked_body_is_streamed(self, open_host: HostApp) -> None:
        assert open_host.http.post("/api/echo", content=iter([b"one", b"two"])).json()["body"] == 6

    def test_an_encoded_body_arrives_as_it_was_sent(self, open_host: HostApp) -> None:
        for body in (gzip.compress(b"a" * 1000), b"not gzip at all"):
            headers = {"content-encoding": "gzip"}
            seen = open_host.http.post("/api/echo", content=body, headers=headers).json()
            assert seen["body"] == len(body)
            assert dict(seen["headers"])["content-encoding"] == "gzip"

    def test_a_request_line_can_contain_the_whole_url(self, open_host: HostApp) -> None:
        with open_host.connection() as client:
            client.sendall(b"GET http://localhost/api/echo?a=b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")

    def test_a_request_ends_if_the_runtime_responds_without_running_the_function(self, open_host: HostApp) -> None:
        assert open_host.http.get("/api/echo/a%0Ab").status_code == 404
        open_host.wait_for("The runtime's HTTP server responded without running the function")

    def test_the_host_adds_headers_and_overwrites_the_clients_invocation_id(self, open_host: HostApp) -> None:
        sent = {"x-ms-invocation-id": "mine", "x-own": "kept", "x-real-ip": "9.9.9.9", "x-ms-client-principal": "e30="}
        forged = {f"x-forwarded-{name}": "evil" for name in ("for", "host", "proto")}
        seen = open_host.http.get("/api/echo", headers=sent | forged | {"forwarded": "for=9.9.9.9"}).json()
        headers = dict(seen["headers"])
        assert "forwarded" not in headers
        for name in ("x-own", "x-real-ip", "x-ms-client-principal"):
            assert headers[name] == sent[name]
        assert headers["x-ms-invocation-id"] == seen["invocation"] != "mine"
        assert headers["x-forwarded-for"] == "127.0.0.1"
        assert headers["x-forwarded-host"] == f"127.0.0.1:{open_host.port}"
        assert headers["x-forwarded-proto"] == "http"

    def test_the_request_has_the_workers_url_and_the_clients_ip_address(self, open_host: HostApp) -> None:
        seen = open_host.http.get("/api/echo").json()
        assert not seen["url"].startswith(open_host.url)
        assert dict(seen["headers"])["host"] in seen["url"]
        assert seen["client"] == "127.0.0.1"

    def test_hop_by_hop_headers_are_dropped_in_both_directions(self, open_host: HostApp) -> None:
        sent = {"te": "trailers", "proxy-authorization": "Basic eA==", "keep-alive": "timeout=5"}
        sent |= {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c"}
        seen = dict(open_host.http.get("/api/echo", headers=sent).json()["headers"])
        assert not set(sent) & set(seen)
        received = open_host.http.get("/api/headers").headers
        assert not {"alt-svc", "proxy-authenticate", "keep-alive"} & set(received)
        assert (received["x-kept"], received["set-cookie"]) == ("yes", "a=b")

    def test_the_headers_that_ask_for_a_websocket_arrive_and_the_connection_stays_usable(self, open_host: HostApp) -> None:
        with open_host.connection() as client, client.makefile("rb") as received:
            # The second request is sent before the first response.
            client.sendall(b"GET /api/echo HTTP/1.1\r\n" + UPGRADE + b"\r\nGET /api/echo HTTP/1.1\r\nhost: a\r\n\r\n")
            first, second = (dict(read_json(received)["headers"]) for _ in range(2))
        assert (first["connection"], first["upgrade"]) == ("Upgrade", "websocket")
        assert not {"connection", "upgrade"} & set(second)

    def test_a_request_for_a_websocket_is_forwarded_as_get(self, open_host: HostApp) -> None:
        with open_host.connection() as client, client.makefile("rb") as received:
            client.sendall(b"POST /api/echo HTTP/1.1\r\n" + UPGRADE + b"\r\n")
            assert read_json(received)["method"] == "GET"

    @pytest.mark.parametrize("is_chunked", [False, True])
    def test_the_body_of_a_request_for_a_websocket_is_a_body_and_not_another_request(
        self, open_host: HostApp, is_chunked: bool
    ) -> None:
        body = b"GET /api/environ HTTP/1.1\r\nhost: a\r\n\r\n"
        framing = b"transfer-encoding: chunked\r\n\r\n" if is_chunked else b"content-length: %d\r\n\r\n" % len(body)
        with open_host.connection() as client, client.makefile("rb") as received:
            client.sendall(b"POST /api/echo HTTP/1.1\r\n" + UPGRADE + framing)
            client.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if is_chunked else body)
            seen = read_json(received)
        assert seen["body"] == len(body)
        assert not {"connection", "upgrade"} & {name for name, _ in seen["headers"]}

    def test_the_host_does_not_store_cookies(self, open_host: HostApp) -> None:
        open_host.http.get("/api/headers")
        open_host.http.cookies.clear()
        assert "cookie" not in dict(open_host.http.get("/api/echo").json()["headers"])

    def test_the_server_header_is_uvicorn_for_functions_and_kestrel_for_the_host(self, open_host: HostApp) -> None:
        assert open_host.http.get("/api/echo").headers["server"] == "uvicorn"
        assert open_host.http.get("/api/nothing").headers["server"] == "Kestrel"

    def test_the_invocation_is_a_span_in_the_clients_trace(self, open_host: HostApp) -> None:
        seen = open_host.http.get("/api/echo", headers={"traceparent": f"00-{TRACE}-{SPAN}-01"}).json()
        assert re.fullmatch(rf"00-{TRACE}-(?!{SPAN})[0-9a-f]{{16}}-01", seen["trace"])
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", open_host.http.get("/api/echo").json()["trace"])

    def test_an_exception_in_a_function_is_a_plain_500_and_closes_the_connection(self, open_host: HostApp) -> None:
        response = open_host.http.get("/api/fail")
        assert (response.status_code, response.text) == (500, "Internal Server Error")
        assert response.headers["content-type"].startswith("text/plain")
        with open_host.connection() as client:
            client.sendall(b"GET /api/fail HTTP/1.1\r\nhost: a\r\n\r\n")
            while received := client.recv(1000):
                last = received
            assert last.endswith(b"Internal Server Error")
        open_host.wait_for("Executed 'Functions.fail' (Failed, Id=")

    def test_an_http_exception_keeps_its_status(self, open_host: HostApp) -> None:
        response = open_host.http.get("/api/reject")
        assert (response.status_code, response.json()) == (418, {"detail": "scripted rejection"})
        open_host.wait_for("Executed 'Functions.reject' (Failed, Id=")

    def test_an_interrupted_stream_resets_the_connection(self, open_host: HostApp) -> None:
        with open_host.connection() as client:
            client.sendall(b"GET /api/stream/broken HTTP/1.1\r\nhost: a\r\n\r\n")
            received = b""
            while not received.endswith(b"\r\n\r\n5\r\nfirst\r\n"):
                received += client.recv(65536)
            with pytest.raises(ConnectionResetError):
                client.recv(65536)
        open_host.wait_for("Failed to proxy request: the response was interrupted")

    def test_the_invocation_lasts_as_long_as_its_stream(self, open_host: HostApp) -> None:
        assert open_host.http.get("/api/stream/short").text == "firstlast"
        open_host.wait_for("Executed 'Functions.stream' (Succeeded")
        durations = re.findall(r"Functions\.stream' \(Succeeded, Id=.*, Duration=(\d+)ms\)", open_host.output)
        assert max(map(int, durations)) >= 300

    def test_a_disconnect_during_a_stream_fails_the_invocation_and_closes_the_workers_connection(
        self, open_host: HostApp
    ) -> None:
        with open_host.http.stream("GET", "/api/stream/endless") as response:
            assert next(response.iter_bytes()) == b"first"
        open_host.wait_for("the stream was cancelled")
        open_host.wait_for("Failed to proxy request with ForwarderError: RequestCanceled")
        open_host.wait_for("Executed 'Functions.stream' (Failed")

    def test_req_receive_reports_a_disconnect_before_the_response(self, open_host: HostApp) -> None:
        with open_host.connection() as client:
            client.sendall(b"GET /api/wait HTTP/1.1\r\nhost: a\r\n\r\n")
            open_host.wait_for("waiting")
        open_host.wait_for("the client disconnected")

    def test_no_invocation_waits_for_a_request_whose_client_has_disconnected(self, open_host: HostApp) -> None:
        for _ in range(50):
            with open_host.connection() as client:
                client.sendall(b"GET /api/environ HTTP/1.1\r\nhost: a\r\n\r\n")
        assert eventually(lambda: open_host.http.get("/api/invocations").json(), lambda count: count == 1)

    def test_the_log_has_the_start_and_the_end_of_an_invocation(self, open_host: HostApp) -> None:
        invocation = open_host.http.get("/api/echo").json()["invocation"]
        open_host.wait_for(f"Executed 'Functions.echo' (Succeeded, Id={invocation}")
        reason = "This function was programmatically called via the host APIs."
        begin = rf"{TIMESTAMP}Executing 'Functions\.echo' \(Reason='{re.escape(reason)}', Id={invocation}\)\n"
        assert re.search(begin, open_host.output)
        assert re.search(
            rf"{TIMESTAMP}Executed 'Functions\.echo' \(Succeeded, Id={invocation}, Duration=\d+ms\)\n", open_host.output
        )
        assert re.fullmatch(GUID, invocation)


type Front = Callable[[Forwarder], Awaitable[str]]


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    """Return a function that serves a forwarder without the rest of the host, and returns its URL."""
    async with Servers() as servers:

        async def start(forwarder: Forwarder) -> str:
            async def forward(request: web.Request) -> web.StreamResponse:
                try:
                    return await forwarder.forward(request, "/", "id", asyncio.Event())
                except ForwardingFailed:
                    return empty_response(500)

            application = web.Application()
            application.router.add_route("*", "/{path:.*}", forward)
            await servers.enter_async_context(forwarder)
            return await servers.start(application)

        yield start


@pytest.mark.anyio
class TestForwarder:
    async def test_a_worker_that_stays_silent_until_the_time_out_is_an_empty_500(self, front: Front) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            forwarder = Forwarder(f"http://127.0.0.1:{silent.getsockname()[1]}", activity_timeout=0.2)
            assert forwarder.activity_timeout < Forwarder("").activity_timeout == 240
            url = await front(forwarder)
            async with httpx2.AsyncClient(timeout=TIMEOUT) as http:
                response = await http.get(url)
        assert (response.status_code, response.content) == (500, b"")

    async def test_a_worker_that_does_not_listen_is_tried_ten_times(self, front: Front) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        url = await front(Forwarder(f"http://127.0.0.1:{port}"))
        started = time.monotonic()
        async with httpx2.AsyncClient(timeout=TIMEOUT) as http:
            response = await http.get(url)
        assert (response.status_code, response.content) == (500, b"")
        assert time.monotonic() - started >= (CONNECT_TRIES - 1) * 0.05
