"""Find the caller behind a request of the OpenAI API."""

import base64
from typing import TYPE_CHECKING, Any

import msgspec
from azurefunctions.extensions.http.fastapi import Request

from shared.callers.keys import caller_with
from shared.errors import INVALID_JSON, Unauthorized
from shared.settings import Settings
from shared.upstream.transport import HttpClient

if TYPE_CHECKING:
    from shared.callers.entra import TokenCheck

# The names of callers without a key; no configured name may contain parentheses.
ANYBODY = "(anybody)"
CHAT = "(chat)"
# Where clients put their key or their token: OpenAI's, Azure's, and some others.
HEADERS = ("authorization", "api-key", "x-api-key")
SCHEME = "bearer "


class Callers:
    """Check the caller's key or token, whichever the settings allow. Without both, the API is closed, except locally."""

    def __init__(self, settings: Settings, http: HttpClient) -> None:
        self.settings = settings
        self.tokens = token_check(settings, http)

    async def caller_of(self, request: Request) -> str:
        """Return the name of the caller whose key or token is in the request's headers, before the body is read.

        A valid key counts whatever else is there. Raise `Unauthorized`, and what the check of a token raises.
        """
        settings = self.settings
        if not settings.caller_keys and not self.tokens:
            if settings.is_local:
                return ANYBODY
            raise Unauthorized(
                "This endpoint is closed. The app's operator can open it with CALLER_KEYS or CALLER_TENANT_ID."
            )
        presented = [without_scheme(value) for name in HEADERS for value in request.headers.getlist(name)]
        if not presented:
            raise Unauthorized(f"{self.accepted} Function keys do not open this route.")
        if name := caller_with(presented, settings):
            return name
        token = next(((text, header) for text in presented if (header := header_of(text))), None)
        if token is None:
            raise Unauthorized(
                "This caller key is not valid. Ask the app's operator for a key of your own."
                if settings.caller_keys
                else f"This is not an Entra ID token, and the app takes no keys. {self.accepted}"
            )
        if self.tokens is None:
            raise Unauthorized("This app takes caller keys, not Entra ID tokens. Ask the app's operator for a key.")
        return await self.tokens.caller_of(*token)

    @property
    def accepted(self) -> str:
        """Return a sentence that says what the app accepts."""
        if not self.tokens:
            return "A caller key is needed, as 'Authorization: Bearer KEY', 'api-key: KEY' or 'x-api-key: KEY'."
        if not self.settings.caller_keys:
            return "An Entra ID token for this app is needed, as 'Authorization: Bearer TOKEN'."
        return "A caller key or an Entra ID token for this app is needed, as 'Authorization: Bearer KEY-OR-TOKEN'."


def token_check(settings: Settings, http: HttpClient) -> "TokenCheck | None":
    """Return the check of Entra ID tokens, or None if they are not accepted."""
    if settings.entra is None:
        return None
    # Importing PyJWT and its cryptography lengthens the cold start.
    from shared.callers.entra import TokenCheck

    return TokenCheck(settings.entra, http)


def without_scheme(text: str) -> str:
    """Return the text without the scheme `Bearer`, which some clients send in the other headers, too."""
    return text[len(SCHEME) :].strip() if text[: len(SCHEME)].lower() == SCHEME else text


def header_of(text: str) -> dict[str, Any] | None:
    """Return the header of a token, or None if `text` does not look like one: JSON with `alg`, in base64url."""
    part = text.partition(".")[0]
    try:
        header = msgspec.json.decode(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, *INVALID_JSON):
        return None
    return header if isinstance(header, dict) and "alg" in header else None
