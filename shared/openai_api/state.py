"""Find the state that a request of the Responses API refers to: stored responses, items, sealed reasoning, files.

Only the endpoint that created it has it.
"""

import re
from typing import Any

import msgspec

from shared.errors import INVALID_JSON
from shared.openai_api.request_body import NULL, Fields
from shared.upstream.affinity import key_of

# Found in an input that may refer to something. Inputs can be large, and most refer to nothing.
REFERENCE = re.compile(rb'"(?:encrypted_content|file_id|id)"\s*:')


class State:
    """The references in a request, as keys (see `affinity`).

    `needed` are those without which Azure cannot serve it. `repeated` are the ids of items that are there in full: Azure
    rejects some of them if another resource has created them.
    """

    def __init__(self, fields: Fields) -> None:
        self.needed: list[bytes] = []
        self.repeated: list[bytes] = []
        given = fields.get("input", NULL)
        if REFERENCE.search(given):
            self.read_input(decoded(given))
        conversation = decoded(fields.get("conversation", NULL))
        self.need(conversation.get("id") if isinstance(conversation, dict) else conversation)
        self.need(decoded(fields.get("previous_response_id", NULL)))

    def read_input(self, given: Any) -> None:
        """Find the references in an input, at any depth."""
        pending = [given]
        while pending:
            item = pending.pop()
            if isinstance(item, dict):
                self.read_item(item)
                item = list(item.values())
            if isinstance(item, list):
                pending += reversed(item)

    def read_item(self, item: dict[str, Any]) -> None:
        self.need(item.get("encrypted_content"))
        self.need(item.get("file_id"))
        reference = item.get("id")
        # A reference may lack its type. https://platform.openai.com/docs/api-reference/responses/create
        if item.keys() == {"id"} or item.get("type", "") in (None, "item_reference") or str(reference).startswith("rs_"):
            self.need(reference)
        elif isinstance(reference, str):
            self.repeated.append(key_of(reference))

    def need(self, reference: object) -> None:
        if reference and isinstance(reference, str):
            self.needed.append(key_of(reference))


def decoded(raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except INVALID_JSON:
        # Azure rejects it.
        return None
