"""Issue and verify the access tokens of the simulated identities."""

import secrets
import time

import jwt

AUDIENCE = "https://cognitiveservices.azure.com"


class TokenIssuer:
    """Sign and verify tokens with a secret that only this process knows."""

    def __init__(self) -> None:
        self.secret = secrets.token_hex(32)

    def issue(self, audience: str, identity: str, lifetime: float) -> tuple[str, int]:
        """Return a token for `audience` that is valid for `lifetime` seconds, and its expiry in epoch seconds."""
        expires_on = int(time.time() + lifetime)
        # The id makes every token unique.
        claims = {"aud": audience, "exp": expires_on, "appid": identity, "jti": secrets.token_hex(8)}
        return jwt.encode(claims, self.secret, "HS256"), expires_on

    def is_valid(self, token: str) -> bool:
        try:
            jwt.decode(token, self.secret, ["HS256"], audience=AUDIENCE)
        except jwt.InvalidTokenError:
            return False
        return True
