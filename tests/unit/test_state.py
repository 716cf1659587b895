"""Test which state a request of the Responses API refers to."""

import json
import re
from typing import Any

import pytest

from shared.openai_api.request_body import parse_fields
from shared.openai_api.state import ITEM_REFERENCES, MOST_REFERENCES, REFERENCE, state_of
from shared.telemetry.response_metadata import ResponseMetadata, metadata_of
from shared.upstream.affinity import Affinity, key_of
from shared.upstream.request import State

MESSAGE = {"role": "user", "content": "Hello"}
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}


def state(**fields: Any) -> State:
    return state_of(parse_fields(json.dumps(fields).encode()))


@pytest.mark.parametrize(
    ("fields", "references"),
    [
        ({"input": "Hello", "previous_response_id": "resp_1"}, ["resp_1"]),
        ({"input": "Hello", "conversation": "conv_1"}, ["conv_1"]),
        ({"input": "Hello", "conversation": {"id": "conv_1"}}, ["conv_1"]),
        ({"input": [{"type": "reasoning", "summary": [], "encrypted_content": "gAA="}]}, ["gAA="]),
        ({"input": [{"type": "compaction", "encrypted_content": "a/b+c=="}, MESSAGE]}, ["a/b+c=="]),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, ["msg_1"]),
        ({"input": [{"id": "msg_1", "type": "item_reference"}]}, ["msg_1"]),
        ({"input": [{"id": "msg_1"}]}, ["msg_1"]),
        ({"input": [{"id": "msg_1", "type": None}]}, ["msg_1"]),
        ({"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}, ["rs_1"]),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]}, ["file-1"]),
        ({"input": [[[{"encrypted_content": "nested"}]]]}, ["nested"]),
        ({"input": [{"type": "item_reference", "id": "a"}, {"type": "item_reference", "id": "b"}]}, ["a", "b"]),
    ],
)
def test_references_are_found_in_any_place(fields: dict[str, Any], references: list[str]) -> None:
    assert state(**fields) == State(tuple(map(key_of, references)), is_needed=True)


@pytest.mark.parametrize(
    "fields",
    [
        {"input": "Hello"},
        {"input": [MESSAGE, {"role": "user", "content": [IMAGE]}]},
        {"input": "Hello", "previous_response_id": None, "conversation": None},
        {"input": [{"type": "reasoning", "encrypted_content": None, "summary": []}]},
        # Text that looks like a reference.
        {"input": json.dumps([{"type": "item_reference", "id": "msg_1"}])},
        {"input": [{"type": "function_call_output", "output": json.dumps({"encrypted_content": "x", "id": "rs_1"})}]},
        {"input": 5, "previous_response_id": 5, "conversation": [5]},
        {},
    ],
)
def test_other_requests_refer_to_nothing(fields: dict[str, Any]) -> None:
    assert state(**fields) == State()


def test_items_in_full_have_keys_but_are_not_needed() -> None:
    item = {"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]}
    assert state(input=[item]) == State((key_of("msg_1"),), is_needed=False)


def test_a_reference_may_be_escaped() -> None:
    fields = parse_fields(rb'{"input":[{"encrypted_content" : "a\/b\u003d"}]}')
    assert state_of(fields).keys == (key_of("a/b="),)


def test_an_escaped_quote_ends_no_reference() -> None:
    assert state(input=[{"id": 'a"b'}]) == State()


@pytest.mark.parametrize("pattern", [REFERENCE, *ITEM_REFERENCES])
def test_a_large_input_is_searched_without_backtracking(pattern: re.Pattern[bytes]) -> None:
    quantifiers = re.findall(rb"[*+?}]\+?", pattern.pattern.replace(rb"\}", b"").replace(b"(?:", b""))
    assert set(quantifiers) <= {b"*+", b"?"}


def test_the_number_of_references_has_a_limit() -> None:
    assert len(state(input=[{"id": str(number)} for number in range(MOST_REFERENCES + 10)]).keys) == MOST_REFERENCES


def test_the_memory_of_endpoints_has_a_limit_and_forgets_what_was_used_longest_ago() -> None:
    affinity, endpoint = Affinity(capacity=2), object()
    for name in ("a", "b"):
        affinity.learn(endpoint, ResponseMetadata(id=name))  # type: ignore[arg-type]
    assert affinity.endpoint_of([key_of("a")]) is endpoint
    affinity.learn(endpoint, ResponseMetadata(id="c"))  # type: ignore[arg-type]
    assert [affinity.endpoint_of([key_of(name)]) is endpoint for name in ("a", "b", "c")] == [True, False, True]


@pytest.mark.parametrize(
    ("event", "references"),
    [
        ({"type": "response.output_item.done", "item": {"id": "rs_1", "encrypted_content": "gAA="}}, ["rs_1", "gAA="]),
        ({"type": "response.created", "response": {"id": "resp_1", "output": []}}, ["resp_1"]),
        ({"type": "response.completed", "response": {"id": "resp_1", "output": [{"id": "msg_1"}]}}, ["resp_1", "msg_1"]),
        (
            {"id": "resp_1", "conversation": {"id": "conv_1"}, "output": ["strange", {"id": "fc_1"}]},
            ["resp_1", "conv_1", "fc_1"],
        ),
        ({"id": "resp_1", "usage": {"input_tokens": "strange"}, "output": [{"id": "msg_1"}]}, ["resp_1", "msg_1"]),
    ],
)
def test_state_is_learned_from_events_and_responses(event: Any, references: list[str]) -> None:
    assert metadata_of(json.dumps(event).encode()).references() == references
