"""Test that speech arrives as it is made and whole or visibly not, and that images and transcriptions stream as chats do."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI

from shared.streaming import sse
from tests.support.forms import CONTENT_TYPE, field, file, form
from tests.support.gateway_calls import CALLER
from tests.support.operation_calls import MODEL, SETTINGS, SPEECH, audio, image
from tests.support.processes import Simulator
from tests.support.sdk import SDK
from tests.support.streams import read_unfinished
from tests.support.upstreams import KEY, Gateway

PATH = "/api/v1/audio/speech"
# The text of a chunk, and that of four.
FOUR = "one two three four five six seven eight"
FORMATS = ("mp3", "opus", "aac", "flac", "wav", "pcm")


@pytest.fixture
def sdk(gateway: Gateway, model: Simulator, version: str) -> Iterator[SDK]:
    gateway.configure(model.url, AZURE_OPENAI_API_VERSION=version, **SETTINGS)
    sdk = SDK(gateway.app, OpenAI)
    yield sdk
    sdk.close()


@pytest.fixture
def dated(gateway: Gateway, model: Simulator) -> Gateway:
    gateway.configure(model.url, **SETTINGS)
    return gateway


def spoken(model: Simulator, **options: Any) -> bytes:
    """Return the simulator's own speech, without the app."""
    path, headers = "/openai/v1/audio/speech", {"authorization": f"Bearer {KEY}"}
    content = model.http.post(path, json={**SPEECH, "model": "chat", "input": FOUR, **options}, headers=headers).content
    model.clear()
    return bytes(content)


@contextmanager
def streamed(gateway: Gateway, **options: Any) -> Iterator[httpx2.Response]:
    with gateway.http.stream("POST", PATH, json={**SPEECH, "input": FOUR, **options}, headers=CALLER) as response:
        assert response.status_code == 200
        yield response


def test_each_chunk_of_speech_arrives_before_the_next_is_made(sdk: SDK, model: Simulator) -> None:
    whole = spoken(model)
    model.script({"step": True})
    received = b""
    with sdk.client.audio.speech.with_streaming_response.create(**{**SPEECH, "input": FOUR}) as response:
        chunks = response.iter_bytes()
        for number in range(1, 5):
            # The simulator waits for this, so each chunk arrives before the next one is made.
            model.permit()
            while len(received) < len(whole) * number // 4:
                received += next(chunks)
            assert model.journal()[0].chunks == number
        assert next(chunks, None) is None
    assert received == whole


def test_the_first_bytes_of_speech_do_not_wait_for_the_last(sdk: SDK, model: Simulator) -> None:
    model.script({"pace": 0.3})
    started = time.monotonic()
    with sdk.client.audio.speech.with_streaming_response.create(**{**SPEECH, "input": FOUR}) as response:
        chunks = response.iter_bytes()
        next(chunks)
        first = time.monotonic() - started
        assert model.journal()[0].ended is None
        assert b"".join(chunks)
    print(f"The first bytes arrived after {first:.2f} s, the last after {time.monotonic() - started:.2f} s")


@pytest.mark.parametrize("audio_format", FORMATS)
def test_silence_adds_nothing_to_speech(gateway: Gateway, model: Simulator, audio_format: str) -> None:
    whole = spoken(model, response_format=audio_format)
    gateway.configure(model.url, KEEP_ALIVE_INTERVAL=0.05, **SETTINGS)
    model.script({"pace": 0.15})
    with streamed(gateway, response_format=audio_format) as response:
        assert response.headers["content-type"].startswith("audio/")
        assert response.headers["cache-control"] == "no-cache, no-transform"
        assert response.read() == whole


