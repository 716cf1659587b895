"""Test the audio of the simulator of Azure OpenAI with the SDK. local/simulator/audio.py names the sources."""

import asyncio
import base64
import hashlib
import io
import wave
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest

from local.simulator.audio import CONTENT_TYPES, timestamp
from tests.support.simulators import KEY, Simulators

pytestmark = pytest.mark.anyio

SPEECH = "/openai/v1/audio/speech"
TEXT = "one two three four five six"
FORMAT: Any = "wav"
ERROR = {"code": "rate_limit_exceeded", "message": "Slow down."}
FILE = ("talk.wav", b"audio")
REPLY = f"You sent 5 bytes as talk.wav. Their SHA-256 begins with {hashlib.sha256(b'audio').hexdigest()[:16]}."


@pytest.fixture(params=["v1", "2025-04-01-preview"])
async def audio(simulators: Simulators, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    async with simulators.client(request.param) as client:
        yield client.audio


class TestSpeech:
    @pytest.mark.parametrize(("audio_format", "content_type"), CONTENT_TYPES.items())
    async def test_each_format_has_its_content_type(self, audio: Any, audio_format: str, content_type: str) -> None:
        create = audio.speech.with_streaming_response.create
        async with create(model="chat", voice="alloy", input=TEXT, response_format=audio_format) as response:
            assert response.headers["content-type"] == content_type
            assert response.headers["transfer-encoding"] == "chunked"
            assert len(await response.read()) > 1000

    async def test_mp3_is_the_default_and_has_whole_frames(self, audio: Any) -> None:
        response = await audio.speech.create(model="chat", voice="alloy", input=TEXT)
        assert response.response.headers["content-type"] == "audio/mpeg"
        assert len(response.content) == 3 * 4 * 417
        assert all(
            response.content[start : start + 4] == b"\xff\xfb\x90\x64" for start in range(0, len(response.content), 417)
        )
        assert b"three four" in response.content

    async def test_wav_can_be_decoded(self, audio: Any) -> None:
        response = await audio.speech.create(model="chat", voice="alloy", input=TEXT, response_format="wav")
        with wave.open(io.BytesIO(response.content)) as file:
            assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 24_000)
            assert file.getnframes() == len(file.readframes(1 << 20)) / 2 == 24_000 * 0.3

    async def test_each_step_sends_the_chunk_of_two_words(self, simulators: Simulators, audio: Any) -> None:
        await simulators.script(step=True)
        create = audio.speech.with_streaming_response.create
        async with create(model="chat", voice="alloy", input=TEXT, response_format="pcm") as response:
            chunks = response.iter_bytes(4800)
            for _ in range(3):
                arrival = asyncio.ensure_future(anext(chunks))
                done, _ = await asyncio.wait([arrival], timeout=0.1)
                assert not done
                await simulators.http.post(f"{simulators.keyed_url}/control/next")
                assert len(await arrival) == 4800
        assert simulators.keyed.journal.entries[0].chunks == 3

    async def test_it_can_be_cut(self, simulators: Simulators, audio: Any) -> None:
        await simulators.script(cut=2)
        create = audio.speech.with_streaming_response.create
        async with create(model="chat", voice="alloy", input=TEXT, response_format="pcm") as response:
            chunks = response.iter_bytes(4800)
            assert [len(await anext(chunks)) for _ in range(2)] == [4800, 4800]
            with pytest.raises(httpx2.TransportError):
                await anext(chunks)

    async def test_events_carry_the_same_audio_and_the_usage(self, simulators: Simulators) -> None:
        body = {"model": "chat", "voice": "alloy", "input": TEXT, "response_format": "wav"}
        plain = (await simulators.chat(SPEECH, body)).content
        response = await simulators.chat(SPEECH, {**body, "stream_format": "sse"})
        assert response.headers["content-type"] == "text/event-stream"
        *deltas, done = [json_data(line) for line in response.text.split("\n\n")[:-1]]
        assert {delta["type"] for delta in deltas} == {"speech.audio.delta"}
        assert b"".join(base64.b64decode(delta["audio"]) for delta in deltas) == plain
        usage = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
        assert done == {"type": "speech.audio.done", "usage": usage}
        assert simulators.keyed.journal.entries[1].usage == usage

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"voice": "alloy"}, "input"),
            ({"input": "a"}, "voice"),
            ({"input": "a" * 4097, "voice": "alloy"}, "input"),
            ({"input": 7, "voice": "alloy"}, "input"),
            ({"input": "a", "voice": "alloy", "response_format": "ogg"}, "response_format"),
        ],
    )
    async def test_invalid_fields_are_rejected(self, simulators: Simulators, fields: Any, param: str) -> None:
        response = await simulators.chat(SPEECH, {"model": "chat", **fields})
        assert (response.status_code, response.json()["error"]["param"]) == (400, param)


