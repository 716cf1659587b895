"""Test what each kind of operation used, in metrics, spans and the access log: tokens if they are reported, else bytes."""

from typing import Any

import httpx2
import pytest

from tests.support.gateway_calls import CALLER, CHAT, MESSAGES
from tests.support.processes import Json, Simulator
from tests.support.recorder import DURATION, FIRST_CHUNK, TOKENS, logged_fields, wait_for_telemetry
from tests.support.streams import read_unfinished
from tests.support.upstreams import Gateway

COMPLETIONS, COMPACT, COUNT, EMBEDDINGS, IMAGES, EDITS, SPEECH, TRANSCRIPTIONS, TRANSLATIONS = (
    "completions",
    "responses/compact",
    "responses/input_tokens",
    "embeddings",
    "images/generations",
    "images/edits",
    "audio/speech",
    "audio/transcriptions",
    "audio/translations",
)
# The operations that the conventions name. The others have their path as the name.
CONVENTIONAL = {
    COMPLETIONS: "text_completion",
    EMBEDDINGS: "embeddings",
    "chat/completions": "chat",
    "responses": "chat",
}
FIELDS: dict[str, Json] = {
    "chat/completions": MESSAGES,
    "responses": {"input": "Hello"},
    COMPACT: {"input": "Hello"},
    COUNT: {"input": "Hello"},
    EMBEDDINGS: {"input": "Hello"},
    COMPLETIONS: {"prompt": "Hello"},
    IMAGES: {"prompt": "Hello"},
    EDITS: {"prompt": "Hello"},
    SPEECH: {"input": "Hello and goodbye", "voice": "alloy"},
}
FILES = {
    EDITS: {"image": ("image.png", b"image")},
    TRANSCRIPTIONS: {"file": ("audio.mp3", b"audio")},
    TRANSLATIONS: {"file": ("audio.mp3", b"audio")},
}
# A token of each kind, as chats and completions report them, and as everything else does.
IN_CHATS = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 5},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
ELSEWHERE = {
    "input_tokens": 11,
    "output_tokens": 7,
    "input_tokens_details": {"cached_tokens": 5},
    "output_tokens_details": {"reasoning_tokens": 3},
}
ALL = {"input_tokens": "11", "output_tokens": "7", "cached_tokens": "5", "reasoning_tokens": "3"}
ATTRIBUTES = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
    "request_bytes": "gateway.request.bytes",
    "response_bytes": "gateway.response.bytes",
}


@pytest.fixture(autouse=True)
def newest_version(gateway: Gateway, model: Simulator) -> None:
    gateway.configure(model.url, AZURE_OPENAI_API_VERSION="v1")


def use(gateway: Gateway, operation: str, **more: Any) -> httpx2.Response:
    """Send a call with a valid request for `operation`, and `more` fields."""
    path, fields = f"/api/v1/{operation}", {**FIELDS.get(operation, {}), "model": "chat", **more}
    if operation in FILES:
        texts = {name: str(value).lower() if value is True else value for name, value in fields.items()}
        return gateway.http.post(path, data=texts, files=FILES[operation], headers=CALLER)
    return gateway.http.post(path, json=fields, headers=CALLER)


def recorded(gateway: Gateway, operation: str) -> dict[str, str]:
    """Return what the only call used, by the names in the access log. Assert that the span and the metrics say the same."""
    found = wait_for_telemetry(gateway)
    (span,) = found["spans"]
    line = logged_fields(gateway, f"trace_id={span['trace_id']}")
    assert line["operation"] == operation
    used = {name: line[name] for name in ATTRIBUTES if name in line}
    in_span = {name: str(span["attributes"][key]) for name, key in ATTRIBUTES.items() if key in span["attributes"]}
    in_metrics = {
        f"{point['attributes']['gen_ai.token.type']}_tokens": str(point["sum"])
        for point in found["points"]
        if point["metric"] == TOKENS
    }
    assert in_span == used
    assert in_metrics == {name: used[name] for name in ("input_tokens", "output_tokens") if name in used}
    name = CONVENTIONAL.get(operation, operation)
    assert span["name"].split() == [name, *([line["deployment"]] if "deployment" in line else [])]
    assert {point["attributes"]["gen_ai.operation.name"] for point in found["points"]} == {name}
    assert (FIRST_CHUNK in {point["metric"] for point in found["points"]}) == ("first_chunk_ms" in line)
    assert [point["count"] for point in found["points"] if point["metric"] == DURATION] == [1]
    return used


@pytest.mark.parametrize(
    ("operation", "more", "usage"),
    [
        ("chat/completions", {}, IN_CHATS),
        ("chat/completions", {"stream": True, "stream_options": {"include_usage": True}}, IN_CHATS),
        (COMPLETIONS, {}, IN_CHATS),
        (COMPLETIONS, {"stream": True, "stream_options": {"include_usage": True}}, IN_CHATS),
        ("responses", {}, ELSEWHERE),
        ("responses", {"stream": True}, ELSEWHERE),
        (COMPACT, {}, ELSEWHERE),
        (IMAGES, {}, ELSEWHERE),
        (IMAGES, {"stream": True, "partial_images": 1}, ELSEWHERE),
        (EDITS, {}, ELSEWHERE),
        (EDITS, {"stream": True}, ELSEWHERE),
        (SPEECH, {"stream_format": "sse"}, ELSEWHERE),
        (TRANSCRIPTIONS, {}, ELSEWHERE),
        (TRANSCRIPTIONS, {"stream": True}, ELSEWHERE),
    ],
)
def test_all_tokens_that_a_response_reports_are_recorded(
    gateway: Gateway, model: Simulator, operation: str, more: Json, usage: Json
) -> None:
    model.script({"usage": usage})
    use(gateway, operation, **more).raise_for_status()
    assert recorded(gateway, operation) == ALL


