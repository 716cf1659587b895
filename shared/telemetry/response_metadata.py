"""Read the metadata of a response or of a stream's event: id, model, finish reasons, usage and errors."""

import re

import msgspec

from shared.errors import INVALID_JSON

# The final states of a response of the Responses API.
FINAL_STATES = ("completed", "failed", "incomplete", "cancelled")
# Finds the events that carry more than a chunk of text. Inside JSON strings quotes are escaped, so text never matches.
# The Responses API names its events; the last one has the response's state, and an error event only a code.
METADATA = re.compile(
    rb'"(?:usage"\s*:\s*\{|error"\s*:\s*\{|finish_reason"\s*:\s*"|type"\s*:\s*"(?:error|response\.(?:%s))")'
    % "|".join(FINAL_STATES).encode()
)


class Usage(msgspec.Struct):
    """Token counts: the first two are the names in Chat Completions and embeddings, the others in the Responses API."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class Choice(msgspec.Struct):
    finish_reason: str | None = None


class ResponseMetadata(msgspec.Struct):
    """The metadata of a response, or of an event of a stream."""

    id: str = ""
    model: str = ""
    choices: list[Choice] = []
    usage: Usage | None = None
    status: str | None = None
    """The state of a response of the Responses API."""
    error: dict[str, msgspec.Raw] | None = None
    type: str = ""
    response: "ResponseMetadata | None" = None
    """Set in events of the Responses API."""

    @property
    def is_error(self) -> bool:
        return self.error is not None or self.type == "error"


def metadata_of(body: bytes) -> ResponseMetadata:
    """Return the metadata in `body`, JSON; empty if it cannot be read."""
    try:
        return msgspec.json.decode(body, type=ResponseMetadata)
    except INVALID_JSON:
        return ResponseMetadata()


def is_usage_only(data: bytes) -> bool:
    """Return whether an event of a streamed chat completion has the usage and no choices."""
    metadata = metadata_of(data) if METADATA.search(data) else ResponseMetadata()
    return metadata.usage is not None and not metadata.choices
