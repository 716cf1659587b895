"""Tokens for the stand-ins: one mints them, the other verifies them."""

import secrets
import time

import jwt

AUDIENCE = "https://cognitiveservices.azure.com"


class TokenMint:
    """Signs and checks tokens with a secret of this process."""

    def __init__(self) -> None:
        self.secret = secrets.token_hex(32)

    def mint(self, audience: str, identity: str, lifetime: float) -> tuple[str, int]:
        """A token for `audience` that lives `lifetime` seconds, and the epoch second at which it expires."""
        expires_on = int(time.time() + lifetime)
        # The id makes every token a new one.
        claims = {"aud": audience, "exp": expires_on, "appid": identity, "jti": secrets.token_hex(8)}
        return jwt.encode(claims, self.secret, "HS256"), expires_on

    def is_valid(self, token: str) -> bool:
        try:
            jwt.decode(token, self.secret, ["HS256"], audience=AUDIENCE)
        except jwt.InvalidTokenError:
            return False
        return True
