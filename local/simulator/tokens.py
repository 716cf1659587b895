"""Sign and verify access tokens as Entra ID does."""

import json
import secrets
import time
import uuid

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from jwt.algorithms import RSAAlgorithm
from jwt.utils import base64url_encode

from local.simulator.payloads import Json

# The audience of tokens for Azure OpenAI.
AUDIENCE = "https://cognitiveservices.azure.com"
# These stay the same at every start, so that CALLER_NAMES can name them.
TENANT_ID = "aaaabbbb-0000-cccc-1111-dddd2222eeee"
API_CLIENT_ID = "00001111-aaaa-2222-bbbb-3333cccc4444"
CALLER_CLIENT_ID = "11112222-bbbb-3333-cccc-4444dddd5555"
CALLER_OBJECT_ID = "22223333-cccc-4444-dddd-5555eeee6666"
ROLE = "Model.Invoke"


class TokenIssuer:
    """Sign tokens of one tenant with the last of `keys`, which has the RSA keys by their ids.

    `authority` begins the `iss` of v2 tokens; `EntraSimulator.start` sets it. `role` is the app role of all callers.
    """

    def __init__(self, tenant_id: str = TENANT_ID) -> None:
        self.tenant_id = tenant_id
        self.authority = "https://login.microsoftonline.com"
        self.audience = f"api://{tenant_id}/local"
        self.role = ROLE
        self.keys: dict[str, RSAPrivateKey] = {}

    def rotate(self, *, drop: bool = False) -> str:
        """Make a new signing key, and return its id. With `drop`, forget all other keys."""
        if drop:
            self.keys.clear()
        key_id = secrets.token_urlsafe(20)
        self.keys[key_id] = generate_private_key(65537, 2048)
        return key_id

    def signing_key(self) -> tuple[str, RSAPrivateKey]:
        """Return the id and the key. Make the first one only when it is needed, because that takes a tenth of a second."""
        if not self.keys:
            self.rotate()
        return list(self.keys.items())[-1]

    def key_set(self) -> Json:
        """Return the public keys as a JSON Web Key Set. As in Entra's, the keys have no `alg`."""
        self.signing_key()
        keys = []
        for key_id, key in self.keys.items():
            public = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
            keys.append({"kty": "RSA", "use": "sig", "kid": key_id, "n": public["n"], "e": public["e"]})
        return {"keys": keys}

    def mint(self, version: int = 2, claims: Json | None = None, headers: Json | None = None, lifetime: float = 3600) -> str:
        """Return an access token of an app, valid for `lifetime` seconds.

        `claims` and `headers` replace the usual ones, with values of any type; None removes one. The signature is always
        genuine and RS256.
        """
        key_id, key = self.signing_key()
        now = time.time()
        usual: Json = {
            "tid": self.tenant_id,
            "oid": CALLER_OBJECT_ID,
            "sub": CALLER_OBJECT_ID,
            "roles": [self.role],
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now + lifetime),
            # Entra's id of the token makes every token unique.
            "uti": secrets.token_urlsafe(16),
        }
        if version == 1:
            issuer = f"https://sts.windows.net/{self.tenant_id}/"
            usual |= {"ver": "1.0", "iss": issuer, "aud": self.audience, "appid": CALLER_CLIENT_ID}
        else:
            issuer = f"{self.authority}/{self.tenant_id}/v2.0"
            usual |= {"ver": "2.0", "iss": issuer, "aud": API_CLIENT_ID, "azp": CALLER_CLIENT_ID}
        header = replaced({"typ": "JWT", "alg": "RS256", "kid": key_id}, headers)
        # jwt.encode would check the types, and sign with the algorithm in the header.
        parts = [base64url_encode(compact(part)) for part in (header, replaced(usual, claims))]
        signature = RSAAlgorithm(RSAAlgorithm.SHA256).sign(b".".join(parts), key)
        return b".".join([*parts, base64url_encode(signature)]).decode()

    def issue(self, audience: str, client_id: str, lifetime: float) -> tuple[str, int]:
        """Return a v1 token of a managed identity that is valid for `lifetime` seconds, and its expiry in epoch seconds."""
        expires_on = int(time.time() + lifetime)
        object_id = str(uuid.uuid5(uuid.NAMESPACE_OID, client_id))
        claims = {"aud": audience, "appid": client_id, "oid": object_id, "sub": object_id, "exp": expires_on}
        return self.mint(1, claims), expires_on

    def is_valid(self, token: str) -> bool:
        """Return whether `token` is a genuine token for Azure OpenAI that has not expired."""
        try:
            key = self.keys[jwt.get_unverified_header(token)["kid"]]
            jwt.decode(token, key.public_key(), ["RS256"], audience=AUDIENCE)
        except (KeyError, jwt.InvalidTokenError):
            return False
        return True

    def caller_settings(self) -> dict[str, str]:
        """Return the app's settings for callers with tokens of this issuer."""
        return {
            "CALLER_TENANT_ID": self.tenant_id,
            "CALLER_AUDIENCE": f"{self.audience},{API_CLIENT_ID}",
            "CALLER_AUTHORITY": self.authority,
        }


def compact(part: Json) -> bytes:
    return json.dumps(part, separators=(",", ":")).encode()


def replaced(usual: Json, changes: Json | None) -> Json:
    """Return `usual` with `changes`, in which None removes a name."""
    return {name: value for name, value in (usual | (changes or {})).items() if value is not None}
