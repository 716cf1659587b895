"""Measure what it costs to find a caller by a key, and by an Entra ID token: `python -m bench.callers`."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.requests import Request

from bench.telemetry import microseconds
from local.simulator.tokens import TokenIssuer
from shared.callers.identify import Callers
from shared.callers.signing_keys import public_keys
from shared.settings import Settings
from shared.upstream.transport import HttpClient

KEY = "0123456789abcdef0123456789abcdef"
# As many as an app may have.
KEYS = ",".join([f"team-{number}=another-key-of-a-caller-{number}" for number in range(9)] + [f"tests={KEY}"])
# Entra ID's tokens have about this many characters.
SIZE = 1800
CHECKS = 500


def request(token: str) -> Request:
    return Request({"type": "http", "headers": [(b"authorization", f"Bearer {token}".encode())]})


def finder(callers: Callers, token: str) -> Callable[[], None]:
    """Return a function that finds the caller. Nothing in it waits, so it needs no event loop."""

    def find() -> None:
        try:
            callers.caller_of(request(token)).send(None)
        except StopIteration:
            return

    return find


def cost_of_a_check(callers: Callers, issuer: TokenIssuer, claims: dict[str, Any]) -> float:
    """Return the CPU time of finding the caller of a token that is seen for the first time, in microseconds."""
    finders = [finder(callers, issuer.mint(1, claims)) for _ in range(CHECKS)]
    started = time.process_time()
    for find in finders:
        find()
    return (time.process_time() - started) / CHECKS * 1e6


def main() -> None:
    issuer = TokenIssuer()
    environ = {
        "AZURE_OPENAI_ENDPOINT": "http://127.0.0.1:9",
        "AZURE_OPENAI_KEY": "unused",
        "AZURE_OPENAI_API_VERSION": "v1",
        "AZURE_OPENAI_CHATGPT_DEPLOYMENT": "chat",
        "CALLER_KEYS": KEYS,
        "CALLER_TENANT_ID": issuer.tenant_id,
        "CALLER_AUDIENCE": issuer.audience,
    }
    callers = Callers(Settings.from_env(environ, Path("absent.env")), HttpClient(1))
    assert callers.tokens
    callers.tokens.keys.store(public_keys(json.dumps(issuer.key_set()).encode()))
    claims = {"rh": "a" * (SIZE - len(issuer.mint(1)))}
    seen = issuer.mint(1, claims)
    by_key, by_token = finder(callers, KEY), finder(callers, seen)
    first = cost_of_a_check(callers, issuer, claims)
    print(
        f"{microseconds(by_key):.1f} µs by a key, {microseconds(by_token):.1f} by a token, {first:.0f} when it is first seen"
    )


if __name__ == "__main__":
    main()
