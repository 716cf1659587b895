"""Find the state that a request of the Responses API refers to: stored responses, items, sealed reasoning, files.

Only the endpoint that created it has it.
"""

import re
from collections.abc import Iterator
from itertools import islice

import msgspec

from shared.errors import INVALID_JSON
from shared.openai_api.request_body import NULL, Fields
from shared.upstream.affinity import key_of
from shared.upstream.request import State

# The references in an input, at any depth. The input is searched and not decoded, because millions of items would become as
# many objects. Inside JSON strings quotes are escaped, so text never matches. A reference has no quotes itself. The
# quantifiers are possessive, because backtracking in a large input would block the event loop.
REFERENCE = re.compile(rb'"(encrypted_content|file_id|id)"\s*+:\s*+("[^"]*+")')
# Items that are there by their ids alone. Three patterns with literal beginnings are faster than one.
# https://platform.openai.com/docs/api-reference/responses/create
ITEM_REFERENCES = (
    re.compile(rb'"item_reference"'),
    re.compile(rb'"id"\s*+:\s*+"rs_'),
    re.compile(rb'\{\s*+"id"\s*+:\s*+"[^"]*+"\s*+(?:,\s*+"type"\s*+:\s*+null\s*+)?\}'),
)
# More references than any conversation has.
MOST_REFERENCES = 5000


def state_of(fields: Fields) -> State:
    """Return the state that a request refers to, in the order of the request."""
    given = fields.get("input", NULL)
    found = [(name, text(value)) for name, value in islice(matches(given), MOST_REFERENCES)]
    conversation = fields.get("conversation", NULL)
    named = [text(value) for _, value in matches(conversation)] or [text(conversation)]
    named += [text(fields.get("previous_response_id", NULL))]
    keys = [key_of(reference) for reference in (*(value for _, value in found), *named) if reference]
    is_needed = any(named) or any(value for name, value in found if name != b"id")
    return State(tuple(keys), is_needed or (bool(keys) and any(form.search(given) for form in ITEM_REFERENCES)))


def matches(value: bytes) -> Iterator[tuple[bytes, bytes]]:
    return ((found[1], found[2]) for found in REFERENCE.finditer(value))


def text(value: bytes | msgspec.Raw) -> str:
    """Return a JSON string, empty for anything else."""
    try:
        return msgspec.json.decode(value, type=str)
    except INVALID_JSON:
        return ""
