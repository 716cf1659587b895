"""Call each operation of the OpenAI API with OpenAI's SDK, and check what the SDK returns."""

import hashlib
import io
import json
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from shared.operations import OPERATIONS, V1, Body, Operation
from tests.support.processes import Json, RecordedRequest
from tests.support.sdk import SDK

# An alias, and its deployment.
MODEL, DEPLOYMENT = "gpt-4o", "other"
SETTINGS = {"AZURE_OPENAI_DEPLOYMENTS": f"{MODEL}={DEPLOYMENT}"}
MESSAGES: Any = [{"role": "user", "content": "Hello"}]
# More than the 1 MB that a form keeps in memory.
AUDIO = bytes(range(256)) * 5000
# 24 MB, about as much as Azure accepts.
UPLOAD = bytes(range(256)) * 4096 * 24
PNG = b"\x89PNG\r\n\x1a\n" + bytes(2000)
MASK = PNG + b"mask"

type Call = Callable[[SDK], Any]


@dataclass(frozen=True)
class OperationCall:
    """A call of the operation `method` and `path`: how the SDK makes it, and what Azure gets of it."""

    run: Call
    """Makes the call, and checks the result."""
    path: str
    method: str = "POST"
    files: dict[str, list[bytes]] = field(default_factory=dict)
    """The files of the form, by the names of their parts."""
    query: dict[str, str] = field(default_factory=dict)

    @property
    def operation(self) -> Operation:
        return next(found for found in OPERATIONS if (found.method, found.path) == (self.method, self.path))


def audio(name: str = "speech.mp3", content: bytes = AUDIO) -> io.BytesIO:
    """Return a file with a name, as `open` does."""
    file = io.BytesIO(content)
    file.name = name
    return file


def image(content: bytes = PNG) -> io.BytesIO:
    return audio("image.png", content)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def heard(content: bytes = AUDIO) -> str:
    """Return the beginning of the simulator's transcription of a file."""
    return f"You sent {len(content)} bytes as speech.mp3. Their SHA-256 begins with {digest(content)[:16]}."


def chat(sdk: SDK) -> None:
    completion = sdk.result(sdk.client.chat.completions.create(model=MODEL, messages=MESSAGES))
    assert "Hello" in completion.choices[0].message.content
    assert completion.usage.total_tokens > 0


def chat_stream(sdk: SDK) -> None:
    chunks = sdk.events(sdk.client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True))
    assert "Hello" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def complete(sdk: SDK) -> None:
    completion = sdk.result(sdk.client.completions.create(model=MODEL, prompt="Hello"))
    assert "Hello" in completion.choices[0].text
    assert completion.usage.total_tokens > 0


def complete_stream(sdk: SDK) -> None:
    chunks = sdk.events(sdk.client.completions.create(model=MODEL, prompt="Hello", stream=True))
    assert "Hello" in "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)


def embed(sdk: SDK) -> None:
    response = sdk.result(sdk.client.embeddings.create(model=MODEL, input=["one", "two"], dimensions=8))
    assert [len(item.embedding) for item in response.data] == [8, 8]


def respond(sdk: SDK) -> None:
    assert "Hello" in sdk.result(sdk.client.responses.create(model=MODEL, input="Hello")).output_text


def respond_stream(sdk: SDK) -> None:
    events = sdk.events(sdk.client.responses.create(model=MODEL, input="Hello", stream=True))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")


def retrieve(sdk: SDK) -> None:
    response_id = stored_id(sdk)
    assert sdk.result(sdk.client.responses.retrieve(response_id)).id == response_id


def delete(sdk: SDK) -> None:
    assert sdk.result(sdk.client.responses.delete(stored_id(sdk))) is None


def cancel(sdk: SDK) -> None:
    assert sdk.result(sdk.client.responses.cancel(stored_id(sdk, background=True))).status == "cancelled"


def list_input_items(sdk: SDK) -> None:
    items = sdk.result(sdk.client.responses.input_items.list(stored_id(sdk), order="asc", limit=5))
    assert items.data[0].content[0].text == "Hello"


def stored_id(sdk: SDK, **fields: Any) -> str:
    """Return the id of a new stored response, or any id if the app's version of Azure's API stores none."""
    body = {"model": MODEL, "input": "Hello", **fields}
    key = {"api-key": sdk.client.api_key}
    response: Json = sdk.app.http.post("/api/v1/responses", json=body, headers=key).json()
    return str(response.get("id", "resp_1"))


