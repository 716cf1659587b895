"""Test what the client gets of a stream's bytes, chunk by chunk."""

import json

import pytest

from local.simulator.azure_openai import AzureOpenAISimulator
from shared.errors import StreamInterrupted, UpstreamFailure
from shared.openai_api import simple_chat
from shared.openai_api.simple_chat import ChatDeltas
from shared.streaming import filters, sse
from shared.streaming.filters import Progress, ResponseEvents, StreamFilter, WholeEvents
from shared.telemetry.call_record import SUCCEEDED, Outcome
from shared.upstream import response
from shared.upstream.failover import Failover
from tests.support.calls import chat_call, chat_record

CALL = chat_call(b'{"messages":[{"role":"user","content":"Hi"}]}')
CHUNK = b'data: {"choices":[{"delta":{"content":"text"}}]}\n\n'
LAST = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'


@pytest.fixture(params=[WholeEvents, ChatDeltas])
def stream_filter(request: pytest.FixtureRequest) -> StreamFilter:
    stream_filter: StreamFilter = request.param(chat_record())
    return stream_filter


@pytest.fixture
def whole_events() -> WholeEvents:
    return WholeEvents(chat_record())


@pytest.fixture
def chat_deltas() -> ChatDeltas:
    return ChatDeltas(chat_record())


@pytest.mark.parametrize("truncated", [b'data: {"choi', b"event: response.output_te", b"event: x\ndat", b"event: x\n"])
def test_a_truncated_event_is_not_passed_on(stream_filter: StreamFilter, truncated: bytes) -> None:
    assert b"text" in stream_filter.feed(CHUNK)
    assert stream_filter.feed(truncated) == b""
    with pytest.raises(StreamInterrupted):
        stream_filter.end()


@pytest.mark.parametrize("rest", [b"", b"\n", b": a comment", b'data: {"choices":[]}', b"data: [DONE]\n"])
def test_an_event_that_lacks_only_its_end_is_passed_on(whole_events: WholeEvents, rest: bytes) -> None:
    assert whole_events.feed(CHUNK + LAST + rest) + whole_events.end() == CHUNK + LAST + rest


@pytest.mark.parametrize("events", [CHUNK, CHUNK + CHUNK, b'data: {"type":"response.output_text.delta"}\n\n', b""])
def test_an_end_in_order_without_a_last_event_is_an_interruption(whole_events: WholeEvents, events: bytes) -> None:
    whole_events.feed(events)
    with pytest.raises(StreamInterrupted):
        whole_events.end()


@pytest.mark.parametrize(
    "error",
    [
        b'{"error":{"code":"x","message":"m"},"status":429}',
        b'{"error":{"code":"x","message":"m"},"id":7,"model":{},"usage":[]}',
        b'{"code":"x","message":"m"}',
        b'{"statusCode":429,"message":"m"}',
    ],
)
def test_an_error_is_found_whatever_else_the_event_has(stream_filter: StreamFilter, error: bytes) -> None:
    stream_filter.feed(CHUNK + b"data: " + error + b"\n\n")
    assert stream_filter.progress is Progress.FAILED
    assert stream_filter.record.error_code in ("x", "429")


@pytest.mark.parametrize("line", [b"a" * 100, b"data: x\n" * 10])
def test_an_endless_event_is_invalid_before_it_fills_the_memory(
    stream_filter: StreamFilter, line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "MAX_EVENT_SIZE", 1000)
    monkeypatch.setattr(simple_chat, "MAX_EVENT_SIZE", 1000)
    size = 0
    while stream_filter.progress is not Progress.INVALID:
        stream_filter.feed(line)
        size += len(line)
        assert size < 3000
    assert size > 900


@pytest.mark.parametrize("split", [False, True])
def test_a_failed_stream_stays_failed_whatever_follows(
    stream_filter: StreamFilter, split: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "MAX_EVENT_SIZE", 1000)
    monkeypatch.setattr(simple_chat, "MAX_EVENT_SIZE", 1000)
    error, endless = CHUNK + error_event("500"), b"data: " + b"x" * 2000
    for chunk in [error, endless] if split else [error + endless]:
        stream_filter.feed(chunk)
        assert stream_filter.progress is Progress.FAILED
    stream_filter.end()
    assert stream_filter.progress is Progress.FAILED


