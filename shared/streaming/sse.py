"""Parse and write server-sent events, as far as the app needs it.

The format: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

import re

CONTENT_TYPE = "text/event-stream; charset=utf-8"
# An empty line between two events. Some clients, such as azure-ai-inference, reject comments.
KEEP_ALIVE = b"\n"
DONE = b"[DONE]"
# Two line ends in a row end an event. A lone \r counts as a line end only before another \r: it may be half of \r\n.
EVENT_ENDS = (b"\n\n", b"\n\r\n", b"\r\r")
WHOLE_EVENT = re.compile(b".*?(?:%s)|.+" % b"|".join(EVENT_ENDS), re.DOTALL)


def event(data: bytes) -> bytes:
    """Return one event. `data` must be a single line, as JSON from msgspec is."""
    return b"data: " + data + b"\n\n"


def last_end(data: bytearray, known: int) -> int:
    """Return where the last complete event in `data` ends, 0 if none ends after the first `known` bytes."""
    start = max(known - 2, 0)
    ends = ((data.rfind(end, start), len(end)) for end in EVENT_ENDS)
    return max((found + length for found, length in ends if found >= 0), default=0)


def has_data(data: bytes) -> bool:
    """Return whether `data` has any line besides comments and empty lines."""
    return any(line and not line.startswith(b":") for line in data.splitlines())


def split(data: bytes) -> list[bytes]:
    """Return the events in `data`, each with its end, and an incomplete event last."""
    return WHOLE_EVENT.findall(data)


def is_one_line(chunk: bytes) -> bool:
    """Return whether `chunk` is one event with one line of data, as most of Azure's are."""
    at_end = chunk.find(b"\n") == len(chunk) - 2
    return at_end and chunk.startswith(b"data: ") and chunk.endswith(b"\n\n") and b"\r" not in chunk


class EventParser:
    """Turn a stream of bytes, split anywhere, into the data of its events."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.data: list[bytes] = []
        self.data_size = 0

    @property
    def buffered(self) -> int:
        """Return the size in bytes of the incomplete event."""
        return len(self.buffer) + self.data_size

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of the events that `chunk` completes. Ignore comments and fields other than data."""
        if not (self.buffer or self.data) and is_one_line(chunk):
            return [chunk[6:-2]]
        self.buffer += chunk
        if b"\n" not in chunk and b"\r" not in chunk:
            return []
        lines = bytes(self.buffer).splitlines(keepends=True)
        # An incomplete last line stays in the buffer; so does one that ends in \r, which may be half of \r\n.
        self.buffer = bytearray(lines.pop() if lines and not lines[-1].endswith(b"\n") else b"")
        complete = []
        for line in lines:
            content = line.rstrip(b"\r\n")
            if content == b"data" or content.startswith(b"data:"):
                self.data.append(content[5:].removeprefix(b" "))
                self.data_size += len(content)
            elif not content and self.data:
                complete.append(b"\n".join(self.data))
                self.data.clear()
                self.data_size = 0
        return complete


def data_of(events: bytes) -> list[bytes]:
    """Return the data of each event in `events`. The last one may lack the end of its line."""
    return EventParser().feed(events + b"\n\n")