@pytest.mark.parametrize(
    ("operation", "names"),
    [
        (EMBEDDINGS, ["input_tokens"]),
        (IMAGES, ["input_tokens", "output_tokens"]),
        (TRANSCRIPTIONS, ["input_tokens", "output_tokens"]),
    ],
)
def test_tokens_that_a_response_does_not_report_are_left_out(gateway: Gateway, operation: str, names: list[str]) -> None:
    use(gateway, operation).raise_for_status()
    assert list(recorded(gateway, operation)) == names


@pytest.mark.parametrize(
    ("operation", "more"),
    [
        ("chat/completions", {"stream": True}),
        (COUNT, {}),
        (SPEECH, {}),
        (TRANSCRIPTIONS, {"response_format": "verbose_json"}),
        (TRANSCRIPTIONS, {"response_format": "text"}),
        (TRANSLATIONS, {}),
    ],
)
def test_a_call_without_reported_tokens_records_its_bytes(
    gateway: Gateway, model: Simulator, operation: str, more: Json
) -> None:
    response = use(gateway, operation, **more).raise_for_status()
    (request,) = model.journal(ended=1)
    sizes = {"request_bytes": request.headers["content-length"], "response_bytes": str(len(response.content))}
    assert recorded(gateway, operation) == sizes


@pytest.mark.parametrize("usage", [None, [], "11", {}, {"prompt_tokens": None}, {"prompt_tokens": -1}, {"type": "duration"}])
def test_a_usage_without_tokens_is_no_usage(gateway: Gateway, model: Simulator, usage: Any) -> None:
    model.script({"raw": f'{{"choices":[],"usage":{httpx2.Request("", "", json=usage).content.decode()}}}'})
    response = use(gateway, "chat/completions").raise_for_status()
    assert recorded(gateway, "chat/completions")["response_bytes"] == str(len(response.content))


@pytest.mark.parametrize(("method", "rest"), [("GET", ""), ("GET", "/input_items"), ("DELETE", "")])
def test_a_call_about_a_stored_response_records_its_bytes(gateway: Gateway, method: str, rest: str) -> None:
    path = f"/api/v1/responses/{use(gateway, 'responses').json()['id']}{rest}"
    wait_for_telemetry(gateway)
    gateway.app.forget_output()
    response = gateway.http.request(method, path, headers=CALLER).raise_for_status()
    sizes = {"request_bytes": "0", "response_bytes": str(len(response.content))}
    assert recorded(gateway, "stored_response") == sizes


def test_the_first_chunk_of_speech_is_recorded_although_it_is_not_a_stream_of_events(
    gateway: Gateway, model: Simulator
) -> None:
    use(gateway, SPEECH).raise_for_status()
    found = wait_for_telemetry(gateway)
    (seconds,) = (point["sum"] for point in found["points"] if point["metric"] == FIRST_CHUNK)
    assert 0 < seconds < 60
    assert found["spans"][0]["attributes"]["gen_ai.response.time_to_first_chunk"] == seconds


def test_an_interrupted_stream_records_the_bytes_that_arrived(gateway: Gateway, model: Simulator) -> None:
    model.script({"reply": "one and two and three", "cut": 1})
    with gateway.http.stream("POST", CHAT, json={**MESSAGES, "stream": True}, headers=CALLER) as response:
        read_unfinished(response)
    assert int(recorded(gateway, "chat/completions")["response_bytes"]) > 0


def test_bytes_that_arrive_after_an_error_count_as_well(gateway: Gateway, model: Simulator) -> None:
    events, rest = 'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: {"error":{"code":"x"}}\n\n', ": rest\n\n"
    headers = {"content-type": "text/event-stream"}
    model.script({"raw": events + rest, "split": len(events), "pace": 0.1, "headers": headers})
    with gateway.http.stream("POST", CHAT, json={**MESSAGES, "stream": True}, headers=CALLER) as response:
        read_unfinished(response)
    assert recorded(gateway, "chat/completions")["response_bytes"] == str(len(events + rest))


def test_bytes_of_an_earlier_attempt_do_not_count(gateway: Gateway, models: list[Simulator]) -> None:
    gateway.configure(*(model.url for model in models))
    error = '{"error":{"code":"429","message":"Too many requests."}}'
    models[0].script({"raw": error, "headers": {"content-type": "application/json"}})
    response = use(gateway, "chat/completions", stream=True).raise_for_status()
    assert recorded(gateway, "chat/completions")["response_bytes"] == str(len(response.content))


@pytest.mark.parametrize("script", [{"status": 429}, {"status": 500}, {"reset": True}])
def test_a_call_without_a_successful_response_records_neither(gateway: Gateway, model: Simulator, script: Json) -> None:
    model.script({**script, "times": 2})
    assert use(gateway, "chat/completions").is_error
    assert recorded(gateway, "chat/completions") == {}