class TestTranscriptions:
    async def test_json_has_the_text_and_the_tokens(self, simulators: Simulators, audio: Any) -> None:
        result = await audio.transcriptions.create(model="chat", file=FILE)
        assert result.text == REPLY
        usage = result.usage.to_dict()
        assert usage["type"] == "tokens"
        assert usage["input_tokens"] == sum(usage["input_token_details"].values())
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
        assert simulators.keyed.journal.entries[0].usage == usage

    async def test_verbose_json_has_the_duration(self, audio: Any) -> None:
        result = await audio.transcriptions.create(
            model="chat", file=("a.mp3", bytes(80_000)), response_format="verbose_json"
        )
        assert (result.duration, result.usage.type, result.usage.seconds) == (2.5, "duration", 3)
        assert [(segment.start, segment.end, segment.text) for segment in result.segments] == [(0.0, 2.5, result.text)]

    # The SDK warns of every translation.
    @pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
    @pytest.mark.parametrize(
        ("result", "expected"),
        [
            ("text", f"{REPLY}\n"),
            ("srt", f"1\n00:00:00,000 --> 00:00:00,000\n{REPLY}\n\n"),
            ("vtt", f"WEBVTT\n\n00:00:00.000 --> 00:00:00.000\n{REPLY}\n\n"),
        ],
    )
    @pytest.mark.parametrize("operation", ["transcriptions", "translations"])
    async def test_other_formats_are_plain_text(self, audio: Any, operation: str, result: str, expected: str) -> None:
        create = getattr(audio, operation).with_raw_response.create
        response = await create(model="chat", file=FILE, response_format=result)
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        assert response.text == expected

    async def test_a_stream_has_the_parts_of_the_text_and_the_tokens(self, simulators: Simulators, audio: Any) -> None:
        await simulators.script(reply="one and two")
        stream = await audio.transcriptions.create(model="chat", file=FILE, stream=True)
        *deltas, done = [event async for event in stream]
        assert [(event.type, event.delta) for event in deltas] == [
            ("transcript.text.delta", "one and"),
            ("transcript.text.delta", " two"),
        ]
        assert (done.type, done.text, done.usage.output_tokens) == ("transcript.text.done", "one and two", 2)

    async def test_an_error_can_follow_the_first_output_of_a_stream(self, simulators: Simulators, audio: Any) -> None:
        await simulators.script(error=ERROR, after=1)
        stream = await audio.transcriptions.create(model="chat", file=FILE, stream=True)
        assert (await anext(stream)).type == "transcript.text.delta"
        with pytest.raises(openai.APIError, match="Slow down") as raised:
            await anext(stream)
        assert raised.value.code == "rate_limit_exceeded"

    @pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
    async def test_a_translation_has_only_text(self, audio: Any) -> None:
        assert (await audio.translations.create(model="chat", file=FILE)).to_dict() == {"text": REPLY}
        result = await audio.translations.create(model="chat", file=FILE, response_format="verbose_json")
        assert (result.text, result.to_dict()["task"], "usage" in result.to_dict()) == (REPLY, "translate", False)

    def test_a_timestamp_counts_hours(self) -> None:
        assert timestamp(3723.0415, ",") == "01:02:03,042"


