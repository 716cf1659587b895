"""What the caller gets of a stream's bytes: whole events, and on OpenAI's routes exactly Azure's."""

from abc import ABC, abstractmethod

from shared.errors import StreamBroken
from shared.streaming import sse
from shared.telemetry.call_record import CallRecord
from shared.wire import LARGEST, is_last, is_usage_alone, is_whole


class Events(ABC):
    """Makes the caller's events of the bytes of Azure's stream, and tells `record` what they tell."""

    is_done = False
    """Whether the stream has said that it is complete: what breaks then, breaks nothing."""
    is_over = False
    """Whether the caller has all there will be, although Azure's stream may not have ended."""
    is_broken = False
    """Whether something has come of which no events can be made."""

    def __init__(self, record: CallRecord) -> None:
        self.record = record

    @abstractmethod
    def feed(self, chunk: bytes) -> bytes:
        """What `chunk`, split off anywhere, adds for the caller: whole events, or nothing."""

    @abstractmethod
    def end(self) -> bytes:
        """What is left for the caller when Azure's stream has ended. May raise `StreamBroken` when that was too early."""


class WholeEvents(Events):
    """The bytes as they are, all of them and no others, but no event in parts.

    So what the app adds, a comment or the news of a failure, never stands inside an event.
    """

    def __init__(self, record: CallRecord) -> None:
        super().__init__(record)
        self.rest = bytearray()

    def feed(self, chunk: bytes) -> bytes:
        known = len(self.rest)
        self.rest += chunk
        end = sse.last_end(self.rest, known)
        if not end:
            self.is_broken = len(self.rest) > LARGEST
            return b""
        events = bytes(self.rest[:end])
        del self.rest[:end]
        self.record.read_events(events)
        if is_last(events):
            self.is_done = True
            self.record.completed()
        return events

    def end(self) -> bytes:
        rest = bytes(self.rest)
        self.record.read_events(rest)
        if not (self.is_done or sse.is_silent(rest)):
            found = sse.data_of(rest)
            # In the middle of an event, unless all that it lacks is its end.
            if not (found and all(map(is_whole, found))):
                raise StreamBroken
        return rest


class WithoutUsage(WholeEvents):
    """The same without the event that brings nothing but the usage."""

    def feed(self, chunk: bytes) -> bytes:
        return without_usage(super().feed(chunk))

    def end(self) -> bytes:
        return without_usage(super().end())


def without_usage(events: bytes) -> bytes:
    return b"".join(event for event in sse.split(events) if not any(map(is_usage_alone, sse.data_of(event))))
