"""Generate and check function keys, as the host does."""

import secrets
from collections.abc import Iterable

from aiohttp import web

from local.host.worker import Function

KEY_HEADER = "x-functions-key"
ANONYMOUS, FUNCTION, ADMIN = "ANONYMOUS", "FUNCTION", "ADMIN"


class Keys:
    """Hold a master key, a host key for all functions, and a key for each function."""

    def __init__(self, functions: Iterable[Function]) -> None:
        self.master = secrets.token_urlsafe(24)
        self.host = secrets.token_urlsafe(24)
        protected = (f for f in functions if f.is_http and required_level(f) == FUNCTION)
        self.of_function = {function.name: secrets.token_urlsafe(24) for function in protected}

    def level(self, request: web.Request, function: str | None = None) -> str:
        """Return the authorization level of the request: `ADMIN`, `FUNCTION` (for `function` if given) or `ANONYMOUS`."""
        # If the header is present, even if empty, the host ignores the query.
        code = next((value for name, value in request.query.items() if name.lower() == "code"), "")
        key = request.headers.get(KEY_HEADER, code)
        if matches(key, self.master):
            return ADMIN
        own = self.of_function.get(function) if function else None
        return FUNCTION if matches(key, self.host) or (own and matches(key, own)) else ANONYMOUS

    def allow(self, request: web.Request, function: Function) -> bool:
        """Return whether the request may call the HTTP function `function`."""
        required = required_level(function)
        return required == ANONYMOUS or self.level(request, function.name) in (ADMIN, required)


def required_level(function: Function) -> str:
    return str(function.trigger.get("authLevel", FUNCTION)).upper()


def matches(presented: str, key: str) -> bool:
    return secrets.compare_digest(presented.encode(), key.encode())
