"""Who may call the OpenAI-compatible routes: holders of a caller key."""

import hmac

from azurefunctions.extensions.http.fastapi import Request

from shared.errors import CallerRefused
from shared.settings import Settings

# Callers without a key of their own; no configured name can look like these.
ANYBODY = "(anybody)"
OF_CHAT = "(chat)"
# Where OpenAI's clients put their key, the ones for Azure, and some others.
KEY_HEADERS = ("authorization", "api-key", "x-api-key")
SCHEME = "bearer "


def caller_of(request: Request, settings: Settings) -> str:
    """The name that belongs to the key in the request's headers; its body is not touched. Raises `CallerRefused`.

    Without CALLER_KEYS nobody may call, except on a developer's own machine, where everybody may.
    """
    if not settings.caller_keys:
        if settings.is_local:
            return ANYBODY
        raise CallerRefused("This endpoint is closed. The app's operator can open it with the app setting CALLER_KEYS.")
    presented = [value for name in KEY_HEADERS for value in request.headers.getlist(name)]
    if not presented:
        raise CallerRefused(
            "A caller key is needed, as 'Authorization: Bearer KEY', 'api-key: KEY' or 'x-api-key: KEY'. Function keys and "
            "Entra tokens do not open this route."
        )
    found = None
    for text in presented:
        key = without_scheme(text).encode("latin-1")
        for known in settings.caller_keys:
            # All are compared, each in constant time: how long it takes tells at most how long the keys are.
            if hmac.compare_digest(key, known.key.encode()):
                found = known.name
    if found is None:
        raise CallerRefused("That caller key is not valid here.")
    return found


def without_scheme(text: str) -> str:
    """The key, which an Authorization header names the scheme before; some clients do so in other headers too."""
    return text[len(SCHEME) :].strip() if text[: len(SCHEME)].lower() == SCHEME else text