@pytest.mark.anyio
async def test_an_endless_response_fails_before_it_fills_the_memory(
    resource: AzureOpenAISimulator, failover: Failover, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response, "MAX_BODY_SIZE", 1000)
    resource.journal.scripts.append({"raw": "{" + " " * 2000})
    with pytest.raises(UpstreamFailure):
        await failover.send(CALL)
    assert failover.slots.taken == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"id": None},
        {"model": None},
        {"created": "x"},
        {"choices": None},
        {"choices": [{"delta": None}]},
        {"choices": [{"delta": {"content": None}}]},
        {"choices": [{"delta": {"content": [{"type": "text", "text": None}, {}, None]}}]},
        {"usage": None},
        {"error": None},
        {"error": {}},
    ],
)
def test_unusual_field_values_do_not_invalidate_the_stream(chat_deltas: ChatDeltas, fields: dict[str, object]) -> None:
    chat_deltas.feed(b"data: " + json.dumps({"choices": [], **fields}).encode() + b"\n\n")
    assert chat_deltas.progress is not Progress.INVALID
    assert chat_deltas.feed(CHUNK) == b'data: {"delta":"text"}\n\n'


def test_data_on_several_lines_is_sent_on_one(chat_deltas: ChatDeltas) -> None:
    events = chat_deltas.feed(b'data: {"choices":[],"usage":{\ndata: "prompt_tokens":1}}\n\ndata: [DONE]\n\n')
    assert events == b'data: {"finish_reason":null,"usage":{"prompt_tokens":1}}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize("end", ["", "\n", "\r"])
def test_done_may_lack_its_line_ends(chat_deltas: ChatDeltas, end: str) -> None:
    assert (chat_deltas.feed(f"data: [DONE]{end}".encode()) + chat_deltas.end()).endswith(b"data: [DONE]\n\n")


def test_nothing_is_sent_after_done(chat_deltas: ChatDeltas) -> None:
    assert chat_deltas.feed(b"data: [DONE]\n\n" + CHUNK[:-1]).endswith(b"data: [DONE]\n\n")
    assert chat_deltas.end() == b""


class TestCharacters:
    """Test that `/api/chat` sends whole characters, however Azure splits them. In JSON, 😀 is a pair of escapes."""

    @pytest.mark.parametrize("form", ["{}", '[{{"type":"text","text":{}}}]'], ids=["text", "parts"])
    @pytest.mark.parametrize("name", ["content", "refusal"])
    @pytest.mark.parametrize(
        ("contents", "text"),
        [
            (['"a\\ud83d"', '"\\ude00b"'], "a😀b"),
            (['"a\\ud83d"', '""', '"\\ude00b"'], "a😀b"),
            (['"\\ud83d"', '"\\ude00\\ud83d"', '"\\ude00"'], "😀😀"),
            (['"a\\ud83d\\ude00b"'], "a😀b"),
            (['"\\ud83d"', '"b"'], "�b"),
            (['"\\ud83d"', '"\\ud83d"', '"\\ude00"'], "�😀"),
            (['"\\ude00b"'], "�b"),
            (['"a\\ud83db"'], "a�b"),
            (['"a"', '"\\ud83d"'], "a�"),
            (['"\\\\ud83d"', '"b"'], "\\ud83db"),
        ],
    )
    def test_halves_are_joined_and_single_ones_replaced(
        self, chat_deltas: ChatDeltas, contents: list[str], text: str, name: str, form: str
    ) -> None:
        output = b"".join(
            chat_deltas.feed(f'data: {{"choices":[{{"delta":{{"{name}":{form.format(content)}}}}}]}}\n\n'.encode())
            for content in contents
        )
        events = [json.loads(data) for data in sse.data_of(output + chat_deltas.feed(b"data: [DONE]\n\n"))[:-2]]
        assert "".join(event["delta"] for event in events) == text
        assert all(event["delta"] for event in events)

    def test_parts_are_joined(self, chat_deltas: ChatDeltas) -> None:
        parts = [{"type": "text", "text": "one"}, {"type": "refusal", "refusal": " two"}]
        chunk = json.dumps({"choices": [{"delta": {"content": parts}}]})
        assert chat_deltas.feed(f"data: {chunk}\n\n".encode()) == b'data: {"delta":"one two"}\n\n'

    @pytest.mark.parametrize(
        ("message", "reply"),
        [
            ('{"content":"a\\ud83d"}', "a�"),
            ('{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}', "ab"),
            ('{"content":null,"refusal":"no"}', "no"),
        ],
    )
    def test_a_whole_reply_may_have_them_too(self, message: str, reply: str) -> None:
        body = f'{{"id":null,"model":null,"choices":[{{"message":{message}}}]}}'.encode()
        assert json.loads(simple_chat.reply_to(body, {})) == {
            "id": "",
            "model": "",
            "reply": reply,
            "finish_reason": None,
            "usage": None,
        }


