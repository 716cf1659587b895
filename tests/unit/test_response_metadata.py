"""Test what is read of the metadata in Azure's JSON, whatever is missing or invalid in it."""

import json
from typing import Any

import pytest

from shared.telemetry.response_metadata import metadata_of

TOKENS = {"input_tokens": 11, "output_tokens": 7, "cached_tokens": 5, "reasoning_tokens": 3}
IN_CHATS = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "prompt_tokens_details": {"cached_tokens": 5, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": 0},
}
ELSEWHERE = {
    "input_tokens": 11,
    "output_tokens": 7,
    "input_tokens_details": {"cached_tokens": 5},
    "output_tokens_details": {"reasoning_tokens": 3},
}
# The field that has each count.
FIELDS = {
    "input_tokens": ("prompt_tokens", "input_tokens"),
    "output_tokens": ("completion_tokens", "output_tokens"),
    "cached_tokens": ("prompt_tokens_details", "input_tokens_details"),
    "reasoning_tokens": ("completion_tokens_details", "output_tokens_details"),
}
INVALID = ["11", [], {}, True, -1, 1.5, 2**63, 10**30, None]


def reported(usage: Any) -> dict[str, int]:
    """Return the counts in a `usage` of a response whose other metadata is fine, and assert that it is all read."""
    metadata = metadata_of(json.dumps({"id": "a", "model": "b", "status": "completed", "usage": usage}).encode())
    assert (metadata.id, metadata.model, metadata.status) == ("a", "b", "completed")
    return metadata.usage.reported() if metadata.usage else {}


@pytest.mark.parametrize("usage", [IN_CHATS, ELSEWHERE])
@pytest.mark.parametrize("invalid", INVALID, ids=repr)
@pytest.mark.parametrize("kind", FIELDS)
def test_an_invalid_count_costs_no_other_metadata(usage: dict[str, Any], kind: str, invalid: Any) -> None:
    rest = {name: count for name, count in TOKENS.items() if name != kind}
    for field in set(FIELDS[kind]) & set(usage):
        assert reported(usage) == TOKENS
        assert reported({**usage, field: invalid}) == rest
        if field.endswith("details"):
            assert reported({**usage, field: {kind: invalid}}) == rest
        assert reported({name: value for name, value in usage.items() if name != field}) == rest


@pytest.mark.parametrize("usage", [None, 7, "11", [], {}, {"type": "duration", "seconds": 3}, {"seconds": 0.5}])
def test_a_usage_without_tokens_reports_none(usage: Any) -> None:
    assert reported(usage) == {}


def test_zero_is_reported() -> None:
    assert reported({"prompt_tokens": 0, "completion_tokens": 0}) == {"input_tokens": 0, "output_tokens": 0}


def test_the_usage_of_a_transcription_is_read() -> None:
    details = {"text_tokens": 1, "audio_tokens": 10}
    usage = {"type": "tokens", "input_tokens": 11, "output_tokens": 7, "input_token_details": details}
    assert reported(usage) == {"input_tokens": 11, "output_tokens": 7}


def test_the_count_of_input_tokens_is_no_usage() -> None:
    assert metadata_of(b'{"object":"response.input_tokens","input_tokens":11}').usage is None


def test_an_invalid_field_of_a_response_in_an_event_costs_no_other_metadata() -> None:
    response = {"id": "a", "model": 7, "usage": {**ELSEWHERE, "output_tokens": "7"}}
    found = metadata_of(json.dumps({"type": "response.completed", "response": response}).encode())
    assert found.response
    assert found.response.id == "a"
    assert found.response.usage
    assert found.response.usage.reported() == {name: n for name, n in TOKENS.items() if name != "output_tokens"}