@pytest.mark.parametrize("cut", [1, 3])
def test_speech_that_breaks_looks_broken_to_the_client(gateway: Gateway, sdk: SDK, model: Simulator, cut: int) -> None:
    whole = spoken(model)
    model.script({"cut": cut})
    create = sdk.client.audio.speech.with_streaming_response.create
    with create(**{**SPEECH, "input": FOUR}) as response, pytest.raises((openai.APIError, httpx2.TransportError)):
        response.read()
    model.script({"cut": cut})
    with pytest.raises(openai.APIConnectionError):
        sdk.client.audio.speech.create(**{**SPEECH, "input": FOUR})
    model.script({"cut": cut})
    # Only Azure's bytes: an error event would be noise.
    with streamed(gateway) as raw:
        assert read_unfinished(raw) == whole[: len(whole) * cut // 4]


def test_speech_that_stalls_is_cut_off(gateway: Gateway, model: Simulator) -> None:
    whole = spoken(model)
    gateway.configure(model.url, STREAM_IDLE_SECONDS="0.5", KEEP_ALIVE_INTERVAL=0.1, **SETTINGS)
    model.script({"step": True})
    model.permit()
    with streamed(gateway) as response:
        assert read_unfinished(response) == whole[: len(whole) // 4]
    assert model.journal(ended=1)[0].disconnected
    gateway.app.wait_for("error=stream_broken cause=TimeoutError")


def test_speech_that_takes_too_long_is_cut_off(gateway: Gateway, model: Simulator) -> None:
    whole = spoken(model)
    gateway.configure(model.url, STREAM_SECONDS="1", **SETTINGS)
    model.script({"pace": 0.7})
    with streamed(gateway) as response:
        received = read_unfinished(response)
    assert len(received) < len(whole)
    assert whole.startswith(received)
    assert model.journal(ended=1)[0].disconnected


def test_a_disconnect_during_speech_ends_the_call_to_azure(dated: Gateway, model: Simulator) -> None:
    model.script({"step": True})
    model.permit()
    with streamed(dated) as response:
        next(response.iter_raw())
    (seen,) = model.journal(ended=1)
    assert (seen.disconnected, seen.chunks) == (True, 1)


# Operations whose streams have events, with a request for each.
IMAGE = {"model": MODEL, "prompt": "A cat", "stream": True, "partial_images": 3}
STREAMS: dict[str, dict[str, Any]] = {
    "audio/speech": {"json": {**SPEECH, "input": FOUR, "stream_format": "sse"}, "headers": CALLER},
    "images/generations": {"json": IMAGE, "headers": CALLER},
    "images/edits": {
        "content": form(
            *(field(name, str(value).lower()) for name, value in IMAGE.items() if name != "model"),
            file("image", b"png", "image.png", "image/png"),
            field("model", MODEL),
        ),
        "headers": {**CALLER, "content-type": CONTENT_TYPE},
    },
    "audio/transcriptions": {
        "content": form(field("stream", "true"), field("model", MODEL), file()),
        "headers": {**CALLER, "content-type": CONTENT_TYPE},
    },
}


@pytest.mark.parametrize("path", STREAMS)
def test_streams_of_events_are_kept_alive(gateway: Gateway, model: Simulator, path: str) -> None:
    gateway.configure(model.url, KEEP_ALIVE_INTERVAL=0.05, **SETTINGS)
    model.script({"reply": FOUR, "pace": 0.2})
    with gateway.http.stream("POST", f"/api/v1/{path}", **STREAMS[path]) as response:
        text = response.read()
    assert b"\n" * 4 in text
    events = [json.loads(data) for data in sse.data_of(text)]
    assert len(events) in (4, 5)
    assert events[-1]["usage"]["total_tokens"]


@pytest.mark.parametrize("path", STREAMS)
def test_a_stream_of_events_that_breaks_ends_with_an_error_event(dated: Gateway, model: Simulator, path: str) -> None:
    model.script({"reply": FOUR, "cut": 2})
    with dated.http.stream("POST", f"/api/v1/{path}", **STREAMS[path]) as response:
        *events, last = [json.loads(data) for data in sse.data_of(read_unfinished(response))]
    assert len(events) == 2
    assert (last["error"]["type"], last["error"]["code"]) == ("server_error", "stream_broken")


def test_the_sdk_raises_where_a_stream_of_events_breaks(sdk: SDK, model: Simulator) -> None:
    images, transcriptions = sdk.client.images, sdk.client.audio.transcriptions
    calls: list[Callable[[], Any]] = [
        lambda: images.generate(model=MODEL, prompt="A cat", stream=True, partial_images=3),
        lambda: images.edit(model=MODEL, prompt="A cat", image=image(), stream=True, partial_images=3),
        lambda: transcriptions.create(model=MODEL, file=audio(), stream=True),
    ]
    for call in calls:
        model.script({"reply": FOUR, "cut": 2})
        with pytest.raises(openai.APIError, match="interrupted"):
            sdk.events(call())


@pytest.mark.parametrize("path", STREAMS)
def test_an_error_before_the_first_event_goes_to_the_next_endpoint(
    gateway: Gateway, models: list[Simulator], path: str
) -> None:
    gateway.configure(models[0].url, models[1].url, **SETTINGS)
    models[0].script({"error": {"code": "rate_limit_exceeded", "message": "Too many."}})
    response = gateway.http.post(f"/api/v1/{path}", **STREAMS[path])
    assert response.status_code == 200
    assert b"rate_limit" not in response.content
    assert [len(model.journal()) for model in models] == [1, 1, 0]


def test_an_error_in_place_of_speech_is_logged_as_one(dated: Gateway, model: Simulator) -> None:
    error = '{"error":{"code":"server_error","message":"No voice today."}}'
    model.script({"raw": error, "headers": {"content-type": "application/json"}})
    response = dated.http.post("/api/v1/audio/speech", json=SPEECH, headers=CALLER)
    assert (response.status_code, response.text) == (200, error)
    dated.app.wait_for(" operation=audio/speech deployment=other stream=false status=200 error=upstream_error ")


def test_speech_keeps_the_status_of_azure(dated: Gateway, model: Simulator) -> None:
    model.script({"raw": "some audio", "status": 206})
    assert dated.http.post("/api/v1/audio/speech", json=SPEECH, headers=CALLER).status_code == 206
