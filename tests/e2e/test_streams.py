"""Test streams from end to end, through silences, interruptions and disconnects, in the formats of both APIs."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import openai
import pytest

from shared.streaming import sse
from tests.support.gateway_calls import CALLER, MESSAGES
from tests.support.processes import Json, Simulator
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


@pytest.mark.parametrize("chunks", [0, 1, 3])
@pytest.mark.parametrize("path", PATHS)
def test_an_interrupted_stream_has_its_chunks_and_one_error_event(
    gateway: Gateway, model: Simulator, path: str, chunks: int
) -> None:
    model.script({"reply": "one and two and three and four", "cut": chunks})
    with streamed(gateway, path) as response:
        text = response.read()
    *events, last = sse.EventParser().feed(text)
    for number, content in enumerate(("one and", " two and", " three and", " four")):
        assert (json.dumps(content).encode() in b"".join(events)) == (number < chunks)
    error = json.loads(last)["error"]
    assert (error["type"], error["code"]) == ("server_error", "stream_broken")
    assert text.count(b'"error":{') == 1
    assert b"[DONE]" not in text


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
        *events, last = sse.EventParser().feed(response.read())
    assert b'"one and"' in b"".join(events)
    assert json.loads(last)["error"]["code"] == "stream_broken"
    assert model.journal(ended=1)[0].disconnected


def test_the_sdk_ignores_keep_alive_comments(gateway: Gateway, model: Simulator) -> None:
    gateway.configure(model.url, KEEP_ALIVE_INTERVAL=0.2)
    script = {"reply": "one and two", "pace": 0.7}
    model.script(script, script)
    with streamed(gateway, "/api/v1/chat/completions") as response:
        text = response.read()
    assert text.count(sse.KEEP_ALIVE) >= 4
    assert text.endswith(b"data: [DONE]\n\n")
    with sdk(gateway) as client:
        stream = client.chat.completions.create(model="chat", messages=[{"role": "user", "content": "a"}], stream=True)
        assert [chunk.choices[0].delta.content for chunk in stream if chunk.choices] == ["", "one and", " two", None]


def test_no_comment_interrupts_an_event(gateway: Gateway, model: Simulator) -> None:
    gateway.configure(model.url, KEEP_ALIVE_INTERVAL=0.1)
    raw = 'data: {"choices":[]}\n\ndata: {"choices":[],"x":1}\r\n\r\ndata: [DONE]\n\n'
    model.script({"raw": raw, "split": 6, "pace": 0.25, "headers": {"content-type": "text/event-stream"}})
    with streamed(gateway, "/api/v1/chat/completions") as response:
        text = response.read()
    assert text.count(sse.KEEP_ALIVE) >= 5
    assert text.replace(sse.KEEP_ALIVE, b"") == raw.encode()
    assert [bytes(data) for data in sse.EventParser().feed(text)] == [b'{"choices":[]}', b'{"choices":[],"x":1}', b"[DONE]"]


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