def compact(sdk: SDK) -> None:
    compacted = sdk.result(sdk.client.responses.compact(model=MODEL, input="Hello"))
    assert [item.type for item in compacted.output] == ["message", "compaction"]


def count_input_tokens(sdk: SDK) -> None:
    assert sdk.result(sdk.client.responses.input_tokens.count(model=MODEL, input="Hello")).input_tokens > 0


def generate_image(sdk: SDK) -> None:
    images = sdk.result(sdk.client.images.generate(model=MODEL, prompt="A cat", n=2))
    assert all(item.b64_json.startswith("iVBOR") for item in images.data)
    assert len(images.data) == 2
    assert images.usage.total_tokens > 0


def generate_image_stream(sdk: SDK) -> None:
    events = sdk.events(sdk.client.images.generate(model=MODEL, prompt="A cat", stream=True, partial_images=2))
    assert [event.type.rpartition(".")[2] for event in events] == ["partial_image", "partial_image", "completed"]
    assert events[-1].usage.total_tokens > 0


def edit_image(sdk: SDK) -> None:
    images = sdk.result(sdk.client.images.edit(model=MODEL, prompt="A cat", image=image(), mask=image(MASK), n=2))
    assert len(images.data) == 2
    assert images.usage.input_tokens_details.image_tokens > 0


def edit_images(sdk: SDK) -> None:
    given = [image(PNG + bytes([number])) for number in range(3)]
    assert sdk.result(sdk.client.images.edit(model=MODEL, prompt="A cat", image=given)).data[0].b64_json


def edit_image_stream(sdk: SDK) -> None:
    events = sdk.events(sdk.client.images.edit(model=MODEL, prompt="A cat", image=image(), stream=True, partial_images=1))
    assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]


SPEECH: Any = {"model": MODEL, "voice": "alloy", "input": "one two three four five"}


def speak(sdk: SDK) -> None:
    speech = sdk.result(sdk.client.audio.speech.create(**SPEECH))
    assert speech.content.startswith(b"\xff\xfb")
    assert speech.response.headers["content-type"] == "audio/mpeg"


def speak_to_file(sdk: SDK) -> None:
    create = sdk.client.audio.speech.with_streaming_response.create
    content = sdk.content(create(**SPEECH, response_format="wav"))
    assert content[:4] == b"RIFF"
    # The header has the number of bytes that follow it.
    assert int.from_bytes(content[4:8], "little") == len(content) - 8


def speak_events(sdk: SDK) -> None:
    content = sdk.content(sdk.client.audio.speech.with_streaming_response.create(**SPEECH, stream_format="sse"))
    assert content.count(b'"speech.audio.delta"') == 3
    assert content.count(b'"speech.audio.done"') == 1


def transcribe(sdk: SDK) -> None:
    transcription = sdk.result(sdk.client.audio.transcriptions.create(model=MODEL, file=audio()))
    assert transcription.text == heard()
    assert transcription.usage.total_tokens > 0


def transcribe_to_text(sdk: SDK) -> None:
    create = sdk.client.audio.transcriptions.create
    assert sdk.result(create(model=MODEL, file=audio(), response_format="text")) == f"{heard()}\n"


def transcribe_to_subtitles(sdk: SDK) -> None:
    create = sdk.client.audio.transcriptions.create
    assert heard() in sdk.result(create(model=MODEL, file=audio(), response_format="srt")).splitlines()


def transcribe_verbosely(sdk: SDK) -> None:
    create = sdk.client.audio.transcriptions.create
    granularities: Any = ["word", "segment"]
    verbose = sdk.result(
        create(model=MODEL, file=audio(), response_format="verbose_json", timestamp_granularities=granularities)
    )
    assert [segment.text for segment in verbose.segments] == [heard()]


def transcribe_stream(sdk: SDK) -> None:
    events = sdk.events(sdk.client.audio.transcriptions.create(model=MODEL, file=audio(), stream=True))
    assert "".join(event.delta for event in events[:-1]) == events[-1].text == heard()


def translate(sdk: SDK) -> None:
    # OpenAI has deprecated it.
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        call = sdk.client.audio.translations.create(model=MODEL, file=audio())
    assert sdk.result(call).text == heard()


