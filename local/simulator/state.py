"""Keep what belongs to one resource and is unknown to all others: sealed content, conversations and files."""

import secrets
from collections.abc import Iterator
from typing import Any

from local.simulator import payloads
from local.simulator.payloads import ErrorResponse, Json


class ResourceState:
    """Seal content, and know the `conversations` and `files` in `settings`, which are lists of ids."""

    def __init__(self, settings: Json) -> None:
        self.settings = settings
        self.sealed: set[str] = set()

    def seal(self) -> str:
        """Return encrypted content that only this resource accepts. It looks like Azure's, which is a Fernet token."""
        content = f"gAAAAA{secrets.token_urlsafe(64)}=="
        self.sealed.add(content)
        return content

    def check_input(self, items: list[Json]) -> None:
        """Raise the error for encrypted content or a file of another resource, at any depth of `items`."""
        for item in objects(items):
            content, file_id = item.get("encrypted_content"), item.get("file_id")
            if content and content not in self.sealed:
                raise ErrorResponse(400, payloads.invalid_encrypted_content(item.get("id")))
            if file_id and file_id not in self.settings.get("files", ()):
                raise ErrorResponse(404, payloads.file_not_found(file_id))

    def conversation(self, given: Any) -> Json | None:
        """Return the conversation that a request names by its id or by an object with its id."""
        if given is None:
            return None
        conversation_id = given if isinstance(given, str) else given["id"]
        if conversation_id not in self.settings.get("conversations", ()):
            raise ErrorResponse(404, payloads.conversation_not_found(conversation_id))
        return {"id": conversation_id}


def objects(value: Any) -> Iterator[Json]:
    """Yield each JSON object in `value`, at any depth."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from objects(part)
