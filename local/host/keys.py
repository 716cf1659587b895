"""Function keys, as the host makes and checks them."""

import secrets
from collections.abc import Iterable

from aiohttp import web

from local.host.worker import Function

KEY_HEADER = "x-functions-key"
ANONYMOUS, FUNCTION, ADMIN = "ANONYMOUS", "FUNCTION", "ADMIN"


class Keys:
    """A master key, a host key for all functions, and a key for each function."""

    def __init__(self, functions: Iterable[Function]) -> None:
        self.master = secrets.token_urlsafe(24)
        self.host = secrets.token_urlsafe(24)
        asking = (f for f in functions if f.is_http and needed_level(f) == FUNCTION)
        self.of_function = {function.name: secrets.token_urlsafe(24) for function in asking}

    def level(self, request: web.Request, function: str | None = None) -> str:
        """What the request's key opens: `ADMIN`, `FUNCTION` (for `function`, if one is given), or only `ANONYMOUS`."""
        # A header hides the query, even an empty one.
        key = request.headers.get(KEY_HEADER, request.query.get("code", ""))
        if matches(key, self.master):
            return ADMIN
        own = self.of_function.get(function) if function else None
        return FUNCTION if matches(key, self.host) or (own and matches(key, own)) else ANONYMOUS

    def open(self, request: web.Request, function: Function) -> bool:
        """Whether the request may call the HTTP function `function`."""
        needed = needed_level(function)
        return needed == ANONYMOUS or self.level(request, function.name) in (ADMIN, needed)


def needed_level(function: Function) -> str:
    return str(function.trigger.get("authLevel", FUNCTION)).upper()


def matches(presented: str, key: str) -> bool:
    return secrets.compare_digest(presented.encode(), key.encode())
