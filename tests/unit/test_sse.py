"""Test that the event parser finds the same events wherever a stream is split."""

import pytest

from shared.streaming.sse import EventParser

STREAM = 'data: {"a":1}\n\n: comment\n\ndata:two\r\ndata: lines ü\r\n\r\nevent: x\rdata: three\r\rdata: [DONE]\n\n'.encode()
EVENTS = [b'{"a":1}', "two\nlines ü".encode(), b"three", b"[DONE]"]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
def test_events_are_found_wherever_the_stream_is_split(size: int) -> None:
    parser = EventParser()
    found = [data for i in range(0, len(STREAM), size) for data in parser.feed(STREAM[i : i + size])]
    assert found == EVENTS


def test_every_split_in_two_gives_the_same_events() -> None:
    for i in range(len(STREAM)):
        parser = EventParser()
        assert parser.feed(STREAM[:i]) + parser.feed(STREAM[i:]) == EVENTS


# https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [b"YHOO\n+2\n10"]),
        (
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            [b"first event", b"second event", b" third event"],
        ),
        (b"data\n\ndata\ndata\n\ndata:", [b"", b"\n"]),
        (b"data:test\n\ndata: test\n\n", [b"test", b"test"]),
    ],
)
def test_the_examples_of_the_specification_are_parsed_as_it_says(stream: bytes, events: list[bytes]) -> None:
    assert EventParser().feed(stream) == events


def test_an_incomplete_event_is_not_returned() -> None:
    assert EventParser().feed(b"data: half\n") == []
