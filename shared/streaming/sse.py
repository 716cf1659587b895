"""The few things the app needs to know about server-sent events.

The format: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

import re

CONTENT_TYPE = "text/event-stream; charset=utf-8"
COMMENT = b": keep-alive\n\n"
DONE = b"[DONE]"
# Two line ends in a row end an event. A carriage return alone may be half of one, unless another follows.
EVENT_ENDS = (b"\n\n", b"\n\r\n", b"\r\r")
WHOLE_EVENT = re.compile(b".*?(?:%s)|.+" % b"|".join(EVENT_ENDS), re.DOTALL)


def event(data: bytes) -> bytes:
    """One event; `data` must hold no line break, as JSON from msgspec does not."""
    return b"data: " + data + b"\n\n"


def last_end(data: bytearray, known: int) -> int:
    """Where the last event that is complete in `data` ends; 0 when there is none after the first `known` bytes."""
    start = max(known - 2, 0)
    ends = ((data.rfind(end, start), len(end)) for end in EVENT_ENDS)
    return max((found + length for found, length in ends if found >= 0), default=0)


def is_silent(data: bytes) -> bool:
    """Whether `data` holds nothing but comments and empty lines."""
    return all(not line or line.startswith(b":") for line in data.splitlines())


def split(data: bytes) -> list[bytes]:
    """The events in `data`, each with its end; what follows the last one comes last."""
    return WHOLE_EVENT.findall(data)


def is_one_line(chunk: bytes) -> bool:
    """Whether `chunk` is one event with one line of data, as most of Azure's are."""
    at_end = chunk.find(b"\n") == len(chunk) - 2
    return at_end and chunk.startswith(b"data: ") and chunk.endswith(b"\n\n") and b"\r" not in chunk


class EventParser:
    """Turns a stream of bytes, split anywhere, into the data of its events."""

    def __init__(self) -> None:
        self.rest = bytearray()
        self.data: list[bytes] = []
        self.size = 0
        """Of the data that waits for the end of its event, in bytes."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of the events that `chunk` completes. Comments and fields other than data are passed over."""
        if not (self.rest or self.data) and is_one_line(chunk):
            return [chunk[6:-2]]
        self.rest += chunk
        if b"\n" not in chunk and b"\r" not in chunk:
            return []
        lines = bytes(self.rest).splitlines(keepends=True)
        # A last line without its end waits for the rest; so does one that ends in \r, which may be half of \r\n.
        self.rest = bytearray(lines.pop() if lines and not lines[-1].endswith(b"\n") else b"")
        complete = []
        for line in lines:
            content = line.rstrip(b"\r\n")
            if content == b"data" or content.startswith(b"data:"):
                self.data.append(content[5:].removeprefix(b" "))
                self.size += len(content)
            elif not content and self.data:
                complete.append(b"\n".join(self.data))
                self.data.clear()
                self.size = 0
        return complete


def data_of(events: bytes) -> list[bytes]:
    """The data of `events`, whole ones."""
    # A carriage return at their end is no half of anything; and the last one may lack its end.
    return EventParser().feed(events + b"\n\n")