class TestMetadata:
    """Test that unusual values do not hide the usage and the model from the access log."""

    @pytest.mark.parametrize(
        "fields",
        [
            '"choices":null',
            '"id":null',
            '"choices":[null]',
            '"choices":[{"delta":{"content":"\\ud83d"},"finish_reason":null}]',
            '"choices":[{"delta":{"content":[{"type":"text","text":"a"}]}}]',
            '"choices":[{"delta":null}]',
            '"status":null,"type":null,"error":null,"code":null,"response":null',
        ],
    )
    def test_the_usage_is_read(self, stream_filter: StreamFilter, fields: str) -> None:
        stream_filter.feed(f'data: {{{fields},"model":"m","usage":{{"prompt_tokens":3,"x":null}}}}\n\n'.encode())
        metadata = stream_filter.record.metadata
        assert metadata.model == "m"
        assert metadata.usage
        assert metadata.usage.prompt_tokens == 3

    def test_null_counts_as_no_tokens(self, stream_filter: StreamFilter) -> None:
        stream_filter.feed(b'data: {"model":"m","usage":{"prompt_tokens":3,"completion_tokens":null}}\n\n')
        stream_filter.record.end(SUCCEEDED)
        assert stream_filter.record.metadata.usage


def error_event(code: str | None, **fields: str) -> bytes:
    return b"data: " + json.dumps({"error": {"code": code, "message": "Azure's own", **fields}}).encode() + b"\n\n"


@pytest.mark.parametrize("rest", [b"", b"data: [DONE]\n\n", CHUNK + b"data: [DONE]\n\n", error_event("500")])
@pytest.mark.parametrize("split", [False, True])
def test_azures_error_in_a_chat_goes_out_and_what_follows_is_dropped(
    whole_events: WholeEvents, rest: bytes, split: bool
) -> None:
    error = error_event("rate_limit_exceeded")
    chunks = [CHUNK, error, rest] if split else [CHUNK + error + rest]
    assert b"".join(map(whole_events.feed, chunks)) + whole_events.end() == CHUNK + error
    assert whole_events.progress is Progress.FAILED
    assert whole_events.record.reported_error() == Outcome("upstream_error", cause="rate_limit_exceeded")


def test_azures_error_that_lacks_its_end_gets_one(whole_events: WholeEvents) -> None:
    error = error_event("500").rstrip()
    assert whole_events.feed(CHUNK + error) + whole_events.end() == CHUNK + error + b"\n\n"
    assert whole_events.progress is Progress.FAILED


@pytest.mark.parametrize(
    "data",
    [
        '{"choices":[{"delta":{},"content_filter_results":{"error":{"code":"content_filter_error"}}}]}',
        '{"choices":[{"delta":{"content":"{\\"error\\":{}}"}}]}',
        '{"choices":[],"error":null}',
        '{"type":"response.created","response":{"error":{"code":"x"}}}',
        '{"type":"response.output_item.done","item":{"type":"error","error":"x"}}',
    ],
)
def test_other_errors_do_not_end_a_stream(whole_events: WholeEvents, data: str) -> None:
    events = f"data: {data}\n\n".encode() + CHUNK
    assert whole_events.feed(events) == events
    assert whole_events.progress is Progress.OPEN


