"""Check caller keys: find the caller behind a request of the OpenAI API."""

import hmac

from azurefunctions.extensions.http.fastapi import Request

from shared.errors import Unauthorized
from shared.settings import Settings

# The names of callers without a key; no configured name may contain parentheses.
ANYBODY = "(anybody)"
CHAT = "(chat)"
# Where clients put their key: OpenAI's, Azure's, and some others.
KEY_HEADERS = ("authorization", "api-key", "x-api-key")
SCHEME = "bearer "


def caller_of(request: Request, settings: Settings) -> str:
    """Return the name of the caller whose key is in the request's headers, before the body is read. Raise `Unauthorized`.

    Without CALLER_KEYS the API is closed, except on a developer's own machine, where it is open to anybody.
    """
    if not settings.caller_keys:
        if settings.is_local:
            return ANYBODY
        raise Unauthorized("This endpoint is closed. The app's operator can open it with the app setting CALLER_KEYS.")
    presented = [value for name in KEY_HEADERS for value in request.headers.getlist(name)]
    if not presented:
        raise Unauthorized(
            "A caller key is needed, as 'Authorization: Bearer KEY', 'api-key: KEY' or 'x-api-key: KEY'. Function keys and "
            "Entra tokens do not open this route."
        )
    found = None
    for text in presented:
        key = without_scheme(text).encode("latin-1")
        for known in settings.caller_keys:
            # Compares with every key, each in constant time, so that the time reveals at most the keys' lengths.
            if hmac.compare_digest(key, known.key.encode()):
                found = known.name
    if found is None:
        raise Unauthorized("This caller key is not valid. Ask the app's operator for one of its CALLER_KEYS.")
    return found


def without_scheme(text: str) -> str:
    """Return the key without the scheme `Bearer`, which some clients send in the other headers, too."""
    return text[len(SCHEME) :].strip() if text[: len(SCHEME)].lower() == SCHEME else text
