"""Decide what the client gets of a stream: whole events, and on the OpenAI API exactly Azure's bytes."""

import re
from abc import ABC, abstractmethod
from enum import Enum, auto

import msgspec

from shared.errors import INVALID_JSON, StreamInterrupted
from shared.streaming import sse
from shared.telemetry.call_record import CallRecord
from shared.telemetry.response_metadata import FINAL_STATES, is_usage_only

# Bytes. Azure sends no event as large as this.
MAX_EVENT_SIZE = 64 * 1024 * 1024
# The last events of the Responses API, which sends no [DONE].
FINAL_EVENTS = frozenset(f"response.{state}" for state in FINAL_STATES)
FINAL_EVENT = re.compile(rb'"response\.(?:%s)"' % "|".join(FINAL_STATES).encode())


class Progress(Enum):
    """How far a stream has come."""

    OPEN = auto()
    """More content will follow."""
    COMPLETE = auto()
    """All content has arrived: a failure from here on is harmless. What still follows goes to the client."""
    FINISHED = auto()
    """All content has arrived, and what still follows is dropped."""
    INVALID = auto()
    """Azure has sent an error, or something unreadable, in place of content."""


class StreamFilter(ABC):
    """Turn the bytes of Azure's stream into the client's events, and show their metadata to `record`."""

    def __init__(self, record: CallRecord) -> None:
        self.record = record
        self.progress = Progress.OPEN

    @property
    def is_complete(self) -> bool:
        return self.progress in (Progress.COMPLETE, Progress.FINISHED)

    @abstractmethod
    def feed(self, chunk: bytes) -> bytes:
        """Return the whole events that `chunk`, split anywhere, adds for the client; possibly none."""

    @abstractmethod
    def end(self) -> bytes:
        """Return what is left for the client at the end of Azure's stream. Raise `StreamInterrupted` if it is truncated."""


class WholeEvents(StreamFilter):
    """Pass Azure's bytes on unchanged, but hold an event back until it is complete.

    So a comment or an error event of the app's never lands inside an event of Azure's.
    """

    def __init__(self, record: CallRecord) -> None:
        super().__init__(record)
        self.buffer = bytearray()

    def feed(self, chunk: bytes) -> bytes:
        known = len(self.buffer)
        self.buffer += chunk
        end = sse.last_end(self.buffer, known)
        if not end:
            if len(self.buffer) > MAX_EVENT_SIZE:
                self.buffer.clear()
                self.progress = Progress.FINISHED if self.is_complete else Progress.INVALID
            return b""
        events = bytes(self.buffer[:end])
        del self.buffer[:end]
        self.record.read_events(events)
        if is_last(events):
            self.progress = Progress.COMPLETE
        return events

    def end(self) -> bytes:
        rest = bytes(self.buffer)
        self.record.read_events(rest)
        if not self.is_complete and sse.has_data(rest):
            found = sse.data_of(rest)
            # Accept a last event whose data is complete and only whose end is missing.
            if not (found and all(map(is_whole, found))):
                raise StreamInterrupted
        self.progress = Progress.COMPLETE
        return rest


class WithoutUsage(WholeEvents):
    """Pass Azure's bytes on, but drop the event that has the usage and nothing else."""

    def feed(self, chunk: bytes) -> bytes:
        return without_usage(super().feed(chunk))

    def end(self) -> bytes:
        return without_usage(super().end())


def without_usage(events: bytes) -> bytes:
    return b"".join(event for event in sse.split(events) if not any(map(is_usage_only, sse.data_of(event))))


def is_last(events: bytes) -> bool:
    """Return whether one of these whole events says that the stream is complete."""
    if not (sse.DONE in events or FINAL_EVENT.search(events)):
        return False
    return any(data.strip() == sse.DONE or type_of(data) in FINAL_EVENTS for data in sse.data_of(events))


class TypedEvent(msgspec.Struct):
    type: str = ""


def type_of(data: bytes) -> str:
    """Return the type of an event of the Responses API, empty for any other event."""
    try:
        return msgspec.json.decode(data, type=TypedEvent).type
    except INVALID_JSON:
        return ""


def is_whole(data: bytes) -> bool:
    """Return whether `data`, from an event without its end, is complete."""
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except INVALID_JSON:
        return data == sse.DONE
    return True