@pytest.mark.parametrize(
    ("detail", "code", "message"),
    [
        ({"code": "rate_limit_exceeded"}, "rate_limit_exceeded", "Azure's own"),
        ({"code": "content_filter"}, "content_filter", "Azure's own"),
        ({"code": "429"}, "429", "Azure's own"),
        ({"code": "unsupported_value", "type": "invalid_request_error"}, "unsupported_value", "Azure's own"),
        ({"code": "server_error"}, "server_error", None),
        ({"code": "500", "type": "server_error"}, "500", None),
        ({"code": None}, "upstream_error", None),
    ],
)
@pytest.mark.parametrize("rest", [b"", CHUNK + b"data: [DONE]\n\n"])
def test_the_chat_endpoint_reports_azures_code_and_a_message_for_the_caller(
    chat_deltas: ChatDeltas, detail: dict[str, str], code: str, message: str | None, rest: bytes
) -> None:
    output = chat_deltas.feed(CHUNK + error_event(**detail) + rest) + chat_deltas.feed(rest) + chat_deltas.end()
    delta, *others = sse.data_of(output)
    assert delta == b'{"delta":"text"}'
    (error,) = (json.loads(data)["error"] for data in others)
    assert error["code"] == code
    assert error["message"] == (message or "The model service failed. Try again.")
    assert chat_deltas.progress is Progress.FAILED


class TestResponses:
    DELTA = b'event: x\ndata: {"type":"response.output_text.delta","sequence_number":%d,"delta":"a"}\n\n'
    ERROR = b'event: error\ndata: {"type":"error","sequence_number":8,"code":"server_error","message":"m","param":null}\n\n'
    FAILED = b'data: {"type":"response.failed","sequence_number":9,"response":{"status":"failed","error":null}}\n\n'

    @pytest.fixture
    def events(self) -> ResponseEvents:
        return ResponseEvents(chat_record())

    @pytest.mark.parametrize("sent", [0, 1, 12])
    def test_the_apps_error_has_the_next_number_and_its_fields_at_both_levels(
        self, events: ResponseEvents, sent: int
    ) -> None:
        for number in range(sent):
            events.feed(self.DELTA % number)
        # This one has not gone out.
        events.feed(self.DELTA[:-1] % sent)
        event = events.error_event(StreamInterrupted("broken"))
        assert event.startswith(b"event: error\ndata: ")
        (data,) = sse.data_of(event)
        flat = {"code": "stream_broken", "message": "broken", "param": None}
        error = {**flat, "type": "server_error"}
        assert json.loads(data) == {"type": "error", "sequence_number": sent, **flat, "error": error}

    @pytest.mark.parametrize("order", [[FAILED, ERROR], [ERROR, FAILED], [FAILED]])
    @pytest.mark.parametrize("split", [False, True])
    def test_a_failure_with_a_final_event_ends_in_order(
        self, events: ResponseEvents, order: list[bytes], split: bool
    ) -> None:
        chunks = [self.DELTA % 1, *order]
        output = b"".join(map(events.feed, chunks if split else [b"".join(chunks)])) + events.end()
        assert output == b"".join(chunks)
        assert events.progress is Progress.COMPLETE
        events.record.end(SUCCEEDED)
        assert events.record.outcome
        assert events.record.outcome.error == "upstream_error"
        assert events.record.outcome.cause == ("server_error" if self.ERROR in order else "")

    @pytest.mark.parametrize("rest", [b"", DELTA % 2, b"data: [DONE]\n\n", FAILED[:-20]])
    def test_an_error_without_a_final_event_leaves_the_stream_unfinished(self, events: ResponseEvents, rest: bytes) -> None:
        assert events.feed(self.DELTA % 1 + self.ERROR + rest) + events.end() == self.DELTA % 1 + self.ERROR
        assert events.progress is Progress.FAILED

    def test_a_final_event_with_half_a_character_is_recognized(self, events: ResponseEvents) -> None:
        fields = b'{"model":"m","output":["\\ud83d"],"usage":{"input_tokens":3}}'
        last = b'data: {"type":"response.incomplete","response":%s}\n\n' % fields
        assert events.feed(last) == last
        assert events.progress is Progress.COMPLETE
        assert events.record.metadata.usage
