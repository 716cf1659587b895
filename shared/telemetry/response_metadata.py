"""Read the metadata of a response or of a stream's event: id, model, finish reasons, usage and errors."""

import re
from contextlib import suppress
from typing import Annotated, Any, get_args

import msgspec

from shared.errors import INVALID_JSON, ErrorDetail, error_in
from shared.surrogates import replace_half_pairs

# The final states of a response of the Responses API.
FINAL_STATES = ("completed", "failed", "incomplete", "cancelled")
# Finds the events that carry more than a chunk of text. Inside JSON strings quotes are escaped, so text never matches.
# The Responses API names its events; the last one has the response's state, and an error event only a code. Items may
# hold sealed reasoning.
METADATA = re.compile(
    rb'"(?:usage"\s*:\s*\{|error"\s*:\s*[{"]|message"\s*:\s*"|finish_reason"\s*:\s*"'
    rb'|type"\s*:\s*"(?:error|response\.(?:output_item\.done|%s))")' % "|".join(FINAL_STATES).encode()
)


# A number of tokens. Exporters fail at larger numbers, and metrics at negative ones.
type Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class TokenDetails(msgspec.Struct):
    cached_tokens: Count | None = None
    reasoning_tokens: Count | None = None


NO_DETAILS = TokenDetails()


class Usage(msgspec.Struct):
    """Token counts, by their names in chats, completions and embeddings (`prompt`, `completion`) and everywhere else.

    It has no counts if the usage is a duration.
    """

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    prompt_tokens_details: TokenDetails | None = None
    completion_tokens_details: TokenDetails | None = None
    input_tokens_details: TokenDetails | None = None
    output_tokens_details: TokenDetails | None = None

    def reported(self) -> dict[str, int]:
        """Return the counts that Azure has reported. Cached tokens are part of the input, reasoning tokens of the output."""
        of_input = self.prompt_tokens_details or self.input_tokens_details or NO_DETAILS
        of_output = self.completion_tokens_details or self.output_tokens_details or NO_DETAILS
        counts = {
            "input_tokens": self.input_tokens if self.prompt_tokens is None else self.prompt_tokens,
            "output_tokens": self.output_tokens if self.completion_tokens is None else self.completion_tokens,
            "cached_tokens": of_input.cached_tokens,
            "reasoning_tokens": of_output.reasoning_tokens,
        }
        return {kind: count for kind, count in counts.items() if count is not None}


class Choice(msgspec.Struct):
    finish_reason: str | None = None


class Item(msgspec.Struct):
    """An item of a response's output."""

    id: str | None = None
    encrypted_content: str | None = None


class ResponseMetadata(msgspec.Struct):
    """The metadata of a response, or of an event of a stream. Azure sends null in any of these fields."""

    id: str | None = None
    model: str | None = None
    choices: list[Choice | None] | None = None
    usage: Usage | None = None
    status: str | None = None
    """The state of a response of the Responses API."""
    output: list[msgspec.Raw] | None = None
    """The items that the response created, undecoded: strange ones must not cost the usage."""
    conversation: Any = None
    error: Any = None
    type: str | None = None
    response: "ResponseMetadata | None" = None
    """Set in events of the Responses API."""
    item: msgspec.Raw = msgspec.Raw(b"null")
    """Set in events about one item of the output."""
    code: Any = None
    """Set in error events, and so are the next three. Azure's gateways use the last one."""
    message: Any = None
    param: Any = None
    status_code: Any = msgspec.field(name="statusCode", default=None)

    @property
    def reported_error(self) -> ErrorDetail | None:
        """Return the error that this reports: in a field, as an event of its own, or as a response that failed.

        It is empty if the response failed without saying why.
        """
        is_bare = not self.type and self.choices is None and bool(self.code or self.status_code) and bool(self.message)
        if self.type == "error" or is_bare:
            nested = error_in(self.error)
            event = {"code": self.code or self.status_code, "message": self.message, "param": self.param}
            return nested if nested.code or nested.message else error_in(event)
        reported = self.response or self
        if reported.error:
            return error_in(reported.error)
        return ErrorDetail() if reported.status == "failed" else None

    def references(self) -> list[str]:
        """Return the ids and the sealed content by which later calls refer to this response, or to an item of it."""
        reported = self.response or self
        conversation = reported.conversation.get("id") if isinstance(reported.conversation, dict) else None
        found = [reported.id, conversation]
        for raw in [self.item, *(reported.output or [])]:
            with suppress(*INVALID_JSON):
                item = msgspec.json.decode(raw, type=Item)
                found += [item.id, item.encrypted_content]
        return [text for text in found if isinstance(text, str) and text]


# The types of objects whose valid fields count if others are invalid.
STRUCTS = {ResponseMetadata, TokenDetails, Usage}


def decode_json[T](data: bytes, kind: type[T]) -> T:
    """Decode Azure's JSON. Replace halves of surrogate pairs, which msgspec rejects, by U+FFFD. Raise `INVALID_JSON`."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        return msgspec.json.decode(replace_half_pairs(data)[0], type=kind)


def metadata_of(body: bytes) -> ResponseMetadata:
    """Return the metadata in `body`, JSON, without the fields that have an unexpected type; empty if it cannot be read."""
    with suppress(*INVALID_JSON):
        try:
            return decode_json(body, ResponseMetadata)
        except msgspec.ValidationError:
            return valid_fields(body, ResponseMetadata)
    return ResponseMetadata()


def valid_fields[T: msgspec.Struct](body: bytes, kind: type[T]) -> T:
    """Return the `kind` in a JSON object, without invalid fields, also in the objects in it. Raise `INVALID_JSON`."""
    fields = decode_json(body, dict[str, msgspec.Raw])
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        if raw := fields.get(field.encode_name):
            with suppress(*INVALID_JSON):
                try:
                    found[field.name] = msgspec.json.decode(raw, type=field.type)
                except msgspec.ValidationError:
                    for struct in set(get_args(field.type)) & STRUCTS:
                        found[field.name] = valid_fields(raw, struct)
    return kind(**found)


def is_usage_only(data: bytes) -> bool:
    """Return whether an event of a streamed chat completion has the usage and no choices."""
    metadata = metadata_of(data) if METADATA.search(data) else ResponseMetadata()
    return metadata.usage is not None and not metadata.choices