def list_models(sdk: SDK) -> None:
    assert [model.id for model in sdk.result(sdk.client.models.list()).data] == ["chat", DEPLOYMENT, MODEL]


def retrieve_model(sdk: SDK) -> None:
    assert sdk.result(sdk.client.models.retrieve(MODEL)).id == MODEL


FILE = {"file": [AUDIO]}
CALLS = {
    "chat": OperationCall(chat, "chat/completions"),
    "chat, streamed": OperationCall(chat_stream, "chat/completions"),
    "completion": OperationCall(complete, "completions"),
    "completion, streamed": OperationCall(complete_stream, "completions"),
    "embeddings": OperationCall(embed, "embeddings"),
    "response": OperationCall(respond, "responses"),
    "response, streamed": OperationCall(respond_stream, "responses"),
    "stored response": OperationCall(retrieve, "responses/{id}", "GET"),
    "deletion": OperationCall(delete, "responses/{id}", "DELETE"),
    "cancellation": OperationCall(cancel, "responses/{id}/cancel"),
    "input items": OperationCall(
        list_input_items, "responses/{id}/input_items", "GET", query={"order": "asc", "limit": "5"}
    ),
    "compaction": OperationCall(compact, "responses/compact"),
    "input tokens": OperationCall(count_input_tokens, "responses/input_tokens"),
    "image": OperationCall(generate_image, "images/generations"),
    "image, streamed": OperationCall(generate_image_stream, "images/generations"),
    "edited image": OperationCall(edit_image, "images/edits", files={"image": [PNG], "mask": [MASK]}),
    "edited images": OperationCall(
        edit_images, "images/edits", files={"image[]": [PNG + bytes([number]) for number in range(3)]}
    ),
    "edited image, streamed": OperationCall(edit_image_stream, "images/edits", files={"image": [PNG]}),
    "speech": OperationCall(speak, "audio/speech"),
    "speech, streamed": OperationCall(speak_to_file, "audio/speech"),
    "speech in events": OperationCall(speak_events, "audio/speech"),
    "transcription": OperationCall(transcribe, "audio/transcriptions", files=FILE),
    "transcription, text": OperationCall(transcribe_to_text, "audio/transcriptions", files=FILE),
    "transcription, subtitles": OperationCall(transcribe_to_subtitles, "audio/transcriptions", files=FILE),
    "transcription, verbose": OperationCall(transcribe_verbosely, "audio/transcriptions", files=FILE),
    "transcription, streamed": OperationCall(transcribe_stream, "audio/transcriptions", files=FILE),
    "translation": OperationCall(translate, "audio/translations", files=FILE),
    "models": OperationCall(list_models, "models", "GET"),
    "model": OperationCall(retrieve_model, "models/{model}", "GET"),
}


def check_seen(call: OperationCall, seen: RecordedRequest, version: str) -> None:
    """Check what Azure got of a call: its path and query, the deployment exactly once, and the files' bytes."""
    operation, is_dated = call.operation, version != V1
    by_path = is_dated and operation.by_deployment
    prefix = f"/openai/deployments/{DEPLOYMENT}" if by_path else "/openai" if is_dated else "/openai/v1"
    assert seen.method == operation.method
    assert re.fullmatch(f"{prefix}/{operation.path.replace('{id}', 'resp_[0-9a-f]+')}", seen.path)
    assert seen.query == call.query | ({"api-version": version} if is_dated else {})
    assert "accept" in seen.headers
    if operation.body is Body.FORM:
        fields = [(part["name"], part["value"]) for part in seen.parts if part["filename"] is None]
        assert [value for name, value in fields if name == "model"] == [DEPLOYMENT]
        assert files_in(seen) == {name: list(map(digest, files)) for name, files in call.files.items()}
    elif operation.body is Body.JSON and not by_path:
        assert json_model(seen) == DEPLOYMENT


def json_model(seen: RecordedRequest) -> str:
    return str(json.loads(seen.body)["model"])


def files_in(seen: RecordedRequest) -> dict[str, list[str]]:
    """Return the hashes of the files in a form, by the names of their parts."""
    files: dict[str, list[str]] = {}
    for part in seen.parts:
        if part["filename"] is not None:
            files.setdefault(part["name"], []).append(part["sha256"])
    return files
