"""Test how the app handles endpoints that violate HTTP or Azure's API, on real sockets."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from shared.errors import UpstreamAuthError
from shared.streaming import sse
from shared.upstream.response_body import ResponseBody
from shared.upstream.token_provider import TokenProvider, default_credential
from shared.upstream.transport import HttpClient
from tests.support.contract import error_in_event
from tests.support.processes import LocalApp, local_app
from tests.support.streams import read_unfinished, rest_of_unfinished
from tests.support.upstreams import Upstreams

ERROR = b'{"error":{"code":"429","message":"slow down"}}'
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
CHUNK = b'data: {"choices":[{"delta":{"content":"chunk"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class RawUpstream:
    """Respond to each request with the bytes of `response`, then close the connection or wait for the next one."""

    def __init__(self) -> None:
        self.response = b""
        self.later = b""
        """Sent after the response, in a separate packet."""
        self.closes = True
        self.requests: list[bytes] = []
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
                self.requests.append(head)
                writer.write(self.response)
                await writer.drain()
                if self.later:
                    await asyncio.sleep(0.1)
                    writer.write(self.later)
                if self.closes:
                    break
        writer.close()


@pytest.fixture(scope="module")
def raw(upstreams: Upstreams) -> RawUpstream:
    upstream = RawUpstream()
    upstream.port = upstreams.serve(upstream.handle)
    return upstream


@pytest.fixture(scope="module")
def raw_app(raw: RawUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalApp]:
    settings = {
        # By name, because cookie jars ignore IP addresses.
        "AZURE_OPENAI_ENDPOINT": f"http://localhost:{raw.port}",
        "AZURE_OPENAI_KEY": "some-key",
        "AZURE_OPENAI_API_VERSION": "2024-10-21",
        "AZURE_OPENAI_CHATGPT_DEPLOYMENT": "chat",
        "MAX_CONCURRENT_CALLS": "2",
        "STREAM_IDLE_SECONDS": "2",
        "REQUEST_TIMEOUT_SECONDS": "20",
    }
    with local_app(tmp_path_factory.mktemp("app"), **settings) as app:
        yield app
        assert "Traceback" not in app.output
        assert "Unexpected" not in app.output
        assert "some-key" not in app.output


@pytest.fixture(autouse=True)
def reset(raw: RawUpstream) -> None:
    raw.response, raw.later, raw.closes = b"", b"", True
    raw.requests.clear()


def test_azures_cookies_reach_neither_the_client_nor_later_calls(raw: RawUpstream, raw_app: LocalApp) -> None:
    raw.response = b"HTTP/1.1 400 Bad\r\nset-cookie: sess=abc; Path=/\r\ncontent-length: 2\r\n\r\n{}"
    raw.closes = False
    for _ in range(2):
        response = raw_app.chat({"prompt": "Hello"})
        assert response.status_code == 400
        assert "set-cookie" not in response.headers
    assert len(raw.requests) == 2
    assert not any(b"cookie" in head.lower() for head in raw.requests)


BROKEN = {
    "no bytes": b"",
    "not HTTP": b"220 mail.example.com ESMTP\r\n\r\n",
    "an invalid length": b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n{}",
    "a huge header": b"HTTP/1.1 200 OK\r\nx-huge: " + b"a" * 100_000 + b"\r\n\r\n",
    "a control character in a header": b"HTTP/1.1 200 OK\r\nx-bad: a\x00b\r\ncontent-length: 2\r\n\r\n{}",
    "half a response": b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{",
    "half an error response": b"HTTP/1.1 429 Slow\r\ncontent-length: 100\r\n\r\n{",
    "an error response in invalid gzip": b"HTTP/1.1 400 Bad\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc",
    "an unknown status": b"HTTP/1.1 999 What\r\ncontent-length: 2\r\n\r\n{}",
    "a redirect": b"HTTP/1.1 307 Elsewhere\r\nlocation: http://localhost:9/\r\ncontent-length: 0\r\n\r\n",
}


def chat_text(app: LocalApp, stream: bool) -> tuple[int, str]:
    """Return the status and the text of a chat. Fail if it is a stream that ends in order."""
    with app.http.stream("POST", "/api/chat", json={"prompt": "Hello", "stream": stream}) as response:
        is_unfinished = response.headers["content-type"].startswith("text/event-stream")
        content = read_unfinished(response) if is_unfinished else response.read()
        return response.status_code, content.decode()


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_response_is_an_error_and_frees_its_slot(
    raw: RawUpstream, raw_app: LocalApp, name: str, stream: bool
) -> None:
    raw.response = BROKEN[name]
    for _ in range(3):
        status, text = chat_text(raw_app, stream)
        if status == 200:
            assert '"code":"stream_broken"' in text
            assert "[DONE]" not in text
        else:
            assert status == 502
            assert json.loads(text)["error"]["code"] in ("upstream_unreachable", "upstream_error")
        assert "localhost" not in text


@pytest.mark.parametrize(
    "response",
    [
        b"reply-that-nobody-may-read\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nreply-that-nobody-may-read\r\n\r\n",
        b"HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\nreply-that-nobody-may-read\r\n",
    ],
)
def test_the_log_does_not_quote_invalid_http(raw: RawUpstream, raw_app: LocalApp, response: bytes) -> None:
    raw.response = response
    assert raw_app.chat({"prompt": "Hello"}).status_code == 502
    raw_app.wait_for("No response from endpoint 1 to (chat): ")
    assert "reply-that-nobody-may-read" not in raw_app.output


@pytest.mark.parametrize("stream", [True, False])
def test_malformed_chunked_encoding_ends_the_response_at_once(raw: RawUpstream, raw_app: LocalApp, stream: bool) -> None:
    raw.response, raw.later, raw.closes = STREAM + b"\r\n" + chunked(CHUNK), b"zz\r\n", False
    _, text = chat_text(raw_app, stream)
    assert ("stream_broken" if stream else "upstream_unreachable") in text
    # The invalid bytes end it, not the time-out of an idle stream.
    raw_app.wait_for("error=stream_broken cause=ClientPayloadError" if stream else "status=502 error=upstream_unreachable")


@pytest.mark.anyio
@pytest.mark.parametrize("ending", [b"", b"zz\r\n"])
async def test_a_slow_reader_gets_the_data_from_before_an_interruption(raw: RawUpstream, ending: bytes) -> None:
    raw.response, raw.later = STREAM + b"\r\n" + chunked(CHUNK), ending
    async with contextlib.aclosing(HttpClient(1)) as client:
        request = client.build_request("POST", f"http://localhost:{raw.port}/", content=b"{}")
        response = await client.send(request, stream=True)
        body = response.stream
        assert isinstance(body, ResponseBody)
        assert body.closed
        await asyncio.wait({body.closed})
        assert await body.read() == CHUNK
        for _ in range(2):
            with pytest.raises(aiohttp.ClientError):
                await body.read()
        await response.aclose()


def test_a_proxy_gets_the_call_without_credentials_from_netrc(raw: RawUpstream, folder: Path) -> None:
    raw.response = b"HTTP/1.1 400 Bad\r\ncontent-length: 2\r\n\r\n{}"
    netrc = folder.parent / "netrc"
    netrc.write_text("default login somebody password secret\n")
    settings = {
        "AZURE_OPENAI_ENDPOINT": "http://localhost:9",
        "AZURE_OPENAI_KEY": "some-key",
        "AZURE_OPENAI_API_VERSION": "v1",
        "AZURE_OPENAI_CHATGPT_DEPLOYMENT": "chat",
        "http_proxy": f"http://127.0.0.1:{raw.port}",
        "NETRC": str(netrc),
    }
    with local_app(folder, **settings) as app:
        assert app.chat({"prompt": "Hello"}).status_code == 400
    (head,) = raw.requests
    assert head.startswith(b"POST http://localhost:9/openai/v1/chat/completions HTTP/1.1\r\n")
    assert b"Bearer some-key" in head
    assert b"Basic" not in head


@pytest.mark.parametrize("status", [200, 429])
@pytest.mark.parametrize("stream", [True, False])
def test_a_response_header_that_cannot_be_forwarded_is_dropped(
    raw: RawUpstream, raw_app: LocalApp, status: int, stream: bool
) -> None:
    body = ERROR if status == 429 else CHUNK + DONE if stream else b'{"choices":[{"message":{"content":"chunk"}}]}'
    head = f"HTTP/1.1 {status} X\r\nx-ms-region: €\r\nx-request-id: kept\r\ncontent-length: {len(body)}\r\n\r\n"
    raw.response = head.encode() + body
    raw.closes = False
    for _ in range(3):
        response = raw_app.chat({"prompt": "Hello", "stream": stream})
        assert response.status_code == status
        assert response.headers["x-request-id"] == "kept"
        assert "x-ms-region" not in response.headers


@pytest.mark.parametrize("extra", [b"", CHUNK, b"data: garbage\n\n", CHUNK.removesuffix(b"\n")])
@pytest.mark.parametrize("closes", [True, False])
def test_nothing_follows_done(raw: RawUpstream, raw_app: LocalApp, extra: bytes, closes: bool) -> None:
    raw.response = STREAM + b"\r\n" + chunked(CHUNK + DONE) + (chunked(extra) if extra else b"")
    raw.closes = closes
    with raw_app.stream_chat() as events:
        assert next(events) == '{"delta":"chunk"}'
        assert next(events) == '{"finish_reason":null,"usage":null}'
        assert list(events) == ["[DONE]"]


@pytest.mark.parametrize("path", ["/api/chat", "/api/v1/chat/completions"])
def test_a_stream_truncated_within_an_event_ends_with_an_error(raw: RawUpstream, raw_app: LocalApp, path: str) -> None:
    raw.response = STREAM + b"\r\n" + chunked(CHUNK + b'data: {"choi') + b"0\r\n\r\n"
    body = {"messages": [{"role": "user", "content": "Hi"}], "stream": True}
    with raw_app.http.stream("POST", path, json=body) as response:
        *_, last = sse.data_of(read_unfinished(response))
    assert json.loads(last)["error"]["code"] == "stream_broken"
    raw_app.wait_for("error=stream_broken cause=StreamInterrupted")


@pytest.mark.parametrize(
    ("event", "code", "outcome"),
    [
        (b'{"error":{"message":"Azure\'s own"}}', "upstream_error", "upstream_error "),
        (
            b'{"error":{"message":"Azure\'s own","code":"server_error"}}',
            "server_error",
            "upstream_error cause=server_error ",
        ),
        (b"garbage", "stream_broken", "stream_broken cause=StreamInterrupted "),
    ],
)
def test_an_event_without_a_chunk_ends_a_chat_with_an_error(
    raw: RawUpstream, raw_app: LocalApp, event: bytes, code: str, outcome: str
) -> None:
    raw.response = STREAM + b"\r\n" + chunked(CHUNK + b"data: " + event + b"\n\n" + CHUNK + DONE) + b"0\r\n\r\n"
    with raw_app.stream_chat() as events:
        assert next(events) == '{"delta":"chunk"}'
        (last,) = rest_of_unfinished(events)
    assert json.loads(last)["error"]["code"] == code
    assert "own" not in last
    raw_app.wait_for(f" error={outcome}")


@pytest.mark.parametrize("end", [b"0\r\n\r\n", b""])
def test_a_message_that_helps_the_caller_is_passed_on(raw: RawUpstream, raw_app: LocalApp, end: bytes) -> None:
    error = b'data: {"error":{"message":"Slow down","code":"rate_limit_exceeded"}}\n\n'
    raw.response = STREAM + b"\r\n" + chunked(CHUNK + error) + end
    with raw_app.stream_chat() as events:
        assert next(events) == '{"delta":"chunk"}'
        (last,) = rest_of_unfinished(events)
    assert error_in_event(last)["message"] == "Slow down"


def test_characters_and_contents_of_any_form_reach_a_chat(raw: RawUpstream, raw_app: LocalApp) -> None:
    chunks = (
        b'{"choices":null,"id":null,"model":null}',
        b'{"choices":[{"delta":{"content":"a\\ud83d"}}]}',
        b'{"choices":[{"delta":{"content":"\\ude00b"}}]}',
        b'{"choices":[{"delta":{"content":[{"type":"text","text":"c"}]}}]}',
    )
    events = b"".join(b"data: " + chunk + b"\n\n" for chunk in chunks)
    raw.response = STREAM + b"\r\n" + chunked(events + DONE) + b"0\r\n\r\n"
    with raw_app.stream_chat() as deltas:
        *texts, _, _ = deltas
    assert "".join(json.loads(text)["delta"] for text in texts) == "a😀bc"


def test_a_whole_reply_with_half_a_character_reaches_a_chat(raw: RawUpstream, raw_app: LocalApp) -> None:
    body = b'{"id":null,"choices":[{"message":{"content":[{"type":"text","text":"a\\ud83d"}]}}],"usage":{"prompt_tokens":3}}'
    raw.response = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    assert raw_app.chat({"prompt": "Hello"}).json()["reply"] == "a�"
    raw_app.wait_for(" input_tokens=3 ")


def test_an_interruption_after_done_is_ignored(raw: RawUpstream, raw_app: LocalApp) -> None:
    raw.response = STREAM + b"\r\n" + chunked(CHUNK + DONE)
    body = {"messages": [{"role": "user", "content": "Hi"}], "stream": True}
    assert raw_app.http.post("/api/v1/chat/completions", json=body).content == CHUNK + DONE
    raw_app.wait_for("Call caller=(anybody) operation=chat/completions deployment=chat stream=true status=200 duration_ms=")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("status", [204, 226])
def test_a_success_status_without_a_completion_is_an_error(
    raw: RawUpstream, raw_app: LocalApp, status: int, stream: bool
) -> None:
    raw.response = b"HTTP/1.1 %d X\r\ncontent-type: text/event-stream\r\n\r\n" % status
    code, text = chat_text(raw_app, stream)
    assert code == 502 or stream
    assert "stream_broken" in text if code == 200 else "upstream_" in text


def test_an_event_of_8_megabytes_is_forwarded(raw: RawUpstream, raw_app: LocalApp) -> None:
    long = b"a" * 8_000_000
    raw.response = STREAM + b"\r\n" + chunked(CHUNK.replace(b"chunk", long) + DONE) + b"0\r\n\r\n"
    with raw_app.stream_chat() as events:
        assert len(next(events)) == len(long) + len('{"delta":""}')


@pytest.mark.anyio
async def test_a_token_in_a_truncated_response_of_the_identity_endpoint_is_not_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "eyJhbGciOiJIUzI1NiJ9.c2VjcmV0LXRva2Vu.c2lnbmF0dXJl"
    body = f'{{"access_token":"{secret}","expires_on":"16'

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write((head + body).encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", "header")
        with pytest.raises(UpstreamAuthError):
            await TokenProvider(default_credential(None), "https://cognitiveservices.azure.com/.default")()
    logged = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("shared"))
    assert "No token for the app's identity" in logged
    assert secret not in logged
