"""Test large uploads: what they cost in memory, their limits, and that no temporary files are left of them."""

import asyncio
import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from pathlib import Path
from threading import Event, Thread

import httpx2
import openai
import pytest

from tests.support.forms import CONTENT_TYPE, field, file, form
from tests.support.gateway_calls import CALLER
from tests.support.openai_routes import read_status
from tests.support.operation_calls import MODEL, SETTINGS, UPLOAD, audio, digest, files_in
from tests.support.processes import Simulator, eventually
from tests.support.sdk import SDK
from tests.support.upstreams import CALLER_KEY, Gateway, Upstreams

MB = 1 << 20
TRANSCRIPTIONS = "/api/v1/audio/transcriptions"


class Process:
    """Read what the app's process holds."""

    def __init__(self, gateway: Gateway) -> None:
        self.folder = Path(f"/proc/{gateway.app.process.pid}")

    def resident(self) -> int:
        """Return the bytes of its memory that are in use."""
        status = (self.folder / "status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    def temporary_files(self) -> list[str]:
        """Return the open files that have no name any more, as temporary files do."""
        found = []
        for path in (self.folder / "fd").iterdir():
            try:
                found.append(str(path.readlink()))
            except FileNotFoundError:
                # It was closed in the meantime.
                continue
        return [target for target in found if target.endswith("(deleted)")]


class Peak:
    """Sample the memory of `process` while the context lasts, and keep the growth above that at the start, in bytes."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.growth = 0

    def __enter__(self) -> "Peak":
        self.start = self.process.resident()
        self.ended = Event()
        self.sampler = Thread(target=self.sample)
        self.sampler.start()
        return self

    def sample(self) -> None:
        while not self.ended.wait(0.002):
            self.growth = max(self.growth, self.process.resident() - self.start)

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.sampler.join()


@pytest.fixture
def process(gateway: Gateway, model: Simulator) -> Process:
    """Return the app's process, whose app has one endpoint."""
    gateway.configure(model.url, **SETTINGS)
    return Process(gateway)


@pytest.mark.parametrize("number", [1, 4])
def test_an_upload_needs_less_memory_than_its_size(process: Process, sdk: SDK, model: Simulator, number: int) -> None:
    def upload(content: bytes) -> str:
        return str(sdk.client.audio.transcriptions.create(model=MODEL, file=audio(content=content)).text)

    # The first one imports modules.
    upload(b"small")
    with Peak(process) as peak, ThreadPoolExecutor(number) as threads:
        texts = list(threads.map(upload, [UPLOAD] * number))
    print(f"{number} x 24 MB: the process grew by {peak.growth / MB:.1f} MB")
    assert all(f"You sent {len(UPLOAD)} bytes" in text for text in texts)
    assert all(files_in(seen) == {"file": [digest(UPLOAD)]} for seen in model.journal()[1:])
    assert 0 < peak.growth < 1.5 * len(UPLOAD)
    assert eventually(process.temporary_files, lambda files: not files) == []


def transcribe(gateway: Gateway, body: bytes) -> httpx2.Response:
    return gateway.http.post(TRANSCRIPTIONS, content=body, headers={**CALLER, "content-type": CONTENT_TYPE})


def test_forms_and_json_have_limits_of_their_own(gateway: Gateway, process: Process, model: Simulator) -> None:
    body = form(field("model", MODEL), file(content=UPLOAD[: 5 * MB]))
    chat = json.dumps({"messages": [{"role": "user", "content": "x" * 100_000}]}).encode()
    for change, upload_status, chat_status in ((0, 200, 413), (-1, 413, 413)):
        limits = {"MAX_UPLOAD_BYTES": str(len(body) + change), "MAX_BODY_BYTES": "100000"}
        gateway.configure(model.url, **SETTINGS, **limits)
        response = transcribe(gateway, body)
        assert response.status_code == upload_status
        assert gateway.http.post("/api/v1/chat/completions", content=chat, headers=CALLER).status_code == chat_status
    error = response.json()["error"]
    assert (error["code"], str(len(body) - 1) in error["message"]) == ("request_too_large", True)
    gateway.configure(model.url, **SETTINGS, MAX_UPLOAD_BYTES="100000")
    assert gateway.http.post("/api/v1/chat/completions", content=chat, headers=CALLER).status_code == 200
    assert [bool(seen.parts) for seen in model.journal()] == [True, False]
    assert eventually(process.temporary_files, lambda files: not files) == []


def test_the_sdk_reads_the_error_of_an_upload_that_is_too_large(gateway: Gateway, sdk: SDK, model: Simulator) -> None:
    gateway.configure(model.url, **SETTINGS, MAX_UPLOAD_BYTES="1000000")
    with pytest.raises(openai.APIStatusError) as raised:
        sdk.client.audio.transcriptions.create(model=MODEL, file=audio(content=UPLOAD))
    assert (raised.value.status_code, raised.value.code) == (413, "request_too_large")
    assert model.journal() == []


def begin_upload(gateway: Gateway, process: Process) -> socket.socket:
    """Send the beginning of a form, and return the connection when the app has stored a part of it on disk."""
    body = form(field("model", MODEL), file(content=UPLOAD))
    headers = {"api_key": CALLER_KEY, "content_type": CONTENT_TYPE}
    connection = gateway.app.send_raw("POST", TRANSCRIPTIONS, body[: 5 * MB], length=len(body), **headers)
    assert eventually(process.temporary_files, bool)
    return connection


def test_no_temporary_file_is_left_of_an_upload_that_the_client_leaves(
    gateway: Gateway, process: Process, model: Simulator
) -> None:
    with begin_upload(gateway, process):
        pass
    gateway.app.wait_for("caller_gone")
    assert eventually(process.temporary_files, lambda files: not files) == []
    assert model.journal() == []


def test_no_temporary_file_is_left_of_an_upload_that_takes_too_long(
    gateway: Gateway, process: Process, model: Simulator
) -> None:
    gateway.configure(model.url, **SETTINGS, REQUEST_TIMEOUT_SECONDS="1")
    with begin_upload(gateway, process) as connection, HTTPResponse(connection) as response:
        response.begin()
        assert (response.status, json.load(response)["error"]["code"]) == (408, "request_timeout")
    assert eventually(process.temporary_files, lambda files: not files) == []
    assert model.journal() == []


@pytest.mark.parametrize("ending", ["success", "failure", "disconnect"])
def test_no_temporary_file_is_left_of_a_call(gateway: Gateway, process: Process, model: Simulator, ending: str) -> None:
    model.script({"hang": True, **({"status": 400} if ending == "failure" else {})})
    body = form(field("model", MODEL), file(content=UPLOAD))
    with gateway.app.send_raw("POST", TRANSCRIPTIONS, body, api_key=CALLER_KEY, content_type=CONTENT_TYPE) as connection:
        model.journal(requests=1)
        assert len(process.temporary_files()) == 1
        if ending != "disconnect":
            model.permit()
            assert read_status(connection) == (400 if ending == "failure" else 200)
    assert eventually(process.temporary_files, lambda files: not files) == []


def test_small_files_stay_in_memory(gateway: Gateway, process: Process, model: Simulator) -> None:
    # Files on disk would use up the file descriptors, which all calls share.
    model.script({"hang": True})
    body = form(field("model", MODEL), *(file(filename=f"{number}.mp3") for number in range(20)))
    with gateway.app.send_raw("POST", TRANSCRIPTIONS, body, api_key=CALLER_KEY, content_type=CONTENT_TYPE) as connection:
        model.journal(requests=1)
        assert process.temporary_files() == []
        model.permit()
        assert read_status(connection) == 200


async def stream_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Respond with the first event before the form has been read, and with the last when all of it has arrived."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(re.findall(rb"(?i)content-length: (\d+)", head)[0])
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
    writer.write(b'data: {"type":"transcript.text.delta","delta":"a"}\n\n')
    await writer.drain()
    size = 0
    while size < length and (chunk := await reader.read(1 << 16)):
        size += len(chunk)
    if size == length:
        writer.write(b'data: {"type":"transcript.text.done","text":"a"}\n\n')
    writer.close()


def test_a_stream_that_begins_during_the_upload_gets_the_whole_form(
    upstreams: Upstreams, gateway: Gateway, process: Process
) -> None:
    gateway.configure(f"http://127.0.0.1:{upstreams.serve(stream_early)}", **SETTINGS)
    response = transcribe(gateway, form(field("model", MODEL), field("stream", "true"), file(content=UPLOAD)))
    assert "transcript.text.done" in response.text
    assert eventually(process.temporary_files, lambda files: not files) == []
