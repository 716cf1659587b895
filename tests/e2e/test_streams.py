"""Test streams from end to end, through silences, interruptions and disconnects, in the formats of both APIs."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx2
import openai
import pytest

from shared.streaming import sse
from tests.support.gateway_calls import CALLER, MESSAGES, call
from tests.support.processes import Json, Simulator
from tests.support.streams import read_unfinished
from tests.support.upstreams import CALLER_KEY, Gateway

PATHS = ["/api/chat", "/api/v1/chat/completions", "/api/v1/responses"]
BODY: Json = {**MESSAGES, "input": "Hello"}
# More chunks than any test waits for.
ENDLESS = {"reply": "word " * 2_000, "pace": 0.1}


def body_for(path: str, *, stream: bool) -> Json:
    """Return a body with only the fields that the operation knows."""
    fields = {"input": "Hello"} if path.endswith("responses") else MESSAGES
    return {**fields, "stream": stream}


@contextmanager
def streamed(gateway: Gateway, path: str) -> Iterator[httpx2.Response]:
    with gateway.http.stream("POST", path, json=body_for(path, stream=True), headers=CALLER) as response:
        assert response.status_code == 200
        yield response


def sdk(gateway: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.app.url}/api/v1", api_key=CALLER_KEY, max_retries=0)


@pytest.mark.parametrize("chunks", [1, 3])
@pytest.mark.parametrize("path", PATHS)
def test_an_interrupted_stream_has_its_chunks_and_one_error_event(
    gateway: Gateway, model: Simulator, path: str, chunks: int
) -> None:
    model.script({"reply": "one and two and three and four", "cut": chunks})
    with streamed(gateway, path) as response:
        text = read_unfinished(response)
    *events, last = sse.EventParser().feed(text)
    for number, content in enumerate(("one and", " two and", " three and", " four")):
        assert (json.dumps(content).encode() in b"".join(events)) == (number < chunks)
    error = json.loads(last)["error"]
    assert (error["type"], error["code"]) == ("server_error", "stream_broken")
    assert text.count(b'"error":{') == 1
    assert b"[DONE]" not in text
    gateway.app.wait_for("error=stream_broken")
    assert "without completing" not in gateway.app.output


@pytest.mark.parametrize("path", PATHS)
def test_no_proxy_may_cache_transform_or_buffer_a_stream(gateway: Gateway, model: Simulator, path: str) -> None:
    with streamed(gateway, path) as response:
        assert response.headers["cache-control"] == "no-cache, no-transform"
        assert response.headers["x-accel-buffering"] == "no"


def test_the_sdk_gets_the_chunks_of_an_interrupted_stream_and_raises(gateway: Gateway, model: Simulator) -> None:
    model.script({"reply": "one and two and three", "cut": 2})
    with sdk(gateway) as client:
        chunks = client.chat.completions.create(model="chat", messages=[{"role": "user", "content": "a"}], stream=True)
        texts = (chunk.choices[0].delta.content for chunk in chunks if chunk.choices)
        assert [next(texts) for _ in range(3)] == ["", "one and", " two and"]
        with pytest.raises(openai.APIError, match="interrupted"):
            next(texts)


@pytest.mark.parametrize("path", PATHS)
def test_a_stream_that_falls_silent_ends_with_an_error_event(gateway: Gateway, model: Simulator, path: str) -> None:
    gateway.configure(model.url, STREAM_IDLE_SECONDS="0.5")
    model.script({"reply": "one and two", "step": True})
    model.permit()
    with streamed(gateway, path) as response:
        *events, last = sse.EventParser().feed(read_unfinished(response))
    assert b'"one and"' in b"".join(events)
    error = json.loads(last)["error"]
    assert error["code"] == "stream_broken"
    assert "The model sent nothing for 0.5 seconds" in error["message"]
    assert model.journal(ended=1)[0].disconnected


def test_the_sdk_ignores_empty_lines(gateway: Gateway, model: Simulator) -> None:
    gateway.configure(model.url, KEEP_ALIVE_INTERVAL=0.2)
    script = {"reply": "one and two", "pace": 0.7}
    model.script(script, script)
    with streamed(gateway, "/api/v1/chat/completions") as response:
        text = response.read()
    # Three or more in a row.
    assert b"\n" * 4 in text
    assert text.endswith(b"data: [DONE]\n\n")
    with sdk(gateway) as client:
        stream = client.chat.completions.create(model="chat", messages=[{"role": "user", "content": "a"}], stream=True)
        assert [chunk.choices[0].delta.content for chunk in stream if chunk.choices] == ["", "one and", " two", None]


def test_no_empty_line_interrupts_an_event(gateway: Gateway, model: Simulator) -> None:
    gateway.configure(model.url, KEEP_ALIVE_INTERVAL=0.1)
    raw = 'data: {"choices":[]}\n\nevent: a\ndata: {"choices":[],"x":1}\r\n\r\ndata: [DONE]\n\n'
    model.script({"raw": raw, "split": 6, "pace": 0.25, "headers": {"content-type": "text/event-stream"}})
    with streamed(gateway, "/api/v1/chat/completions") as response:
        text = response.read()
    assert re.fullmatch(rb"\n*".join(map(re.escape, (b"", *sse.split(raw.encode()), b""))), text)
    assert len(text) > len(raw) + 4
    assert [bytes(data) for data in sse.EventParser().feed(text)] == [b'{"choices":[]}', b'{"choices":[],"x":1}', b"[DONE]"]


@pytest.mark.parametrize("path", PATHS)
def test_a_stream_that_takes_too_long_ends_with_an_error_event(gateway: Gateway, model: Simulator, path: str) -> None:
    gateway.configure(model.url, STREAM_SECONDS="1")
    model.script(ENDLESS)
    with streamed(gateway, path) as response:
        text = read_unfinished(response)
    *events, last = sse.data_of(text)
    assert b"word" in b"".join(events)
    assert json.loads(last)["error"]["code"] == "stream_too_long"
    assert model.journal(ended=1)[0].disconnected
    gateway.app.wait_for("status=200 error=stream_too_long cause=StreamTooLong")


@pytest.mark.parametrize("path", PATHS)
def test_the_time_includes_the_wait_for_the_model(gateway: Gateway, model: Simulator, path: str) -> None:
    gateway.configure(model.url, STREAM_SECONDS="0.5")
    model.script({"delay": 1, **ENDLESS})
    response = gateway.http.post(path, json=body_for(path, stream=True), headers=CALLER)
    assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")
    model.script({"delay": 0.3, **ENDLESS})
    with streamed(gateway, path) as response:
        assert read_unfinished(response).count(b"stream_too_long")
    assert model.journal(ended=2)[1].chunks < 6


def test_the_apps_error_event_has_the_format_of_the_responses_api(gateway: Gateway, model: Simulator) -> None:
    model.script({"reply": "one and two and three", "cut": 2})
    with streamed(gateway, "/api/v1/responses") as response:
        text = read_unfinished(response)
    *events, last = sse.data_of(text)
    error = json.loads(last)
    assert b"\nevent: error\ndata: " + last in text
    assert error.pop("sequence_number") == json.loads(events[-1])["sequence_number"] + 1
    detail = error.pop("error")
    assert error == {"type": "error", "code": "stream_broken", "message": detail["message"], "param": None}
    assert detail["code"] == "stream_broken"


DELTA = b'data: {"choices":[{"delta":{"content":"one"}}]}\n\n'
AZURES_ERROR = b'data: {"error":{"code":"rate_limit_exceeded","message":"Slow down"}}\n\n'
SSE = {"content-type": "text/event-stream"}


@pytest.mark.parametrize("rest", [b"", DELTA + b"data: [DONE]\n\n"])
def test_azures_own_error_in_a_chat_is_the_last_event(gateway: Gateway, model: Simulator, rest: bytes) -> None:
    model.script({"raw": (DELTA + AZURES_ERROR + rest).decode(), "headers": SSE})
    with streamed(gateway, "/api/v1/chat/completions") as response:
        assert read_unfinished(response) == DELTA + AZURES_ERROR
    gateway.app.wait_for("status=200 error=upstream_error cause=rate_limit_exceeded")
    assert gateway.wait_for_state(lambda state: not state["calls_in_flight"])["calls_in_flight"] == 0


class TestResponsesErrors:
    """Test errors that the Responses API reports in its stream, after output."""

    DELTA = 'data: {"type":"response.output_text.delta","sequence_number":3,"delta":"one"}\n\n'
    FAILED = 'data: {"type":"response.failed","sequence_number":4,"response":{"status":"failed","error":null}}\n\n'
    INCOMPLETE = 'data: {"type":"response.incomplete","sequence_number":4,"response":{"status":"incomplete"}}\n\n'
    ERROR = 'event: error\ndata: {"type":"error","sequence_number":5,"code":"server_error","message":"m","param":null}\n\n'

    @pytest.mark.parametrize("end", [FAILED, INCOMPLETE, FAILED + ERROR, ERROR + FAILED])
    def test_a_stream_with_its_final_event_ends_in_order(self, gateway: Gateway, model: Simulator, end: str) -> None:
        model.script({"raw": self.DELTA + end, "headers": SSE})
        with streamed(gateway, "/api/v1/responses") as response:
            assert response.read().decode() == self.DELTA + end
        if self.ERROR in end:
            gateway.app.wait_for("status=200 error=upstream_error cause=server_error")

    def test_an_error_without_a_final_event_leaves_the_stream_unfinished(self, gateway: Gateway, model: Simulator) -> None:
        model.script({"raw": self.DELTA + self.ERROR, "headers": SSE})
        with streamed(gateway, "/api/v1/responses") as response:
            assert read_unfinished(response).decode() == self.DELTA + self.ERROR
        gateway.app.wait_for("status=200 error=upstream_error cause=server_error")


class TestSlowClients:
    """Test that a client that reads slowly holds nothing for longer than the app allows."""

    @pytest.mark.parametrize("path", PATHS)
    def test_a_large_response_is_cut_off(self, gateway: Gateway, model: Simulator, path: str) -> None:
        gateway.configure(model.url, STREAM_SECONDS="1")
        # This call leaves a connection to Azure, which stays open for later ones.
        call(gateway).raise_for_status()
        before = gateway.state()
        message = '{"message":{"content":"' + "a" * 20_000_000 + '"}}'
        model.script({"raw": f'{{"choices":[{message}],"usage":{{"prompt_tokens":3}}}}'})
        body = json.dumps(body_for(path, stream=False)).encode()
        with gateway.app.send_raw("POST", path, body, api_key=CALLER_KEY) as client:
            gateway.app.wait_for("stream=false status=200 error=stream_too_long")
            assert gateway.wait_for_state(lambda state: not state["calls_in_flight"])["calls_in_flight"] == 0
            content = self.read_to_the_end(client)
        head, _, body = content.partition(b"\r\n\r\n")
        length = int(re.findall(rb"content-length: (\d+)", head.lower())[0])
        assert 20_000_000 <= length < 20_000_200
        assert 0 < len(body) < length
        after = gateway.wait_for_state(lambda state: state["sockets"] <= before["sockets"])
        assert after["sockets"] <= before["sockets"]
        assert "Traceback" not in gateway.app.output

    @pytest.mark.parametrize("path", PATHS)
    def test_a_stream_is_cut_off(self, gateway: Gateway, model: Simulator, path: str) -> None:
        gateway.configure(model.url, STREAM_SECONDS="1")
        before = gateway.state()
        delta: Json = {"type": "response.output_text.delta", "delta": "a" * 10_000}
        if not path.endswith("responses"):
            delta = {"choices": [{"delta": {"content": "a" * 10_000}}]}
        model.script({"raw": f"data: {json.dumps(delta)}\n\n" * 3_000, "split": 1_000_000, "headers": SSE})
        body = json.dumps(body_for(path, stream=True)).encode()
        with gateway.app.send_raw("POST", path, body, api_key=CALLER_KEY) as client:
            gateway.app.wait_for("status=200 error=stream_too_long cause=ClientStalled")
            assert model.journal(ended=1)[0].disconnected
            assert gateway.wait_for_state(lambda state: not state["calls_in_flight"])["connections"] == 0
            assert b"0\r\n\r\n" not in self.read_to_the_end(client)[-10:]
        after = gateway.wait_for_state(lambda state: state["sockets"] <= before["sockets"])
        assert after["sockets"] <= before["sockets"]
        assert "Traceback" not in gateway.app.output

    def read_to_the_end(self, client: socket.socket) -> bytes:
        content = bytearray()
        with suppress(ConnectionResetError):
            while chunk := client.recv(1 << 20):
                content += chunk
        return bytes(content)


class TestDisconnects:
    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize("path", PATHS)
    def test_a_disconnect_before_the_headers_ends_the_call_to_azure(
        self, gateway: Gateway, model: Simulator, path: str, stream: bool
    ) -> None:
        model.script({"hang": True})
        body = json.dumps(body_for(path, stream=stream)).encode()
        with gateway.app.send_raw("POST", path, body, api_key=CALLER_KEY):
            model.journal(requests=1)
        assert model.journal(ended=1)[0].disconnected

    @pytest.mark.parametrize("path", PATHS)
    def test_a_disconnect_during_a_stream_ends_the_call_to_azure(
        self, gateway: Gateway, model: Simulator, path: str
    ) -> None:
        model.script(ENDLESS)
        with streamed(gateway, path) as response:
            next(response.iter_bytes())
        (request,) = model.journal(ended=1)
        assert request.disconnected
        assert request.chunks < 1000

    def test_a_disconnect_while_a_body_arrives_ends_the_call_to_azure(self, gateway: Gateway, model: Simulator) -> None:
        model.script({"raw": "{" + " " * 100_000, "split": 1, "pace": 0.1})
        body = json.dumps(MESSAGES).encode()
        with gateway.app.send_raw("POST", "/api/v1/chat/completions", body, api_key=CALLER_KEY):
            model.journal(requests=1)
            assert gateway.wait_for_state(lambda state: bool(state["connections"]))["connections"] == 1
        assert model.journal(ended=1)[0].disconnected

    def test_a_client_that_stops_reading_counts_as_disconnected(self, gateway: Gateway, model: Simulator) -> None:
        gateway.configure(model.url, STREAM_IDLE_SECONDS="1")
        headers = {"content-type": "text/event-stream"}
        model.script({"raw": "data: {}\n\n" * 6_000_000, "split": 1_000_000, "headers": headers})
        body = json.dumps(body_for("/api/v1/chat/completions", stream=True)).encode()
        with gateway.app.send_raw("POST", "/api/v1/chat/completions", body, api_key=CALLER_KEY):
            assert model.journal(ended=1)[0].disconnected
            assert gateway.wait_for_state(lambda state: not state["calls_in_flight"])["calls_in_flight"] == 0
            gateway.app.wait_for("error=caller_gone cause=ClientStalled")
        assert "Traceback" not in gateway.app.output

    @pytest.mark.deep
    def test_200_disconnects_leak_nothing(self, gateway: Gateway, model: Simulator) -> None:
        connections: list[socket.socket] = []

        def call(path: str, stream: bool) -> None:
            body = json.dumps(body_for(path, stream=stream)).encode()
            connections.append(gateway.app.send_raw("POST", path, body, api_key=CALLER_KEY))

        gateway.http.post("/api/chat", json={"prompt": "Hello"}).raise_for_status()
        before = gateway.state()
        model.clear()
        for path in PATHS[:2]:
            for stream, script in ((True, {"step": True}), (False, {"hang": True})):
                earlier = len(model.journal())
                model.script({**script, "times": 50})
                for _ in range(50):
                    call(path, stream)
                model.journal(requests=earlier + 50)
        assert gateway.state()["calls_in_flight"] == 200
        for connection in connections:
            connection.close()
        assert all(request.disconnected for request in model.journal(ended=200))
        after = gateway.wait_for_state(lambda state: not state["calls_in_flight"] and state["tasks"] <= before["tasks"])
        assert (after["calls_in_flight"], after["connections"]) == (0, 0)
        assert after["tasks"] <= before["tasks"]
        assert after["sockets"] <= before["sockets"]
        assert after["cooldowns"] == [0]
