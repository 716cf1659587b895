"""Find the caller who has a key."""

import hmac
from collections.abc import Iterable

from shared.settings import Settings


def caller_with(presented: Iterable[str], settings: Settings) -> str | None:
    """Return the name of the caller whose key is among the texts, or None."""
    found = None
    for text in presented:
        key = text.encode("latin-1")
        for known in settings.caller_keys:
            # Compare with every key, each in constant time, so that the time reveals at most the keys' lengths.
            if hmac.compare_digest(key, known.key.encode()):
                found = known.name
    return found
