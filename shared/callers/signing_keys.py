"""Fetch the keys with which Entra ID signs the tokens of a tenant, and keep them while a fetch fails.

PyJWT's own client blocks the event loop, and forgets its keys if a fetch fails.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from shared.errors import SigningKeysUnavailable
from shared.settings.entra import EntraSettings
from shared.upstream.transport import HttpClient, ProxyError

logger = logging.getLogger(__name__)

# Entra ID signs with no other. With a list of several, an attacker could choose the weakest.
ALGORITHM = "RS256"
# Bits. Larger keys would make checking a signature slow.
SMALLEST_KEY, LARGEST_KEY = 2048, 4096
# All in seconds. Entra ID may replace its keys at any time, and recommends to look once a day. So keys that are older, in a
# process that had no calls, wait for a fetch.
REFRESH_INTERVAL = 3600.0
MAX_AGE = 86400.0
RETRY_INTERVAL = 60.0
COLD_RETRY_INTERVAL = 5.0
DEADLINE = 5.0
# Bytes. The key sets of Entra ID have about 20 kB.
LARGEST_KEY_SET = 256 * 1024


class SigningKeys:
    """Hold the public keys of one tenant by their ids. Use it on one event loop only."""

    def __init__(self, settings: EntraSettings, http: HttpClient, clock: Callable[[], float] = time.monotonic) -> None:
        # https://learn.microsoft.com/entra/identity-platform/access-tokens#validate-tokens
        self.url = f"{settings.authority}/{settings.tenant_id}/discovery/v2.0/keys"
        self.http = http
        self.clock = clock
        self.keys: dict[str, RSAPublicKey] = {}
        self.withdrawn = 0
        """The number of fetches that dropped a key. Tokens that were checked before such a fetch are checked again."""
        self.fetched_at = -math.inf
        self.tried_at = -math.inf
        self.has_failed = False
        self.request: asyncio.Task[None] | None = None

    async def key_of(self, key_id: str) -> RSAPublicKey | None:
        """Return the key, or None if the tenant has no such key.

        Raise `SigningKeysUnavailable` if the keys cannot be fetched. Only an unknown id waits for a fetch, of which there is
        one a minute, however many tokens have unknown ids.
        """
        if key_id not in self.keys:
            interval = RETRY_INTERVAL if self.keys else COLD_RETRY_INTERVAL
            if self.request or self.clock() >= self.tried_at + interval:
                await asyncio.shield(self.current_request())
            if key_id not in self.keys and self.has_failed:
                raise SigningKeysUnavailable
        return self.keys.get(key_id)

    async def refresh(self) -> None:
        """Start a fetch in the background if the keys are old. Wait for it if they are very old, unless fetches fail."""
        now = self.clock()
        if self.keys and now >= self.tried_at + (RETRY_INTERVAL if self.has_failed else REFRESH_INTERVAL):
            self.current_request()
        if self.keys and self.request and now >= self.fetched_at + MAX_AGE and not self.has_failed:
            await asyncio.shield(self.request)

    def current_request(self) -> asyncio.Task[None]:
        """Return the fetch in progress, or start one."""
        if self.request is None:
            self.tried_at = self.clock()
            self.request = asyncio.create_task(self.fetch())
        return self.request

    async def fetch(self) -> None:
        try:
            async with asyncio.timeout(DEADLINE):
                self.store(public_keys(await self.key_set()))
        except Exception as exc:
            # Whatever it is, the last good keys stay.
            self.has_failed = True
            cause = str(exc) if isinstance(exc, ValueError | ProxyError) else type(exc).__name__
            advice = "Check CALLER_TENANT_ID, and whether the app may reach"
            logger.error("The signing keys of Entra ID could not be fetched. %s %s. %s", advice, self.url, cause)
        finally:
            # Once more, because a fetch that times out takes as long as the pause after it.
            self.tried_at = self.clock()
            self.request = None

    def store(self, keys: dict[str, RSAPublicKey]) -> None:
        """Replace the keys with those that were fetched now."""
        self.withdrawn += any(keys.get(key_id) != key for key_id, key in self.keys.items())
        self.keys = keys
        self.fetched_at = self.tried_at = self.clock()
        self.has_failed = False

    async def key_set(self) -> bytes:
        """Return the body of the key set. Raise `ValueError` if it is not one."""
        response = await self.http.send(
            self.http.build_request("GET", self.url, headers={"accept-encoding": "identity"}), stream=True
        )
        body = b""
        try:
            if response.status_code != 200:
                raise ValueError(f"The status was {response.status_code}.")
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > LARGEST_KEY_SET:
                    raise ValueError("The response is too large.")
        finally:
            await response.aclose()
        return body


def public_keys(body: bytes) -> dict[str, RSAPublicKey]:
    """Return the RSA keys in a key set that are for signatures. Raise `ValueError` if it has none."""
    entries = msgspec.json.decode(body, type=dict[str, Any]).get("keys")
    keys = {}
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        try:
            # Without the fields of a private key, which would take time to check.
            key = jwt.PyJWK({name: entry[name] for name in ("kty", "kid", "n", "e")}, ALGORITHM)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            continue
        if (
            isinstance(key.key_id, str)
            and isinstance(key.key, RSAPublicKey)
            and SMALLEST_KEY <= key.key.key_size <= LARGEST_KEY
        ):
            keys[key.key_id] = key.key
    if not keys:
        raise ValueError("The response has no signing keys.")
    return keys
