"""OpenAI's wire format, as far as the app reads it: headers, errors, and what stands beside what the model says."""

import re
from collections.abc import Mapping

import httpx2
import msgspec

from shared.streaming import sse

# What of Azure's headers callers see, besides the content type.
RETURNED_HEADERS = (
    "apim-request-id",
    "x-request-id",
    "x-ms-request-id",
    "x-ms-client-request-id",
    "x-ms-region",
    "retry-after",
    "retry-after-ms",
)
RETURNED_PREFIX = "x-ratelimit-"
# Bytes: no answer that is read as a whole, and no event of a stream, is as large as that.
LARGEST = 64 * 1024 * 1024
# What reading JSON raises.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
# The states of a response in which nothing more follows.
FINISHED = ("completed", "failed", "incomplete", "cancelled")
# Where an event of a stream tells more than a piece: in JSON, the quotes of what a model says are escaped. The Responses
# API names its events; the last one has the response's state, and one for errors has no more than their code.
TELLING = re.compile(
    rb'"(?:usage"\s*:\s*\{|error"\s*:\s*\{|finish_reason"\s*:\s*"|type"\s*:\s*"(?:error|response\.(?:%s))")'
    % "|".join(FINISHED).encode()
)
# The events of the Responses API that end a stream; it ends without [DONE].
FINISHED_EVENTS = frozenset(f"response.{state}" for state in FINISHED)
FINISHED_EVENT = re.compile(rb'"response\.(?:%s)"' % "|".join(FINISHED).encode())


def returned_headers(response: httpx2.Response) -> dict[str, str]:
    """Those of Azure's headers that callers may see."""
    return header_safe(
        {
            name: value
            for name, value in response.headers.items()
            if name in RETURNED_HEADERS or name.startswith(RETURNED_PREFIX)
        }
    )


def content_type(response: httpx2.Response) -> str:
    text: str = response.headers.get("content-type", "")
    return text if text and is_header_safe(text) else "application/json"


def header_safe(headers: Mapping[str, str]) -> dict[str, str]:
    """Those of `headers` whose values can be sent on: printable ASCII."""
    return {name: value for name, value in headers.items() if is_header_safe(value)}


def is_header_safe(value: str) -> bool:
    return value.isascii() and value.isprintable()


def loggable(text: str) -> str:
    """What of a text of Azure's, such as an error's code or a request's id, can go into a log."""
    return "".join(c for c in text if c.isalnum() or c in "._-")[:64]


class ErrorDetail(msgspec.Struct):
    """What an error of Azure's says of itself."""

    code: str | int | None = None
    message: str | None = None
    param: str | None = None


class ErrorBody(msgspec.Struct):
    error: ErrorDetail


def error_of(body: bytes) -> ErrorDetail:
    """The error in an answer of Azure's; an empty one where there is none. Its code can go into a log."""
    try:
        error = msgspec.json.decode(body, type=ErrorBody).error
    except UNREADABLE:
        return ErrorDetail(code="")
    error.code = loggable(str(error.code or ""))
    return error


class Usage(msgspec.Struct):
    """Tokens, by their names in Chat Completions and embeddings, and in the Responses API."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class Choice(msgspec.Struct):
    finish_reason: str | None = None


class Told(msgspec.Struct):
    """What an answer, or an event of a stream, tells of itself."""

    id: str = ""
    model: str = ""
    choices: list[Choice] = []
    usage: Usage | None = None
    status: str | None = None
    """A response's, which stands for the reason why it finished."""
    error: dict[str, msgspec.Raw] | None = None
    type: str = ""
    response: "Told | None" = None
    """In events of the Responses API."""

    @property
    def is_error(self) -> bool:
        return self.error is not None or self.type == "error"


class Event(msgspec.Struct):
    type: str = ""


def is_last(events: bytes) -> bool:
    """Whether `events`, whole ones, say that nothing more follows."""
    if not (sse.DONE in events or FINISHED_EVENT.search(events)):
        return False
    return any(data.strip() == sse.DONE or type_of(data) in FINISHED_EVENTS for data in sse.data_of(events))


def type_of(data: bytes) -> str:
    """The type that an event of the Responses API has; empty for any other."""
    try:
        return msgspec.json.decode(data, type=Event).type
    except UNREADABLE:
        return ""


def is_whole(data: bytes) -> bool:
    """Whether `data`, an event's without its end, is all of it."""
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except UNREADABLE:
        return data == sse.DONE
    return True


def told_by(body: bytes) -> Told:
    """What `body`, JSON, tells of itself; nothing when it cannot be read."""
    try:
        return msgspec.json.decode(body, type=Told)
    except UNREADABLE:
        return Told()


def is_usage_alone(data: bytes) -> bool:
    """Whether an event of a streamed chat completion brings the usage and nothing else."""
    told = told_by(data) if TELLING.search(data) else Told()
    return told.usage is not None and not told.choices
