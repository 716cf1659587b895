"""Test that the top-level fields of a body are found, and that its mistakes are named."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.errors import BadRequest
from shared.openai_api.request_body import LARGEST_REPAIR, parse_fields

HALF = "has half a surrogate pair"
# Texts with whole and half pairs, next to backslashes and to text that looks like an escape.
TEXTS = st.lists(st.sampled_from(["\ud83d", "\ude00", "\U0001f600", "\\", '"', "ud83d", "\n", "é", "a"])).map("".join)


def problem(body: bytes) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        parse_fields(body)
    return caught.value


@given(TEXTS)
@example("\ud83d\ude00")
@example("\\\ud83d")
@example("\ude00\ud83d")
def test_only_whole_characters_are_accepted(text: str) -> None:
    body = json.dumps({"a": "\ufffd", "b": [{"content": text}]})
    try:
        json.dumps(json.loads(body), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        found = problem(body.encode())
        assert found.message.startswith(f"'b' {HALF}")
        assert found.param == "b"
    else:
        assert list(parse_fields(body.encode())) == ["a", "b"]


@pytest.mark.parametrize(
    "half", [rb"\ud83d", rb"\uDE00", rb"\uD83D\uD83D", rb"\\\ud83d", rb"\ud83d\n\ude00", rb"\ud83d\\ude00"]
)
def test_half_a_pair_is_named_with_its_field(half: bytes) -> None:
    assert problem(b'{"x":1,"prompt":"%s"}' % half).param == "prompt"
    assert problem(b'{"x":1,"messages":[{"content":["%s"]}]}' % half).param == "messages"
    assert problem(b'{"x":1,"tools":[{"%s":1}]}' % half).param == "tools"
    assert "\ufffd" in str(problem(b'{"x":1,"%s":1}' % half).param)
    repeated = problem(b'{"x":"%s","x":1}' % half)
    assert (repeated.param, repeated.message.startswith(f"A field {HALF}")) == (None, True)


def test_half_a_pair_is_named_even_if_there_are_other_mistakes() -> None:
    assert problem(rb'{"prompt":"\ud83d",}').message.startswith(f"A field {HALF}")
    assert "must be a JSON object" in problem(rb'["\ud83d"]').message


def test_only_a_body_that_is_not_large_is_searched_for_half_a_pair() -> None:
    start, end = b'{"prompt":"', b'\\ud83d, and more"}'
    text = b"a" * (LARGEST_REPAIR - len(start) - len(end))
    assert problem(start + text + end).message.startswith(f"'prompt' {HALF}")
    found = problem(start + text + b"a" + end)
    assert (found.param, HALF in found.message) == (None, False)
    assert f"(byte {LARGEST_REPAIR - 11})" in found.message


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_other_encodings_of_unicode_are_named(encoding: str) -> None:
    assert f"must be UTF-8, but it seems to be {encoding[:6].upper()}" in problem('{"prompt":"é"}'.encode(encoding)).message
