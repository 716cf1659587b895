"""Decide what the client gets of a stream: whole events, and on the OpenAI API exactly Azure's bytes."""

import re
from abc import ABC, abstractmethod
from enum import Enum, auto

import msgspec

from shared.errors import INVALID_JSON, GatewayError, StreamInterrupted
from shared.streaming import sse
from shared.telemetry.call_record import CallRecord
from shared.telemetry.response_metadata import FINAL_STATES, decode_json, is_usage_only, metadata_of

# Bytes. Azure sends no event as large as this.
MAX_EVENT_SIZE = 64 * 1024 * 1024
# The last events of the operations that send no [DONE].
FINAL_EVENTS = {
    *(f"response.{state}" for state in FINAL_STATES),
    "image_edit.completed",
    "image_generation.completed",
    "speech.audio.done",
    "transcript.text.done",
}
# The other kinds of events that may end a stream.
DONE, ERROR = "[DONE]", "error"
ERROR_EVENT = re.compile(rb'"(?:error"|message"\s*:\s*")')
FINAL_EVENT = re.compile(rb'"(?:%s)"' % "|".join(map(re.escape, FINAL_EVENTS)).encode())


class Progress(Enum):
    """How far a stream has come."""

    OPEN = auto()
    """More content will follow."""
    COMPLETE = auto()
    """All content has arrived: a failure from here on is harmless. What still follows goes to the client."""
    FINISHED = auto()
    """All content has arrived, and what still follows is dropped."""
    FAILED = auto()
    """Azure has reported an error in place of content, and the client has it."""
    INVALID = auto()
    """Azure has sent something unreadable in place of content."""


class StreamFilter(ABC):
    """Turn the bytes of Azure's stream into the client's events, and show their metadata to `record`."""

    keep_alive = sse.KEEP_ALIVE
    """What the client gets in place of content while Azure is silent."""
    keeps_status = False
    """Whether the client gets the status of Azure's response. Otherwise, it is 200, and an error is an event."""

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

    def error_event(self, error: GatewayError) -> bytes:
        """Return the event that reports an error of the app's own."""
        return sse.event(msgspec.json.encode({"error": error.detail()}))


class WholeEvents(StreamFilter):
    """Pass Azure's bytes on unchanged, but hold an event back until it is complete, and drop what follows an error.

    So an event of the app's never lands inside an event of Azure's. If the Responses API reports an error, its final event
    may follow, and is passed on.
    """

    def __init__(self, record: CallRecord) -> None:
        super().__init__(record)
        self.buffer = bytearray()

    def feed(self, chunk: bytes) -> bytes:
        if self.progress is Progress.FINISHED:
            return b""
        known = len(self.buffer)
        self.buffer += chunk
        end = sse.last_end(self.buffer, known)
        if not end:
            if len(self.buffer) > MAX_EVENT_SIZE:
                self.buffer.clear()
                # After an error, it is dropped like everything else.
                if self.progress is not Progress.FAILED:
                    self.progress = Progress.FINISHED if self.is_complete else Progress.INVALID
            return b""
        events = bytes(self.buffer[:end])
        del self.buffer[:end]
        self.record.read_events(events)
        return self.passed_on(events)

    def passed_on(self, events: bytes) -> bytes:
        """Return those of these whole events that the client gets, and note the progress that they show."""
        if self.progress is not Progress.FAILED and not may_end(events):
            return events
        output = []
        for event in sse.split(events):
            kinds = {kind_of(data) for data in sse.data_of(event)} if may_end(event) else set()
            if kinds & FINAL_EVENTS or (DONE in kinds and self.progress is Progress.OPEN):
                self.progress = Progress.COMPLETE
            if self.progress is not Progress.FAILED:
                output.append(event)
            if ERROR in kinds and self.progress is Progress.OPEN:
                self.progress = Progress.FAILED
        return b"".join(output)

    def end(self) -> bytes:
        rest = bytes(self.buffer)
        self.record.read_events(rest)
        if self.progress is Progress.OPEN and sse.has_data(rest):
            found = sse.data_of(rest)
            # Accept a last event whose data is complete and only whose end is missing.
            if not (found and all(map(is_whole, found))):
                raise StreamInterrupted
        rest = self.passed_on(rest)
        if self.progress is Progress.OPEN and not self.record.may_end_here:
            raise StreamInterrupted
        if self.progress is Progress.FAILED:
            # Clients ignore an event without its end.
            return rest and rest + b"\n\n"
        self.progress = Progress.COMPLETE
        return rest


class BinaryBody(StreamFilter):
    """Pass on a binary response, which has no events."""

    keep_alive = b""
    keeps_status = True

    def feed(self, chunk: bytes) -> bytes:
        return chunk

    def end(self) -> bytes:
        self.progress = Progress.COMPLETE
        return b""

    def error_event(self, error: GatewayError) -> bytes:
        return b""


class ResponseEvents(WholeEvents):
    """Pass on the events of the Responses API, and report the app's own errors in its format."""

    def __init__(self, record: CallRecord) -> None:
        super().__init__(record)
        self.numbered = b""
        """The last events with sequence numbers that the client got."""

    def feed(self, chunk: bytes) -> bytes:
        events = super().feed(chunk)
        if b'"sequence_number"' in events:
            self.numbered = events
        return events

    def error_event(self, error: GatewayError) -> bytes:
        """Return the error with its fields at both levels: some SDKs look for the flat ones, others for `error`."""
        number = 1 + max(map(sequence_number, sse.data_of(self.numbered)), default=-1)
        detail = error.detail()
        fields = {"type": ERROR, "sequence_number": number, **{n: detail[n] for n in ("code", "message", "param")}}
        return b"event: error\n" + sse.event(msgspec.json.encode({**fields, "error": detail}))


class WithoutUsage(WholeEvents):
    """Pass Azure's bytes on, but drop the event that has the usage and nothing else."""

    def feed(self, chunk: bytes) -> bytes:
        return without_usage(super().feed(chunk))

    def end(self) -> bytes:
        return without_usage(super().end())


def without_usage(events: bytes) -> bytes:
    return b"".join(event for event in sse.split(events) if not any(map(is_usage_only, sse.data_of(event))))


def may_end(events: bytes) -> bool:
    """Return whether `events` may have one that ends the stream. Text never matches: inside it, quotes are escaped."""
    return sse.DONE in events or ERROR_EVENT.search(events) is not None or FINAL_EVENT.search(events) is not None


class NumberedEvent(msgspec.Struct):
    sequence_number: int = -1


def kind_of(data: bytes) -> str:
    """Return `DONE`, `ERROR`, or the type of an event of the Responses API; empty for any other event."""
    if data.strip() == sse.DONE:
        return DONE
    event = metadata_of(data)
    kind = event.type or ""
    # Chats report an error in an object without a type.
    return ERROR if event.reported_error is not None and not kind.startswith("response.") else kind


def sequence_number(data: bytes) -> int:
    """Return the number of an event of the Responses API, -1 if it has none."""
    try:
        return decode_json(data, NumberedEvent).sequence_number
    except INVALID_JSON:
        return -1


def is_whole(data: bytes) -> bool:
    """Return whether `data`, from an event without its end, is complete."""
    try:
        decode_json(data, msgspec.Raw)
    except INVALID_JSON:
        return data == sse.DONE
    return True
