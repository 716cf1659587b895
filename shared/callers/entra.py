"""Check the Entra ID tokens of callers.

https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference describes the claims, and
https://learn.microsoft.com/entra/identity-platform/claims-validation what to check.
"""

import hashlib
import logging
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import jwt
from jwt.types import Options

from shared.callers.signing_keys import ALGORITHM, SigningKeys
from shared.errors import InvalidToken, MissingRole
from shared.settings.entra import GUID, EntraSettings
from shared.upstream.transport import HttpClient

logger = logging.getLogger(__name__)

# Seconds by which clocks may differ.
LEEWAY = 60
# Entra ID's tokens never have these. Most of them would bring a key of the sender's.
FORBIDDEN_HEADERS = {"crit", "jku", "jwk", "x5c", "x5u"}
# PyJWT converts claims of other types, so `check` does it instead.
ONLY_SIGNATURE: Options = {
    "verify_aud": False,
    "verify_exp": False,
    "verify_iat": False,
    "verify_iss": False,
    "verify_jti": False,
    "verify_nbf": False,
    "verify_sub": False,
}
TYPES = {"aud": str, "exp": int, "iss": str, "nbf": int, "oid": str, "tid": str, "ver": str}
# The claim with the client id, by the version of the token. ID tokens have neither.
CLIENT_ID = {"1.0": "appid", "2.0": "azp"}
# In characters. PyJWT's time grows with the length, also for tokens that are forged. Entra ID's have about 2,000.
LONGEST_TOKEN = 16_384
# Checked tokens that are remembered. One takes about 300 bytes.
MAX_REMEMBERED = 10_000


class TokenCheck:
    """Find the callers behind tokens, and remember valid tokens until they expire. Use it on one event loop only."""

    def __init__(self, settings: EntraSettings, http: HttpClient, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.clock = clock
        self.keys = SigningKeys(settings, http)
        self.issuers = issuers(settings)
        self.checked: dict[bytes, tuple[str, int, int]] = {}
        """The caller's name, the expiry, and `SigningKeys.withdrawn`, by the SHA-256 of the token."""

    async def caller_of(self, token: str, header: dict[str, Any]) -> str:
        """Return the name of the caller. `header` is that of the token.

        Raise `InvalidToken`, `MissingRole` or `SigningKeysUnavailable`.
        """
        await self.keys.refresh()
        digest = hashlib.sha256(token.encode("latin-1")).digest()
        name, expiry, withdrawn = self.checked.get(digest, ("", 0, 0))
        if self.clock() < expiry and withdrawn == self.keys.withdrawn:
            return name
        claims = await self.claims_of(token, header)
        name = self.caller_in(claims)
        self.checked.pop(digest, None)
        if len(self.checked) >= MAX_REMEMBERED:
            del self.checked[next(iter(self.checked))]
        self.checked[digest] = name, claims["exp"], self.keys.withdrawn
        return name

    async def claims_of(self, token: str, header: dict[str, Any]) -> dict[str, Any]:
        """Return the claims of `token`, if its signature is valid. Raise `InvalidToken` or `SigningKeysUnavailable`."""
        if len(token) > LONGEST_TOKEN:
            raise rejected("too long")
        key_id = header.get("kid")
        if header.get("alg") != ALGORITHM or not isinstance(key_id, str) or header.keys() & FORBIDDEN_HEADERS:
            raise rejected("its header is not one of Entra ID's")
        key = await self.keys.key_of(key_id)
        if key is None:
            raise rejected("unknown signing key")
        try:
            claims: dict[str, Any] = jwt.decode(token, key, [ALGORITHM], options=ONLY_SIGNATURE)
        except jwt.PyJWTError as exc:
            # The exception's text may quote the token.
            raise rejected(type(exc).__name__) from None
        return claims

    def caller_in(self, claims: dict[str, Any]) -> str:
        """Return the name of the caller that the claims identify. Raise `InvalidToken` or `MissingRole`."""
        self.check(claims)
        settings, user = self.settings, claims["oid"].lower()
        client = claims[CLIENT_ID[claims["ver"]]].lower()
        roles, scopes = claims.get("roles"), claims.get("scp")
        is_user = scopes is not None or claims.get("idtyp", "app") != "app"
        has_role = isinstance(roles, list) and settings.role in roles
        # A scope belongs to the client program, and with the Azure CLI to every user of the tenant. So users need both.
        has_scope = isinstance(scopes, str) and settings.role in scopes.split()
        name = settings.names.get(user, user) if is_user else settings.names.get(client) or settings.names.get(user, client)
        if not has_role or (is_user and not has_scope):
            missing = "scope" if has_role else "role"
            logger.warning("A caller's token was rejected: %s has no %s %s", name, missing, settings.role)
            raise MissingRole(has_role=has_role)
        return name

    def check(self, claims: dict[str, Any]) -> None:
        """Raise `InvalidToken` unless the claims are those of an access token of this tenant for this app."""
        for name, kind in TYPES.items():
            # A boolean is an integer to `isinstance`.
            if type(claims.get(name)) is not kind:
                raise rejected(f"the claim {name} is missing or has a wrong type")
        if claims["tid"].lower() != self.settings.tenant_id:
            raise rejected("wrong tenant", "wrong tenant")
        if claims["iss"] != self.issuers.get(claims["ver"]):
            raise rejected("wrong issuer")
        if claims["aud"] not in self.settings.audiences:
            raise rejected("wrong audience", "wrong audience")
        now = self.clock()
        if claims["exp"] + LEEWAY <= now:
            raise rejected("expired", "expired")
        if claims["nbf"] - LEEWAY > now:
            raise rejected("not yet valid")
        for name in ("oid", CLIENT_ID[claims["ver"]]):
            if not GUID.fullmatch(str(claims.get(name))):
                raise rejected(f"the claim {name} is missing or not a GUID")


def rejected(reason: str, detail: str = "") -> InvalidToken:
    """Log why a token is not valid, and return the error, whose message has only `detail`."""
    logger.warning("A caller's token was rejected: %s", reason)
    return InvalidToken(detail)


def issuers(settings: EntraSettings) -> dict[str, str]:
    """Return the issuer by the version of the token. The API's registration, not the endpoint, decides the version."""
    host = urlsplit(settings.authority).hostname or ""
    # https://learn.microsoft.com/answers/questions/1190472 has the issuers of all clouds.
    v1_host = "sts.chinacloudapi.cn" if host.endswith(".cn") else "sts.windows.net"
    return {
        "1.0": f"https://{v1_host}/{settings.tenant_id}/",
        "2.0": f"{settings.authority}/{settings.tenant_id}/v2.0",
    }
