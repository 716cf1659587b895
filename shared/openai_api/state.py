"""Find the state that a request of the Responses API refers to: stored responses, items, sealed reasoning, files.

Only the endpoint that created it has it.
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from shared.errors import INVALID_JSON
from shared.openai_api.request_body import NULL, Fields
from shared.upstream.affinity import key_of

# Found in an input that may refer to something. Inputs can be large, and most refer to nothing.
REFERENCE = re.compile(rb'"(?:encrypted_content|file_id|item_reference)"|"id"\s*:\s*"rs_|\{\s*"id"\s*:\s*"[^"]*"\s*\}')


def state_of(fields: Fields) -> tuple[bytes, ...]:
    """Return the keys of the state that a request refers to, in the order of the request."""
    given = fields.get("input", NULL)
    found: list[Any] = []
    if REFERENCE.search(given):
        found += references(decoded(given))
    conversation = decoded(fields.get("conversation", NULL))
    found += [
        conversation.get("id") if isinstance(conversation, dict) else conversation,
        decoded(fields.get("previous_response_id", NULL)),
    ]
    return tuple(key_of(reference) for reference in found if reference and isinstance(reference, str))


def references(value: Any) -> Iterator[Any]:
    """Yield the references in an input, at any depth: sealed content, files, and items by their ids.

    A reference to an item may lack its type. https://platform.openai.com/docs/api-reference/responses/create
    """
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            yield from (item.get(name) for name in ("encrypted_content", "file_id"))
            reference = item.get("id")
            is_reasoning = str(reference).startswith("rs_")
            if is_reasoning or item.keys() == {"id"} or item.get("type", "") in (None, "item_reference"):
                yield reference
            item = list(item.values())
        if isinstance(item, list):
            pending += reversed(item)


def decoded(raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except INVALID_JSON:
        # Azure rejects it.
        return None