class TestForms:
    async def test_a_large_file_arrives_whole_and_is_only_described(self, simulators: Simulators, audio: Any) -> None:
        content = b"0123456789abcdef" * (24 << 16)
        result = await audio.transcriptions.create(model="chat", file=("talk.wav", content), language="en")
        digest = hashlib.sha256(content).hexdigest()
        assert result.text == f"You sent {24 << 20} bytes as talk.wav. Their SHA-256 begins with {digest[:16]}."
        (entry,) = (await simulators.http.get(f"{simulators.keyed_url}/control/journal")).json()
        assert entry["body"] == ""
        file = next(part for part in entry["parts"] if part["name"] == "file")
        assert (file["filename"], file["size"], file["sha256"], file["value"]) == ("talk.wav", 24 << 20, digest, None)
        assert {part["name"]: part["value"] for part in entry["parts"] if part["name"] != "file"} == {
            "model": "chat",
            "language": "en",
        }

    @pytest.mark.parametrize("name", ["", "audio", "talk.txt", "talk"])
    async def test_the_file_needs_a_name_of_a_known_format(self, simulators: Simulators, name: str) -> None:
        response = await send(simulators, part("model", b"chat") + part("file", b"audio", name))
        assert (response.status_code, response.json()["error"]["code"]) == (400, None)
        assert response.json()["error"]["message"].startswith("Unrecognized file format. Supported formats: ['flac', 'm4a'")

    async def test_a_file_is_required(self, simulators: Simulators) -> None:
        response = await send(simulators, part("model", b"chat"))
        assert (response.status_code, response.json()["error"]["message"]) == (400, "Missing audio file")

    @pytest.mark.parametrize("models", [[], [b"other"], [b"chat", b"other"]])
    async def test_v1_needs_a_known_model_and_the_last_one_counts(self, simulators: Simulators, models: list[bytes]) -> None:
        form = b"".join(part("model", model) for model in models)
        for body in (form + FILE_PART, FILE_PART + form):
            response = await send(simulators, body)
            assert response.status_code == 404
            assert "Could not find an existing deployment to match the model" in response.text
        assert (await send(simulators, form + FILE_PART + part("model", b"chat"))).status_code == 200
        recorded = simulators.keyed.journal.entries[-1].parts
        assert recorded
        assert [part.value for part in recorded if part.name == "model"] == [model.decode() for model in (*models, b"chat")]

    @pytest.mark.parametrize("model", [[], [b"other"]])
    async def test_dated_versions_ignore_the_model(self, simulators: Simulators, model: list[bytes]) -> None:
        path = "/openai/deployments/chat/audio/transcriptions?api-version=2024-10-21"
        body = FILE_PART + b"".join(part("model", name) for name in model)
        assert (await send(simulators, body, path=path)).status_code == 200
        error = (await send(simulators, body, path=path.replace("/chat/", "/other/"))).json()["error"]
        assert error["code"] == "DeploymentNotFound"

    @pytest.mark.parametrize(
        ("content_type", "body"),
        [
            ("multipart/form-data", None),
            ("multipart/form-data; boundary=other", None),
            ("multipart/form-data; boundary=" + "b" * 71, None),
            ("multipart/mixed; boundary=b", None),
            ("application/json", b'{"model": "chat"}'),
            (None, b""),
            (None, b"--b--\r\n"),
            (None, b"--b\r\n"),
            (None, b"--b\r\nno header\r\n\r\n1\r\n"),
            (None, b'--b\r\ncontent-disposition: form-data; filename="a.wav"\r\n\r\n1\r\n'),
            (None, b'--b\r\ncontent-disposition: form-data; name="' + b"a" * 10_000 + b'"\r\n\r\n1\r\n'),
        ],
    )
    async def test_a_malformed_form_is_rejected(
        self, simulators: Simulators, content_type: str | None, body: bytes | None
    ) -> None:
        body = part("model", b"chat") + FILE_PART if body is None else body
        response = await send(simulators, body, content_type=content_type)
        assert response.status_code == 400
        assert response.json()["error"] == MALFORMED
        assert not simulators.keyed.journal.entries[0].parts

    async def test_a_form_must_be_complete(self, simulators: Simulators) -> None:
        for missing in (len(END), len(END) + 3, len(END) + 40):
            response = await send(simulators, (part("model", b"chat") + FILE_PART + END)[:-missing], end=b"")
            assert (response.status_code, response.json()["error"]) == (400, MALFORMED)


END = b"--b--\r\n"
MALFORMED = {"code": None, "message": "400: There was an error parsing the body", "type": "server_error", "param": None}


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    file = "" if filename is None else f'; filename="{filename}"'
    return f'--b\r\ncontent-disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content + b"\r\n"


FILE_PART = part("file", b"audio", "talk.wav")


async def send(
    simulators: Simulators,
    body: bytes,
    *,
    path: str = "/openai/v1/audio/transcriptions",
    content_type: str | None = None,
    end: bytes = END,
) -> httpx2.Response:
    headers = {"api-key": KEY, "content-type": content_type or "multipart/form-data; boundary=b"}
    return await simulators.http.post(simulators.keyed_url + path, content=body + end, headers=headers)


def json_data(event: str) -> Any:
    return httpx2.Response(200, content=event.removeprefix("data: ")).json()
