"""Test that the app recognizes the last event of a stream."""

import pytest

from shared.streaming.filters import Progress, WholeEvents
from tests.support.calls import chat_record


def is_last(events: bytes) -> bool:
    """Return whether a filter takes one of these events for the last one."""
    stream_filter = WholeEvents(chat_record())
    assert stream_filter.feed(events) == events
    return stream_filter.progress is Progress.COMPLETE


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r"])
@pytest.mark.parametrize(
    "events",
    [
        ["[DONE]"],
        ['{"choices":[]}', "[DONE]"],
        ['{"type":"response.completed","response":{"usage":{"input_tokens":null}}}'],
        ['{"sequence_number":9, "type" : "response.incomplete"}'],
        ['{"type":"response.failed"}'],
    ],
)
def test_the_last_event_is_recognized(events: list[str], end: str) -> None:
    text = "".join(f"data: {data}{end}" for data in events)
    assert is_last(text.encode())
    assert is_last((text + f": a comment{end}").encode())


@pytest.mark.parametrize(
    "data",
    [
        '{"choices":[{"delta":{"content":"[DONE]"}}]}',
        '{"choices":[{"delta":{"content":"\\ndata: [DONE]\\n"}}]}',
        '{"type":"response.output_text.delta","delta":"\\"type\\":\\"response.completed\\""}',
        '{"type":"response.created"}',
        '{"type":"response.created","response":{"metadata":{"type":"response.completed"}}}',
        "x[DONE]",
        "",
    ],
)
def test_no_other_event_is_mistaken_for_the_last_one(data: str) -> None:
    assert not is_last(f"data: {data}\n\n".encode())
