"""Test which Entra ID tokens are accepted, whom they stand for, and that nothing of them is logged."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from local.serving import Servers
from local.simulator.entra import EntraSimulator
from local.simulator.tokens import API_CLIENT_ID, CALLER_CLIENT_ID, CALLER_OBJECT_ID, TokenIssuer
from shared.callers.entra import LEEWAY, LONGEST_TOKEN, TokenCheck
from shared.callers.identify import header_of
from shared.callers.signing_keys import REFRESH_INTERVAL, public_keys
from shared.errors import GatewayError, InvalidToken, MissingRole
from shared.settings.entra import GUID, EntraSettings
from shared.upstream.transport import HttpClient
from tests.support.processes import Json

ROLE = "Model.Invoke"
OTHER_ID = "99999999-9999-9999-9999-999999999999"
USER = {"scp": f"openid {ROLE}"}
EXPIRED, AUDIENCE, TENANT = "expired", "wrong audience", "wrong tenant"


def settings_for(issuer: TokenIssuer, **names: str) -> EntraSettings:
    audiences = (API_CLIENT_ID, issuer.audience)
    return EntraSettings(issuer.tenant_id, audiences, ROLE, {value: name for name, value in names.items()}, issuer.authority)


@pytest.fixture(scope="module")
def issuer() -> TokenIssuer:
    return TokenIssuer()


@pytest.fixture
async def check(issuer: TokenIssuer) -> AsyncIterator[TokenCheck]:
    """Return the check, with a simulator that has the keys of `issuer`."""
    async with Servers() as servers, aclosing(HttpClient(10)) as http:
        await EntraSimulator(issuer).start(servers)
        yield TokenCheck(settings_for(issuer), http)


def keys_of(issuer: TokenIssuer) -> dict[str, RSAPublicKey]:
    return public_keys(json.dumps(issuer.key_set()).encode())


def check_with_keys(issuer: TokenIssuer) -> TokenCheck:
    """Return the check, with the keys of `issuer`, so that it needs no simulator."""
    check = TokenCheck(settings_for(issuer), HttpClient(1))
    check.keys.store(keys_of(issuer))
    return check


async def caller_of(check: TokenCheck, token: str) -> str:
    header = header_of(token)
    assert header
    return await check.caller_of(token, header)


def encoded(part: Json) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def public_pem(issuer: TokenIssuer) -> bytes:
    return issuer.signing_key()[1].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def claims_of(token: str) -> Json:
    return jwt.decode(token, options={"verify_signature": False})


def unsigned(issuer: TokenIssuer, algorithm: str = "none") -> str:
    header = {"typ": "JWT", "alg": algorithm, "kid": issuer.signing_key()[0]}
    return f"{encoded(header)}.{encoded(claims_of(issuer.mint()))}."


def signed_with_the_public_key(issuer: TokenIssuer) -> str:
    """Return what a library accepts that takes the algorithm from the token, and the public key as a secret."""
    unsigned_part = unsigned(issuer, "HS256").removesuffix(".")
    signature = hmac.digest(public_pem(issuer), unsigned_part.encode(), hashlib.sha256)
    return f"{unsigned_part}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def signed_by_another(issuer: TokenIssuer, algorithm: str = "RS256", **header: Any) -> str:
    """Return a token with the usual claims, signed with a key of the forger's own."""
    headers = {"kid": issuer.signing_key()[0]} | header
    return jwt.encode(claims_of(issuer.mint()), generate_private_key(65537, 2048), algorithm, headers)


def own_key(issuer: TokenIssuer, **header: str) -> str:
    """Return a token that brings the forger's key in its header."""
    key = generate_private_key(65537, 2048)
    headers = {"jwk": json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())), **header}
    return jwt.encode(claims_of(issuer.mint()), key, "RS256", headers)


def with_algorithm(issuer: TokenIssuer, algorithm: str) -> str:
    """Return a token that the tenant's own key has signed with another algorithm."""
    key_id, key = issuer.signing_key()
    return jwt.encode(claims_of(issuer.mint()), key, algorithm, {"kid": key_id})


def another_payload(issuer: TokenIssuer) -> str:
    header, _, signature = issuer.mint(claims={"roles": None}).split(".")
    return f"{header}.{encoded(claims_of(issuer.mint()))}.{signature}"


def now() -> int:
    return int(time.time())


FORGERIES: dict[str, tuple[Callable[[TokenIssuer], str], type[GatewayError], str]] = {
    "alg none": (unsigned, InvalidToken, ""),
    "alg None": (lambda i: unsigned(i, "None"), InvalidToken, ""),
    "HS256 with the public key": (signed_with_the_public_key, InvalidToken, ""),
    "RS512, by the tenant": (lambda i: with_algorithm(i, "RS512"), InvalidToken, ""),
    "PS256, by the tenant": (lambda i: with_algorithm(i, "PS256"), InvalidToken, ""),
    "another key": (signed_by_another, InvalidToken, ""),
    "jwk": (lambda i: own_key(i, kid=i.signing_key()[0]), InvalidToken, ""),
    "jwk without kid": (own_key, InvalidToken, ""),
    "jku": (lambda i: signed_by_another(i, jku="https://forger.example/keys"), InvalidToken, ""),
    "x5u": (lambda i: signed_by_another(i, x5u="https://forger.example/cert"), InvalidToken, ""),
    "jku, by the tenant": (lambda i: i.mint(headers={"jku": "https://forger.example/keys"}), InvalidToken, ""),
    "crit, by the tenant": (lambda i: i.mint(headers={"crit": ["b64"], "b64": False}), InvalidToken, ""),
    "unknown kid": (lambda i: i.mint(headers={"kid": "unknown"}), InvalidToken, ""),
    "no kid": (lambda i: i.mint(headers={"kid": None}), InvalidToken, ""),
    "kid of another type": (lambda i: i.mint(headers={"kid": 1}), InvalidToken, ""),
    "kid with a path": (lambda i: i.mint(headers={"kid": "../../etc/passwd"}), InvalidToken, ""),
    "another payload": (another_payload, InvalidToken, ""),
    "no signature": (lambda i: i.mint().rpartition(".")[0] + ".", InvalidToken, ""),
    "two parts": (lambda i: i.mint().rpartition(".")[0], InvalidToken, ""),
    "five parts": (lambda i: i.mint() + ".a.b", InvalidToken, ""),
    "too long": (lambda i: i.mint(claims={"a": "a" * LONGEST_TOKEN}), InvalidToken, ""),
    "one character less": (lambda i: i.mint()[:-3], InvalidToken, ""),
    "two audiences": (lambda i: i.mint(claims={"aud": [API_CLIENT_ID, OTHER_ID]}), InvalidToken, ""),
    "a list with the audience": (lambda i: i.mint(claims={"aud": [API_CLIENT_ID]}), InvalidToken, ""),
    "Azure OpenAI's audience": (
        lambda i: i.mint(claims={"aud": "https://cognitiveservices.azure.com"}),
        InvalidToken,
        AUDIENCE,
    ),
    "wrong tenant": (
        lambda i: i.mint(claims={"tid": OTHER_ID, "iss": f"{i.authority}/{OTHER_ID}/v2.0"}),
        InvalidToken,
        TENANT,
    ),
    "tenant of the issuer only": (lambda i: i.mint(claims={"iss": f"{i.authority}/{OTHER_ID}/v2.0"}), InvalidToken, ""),
    "expired": (lambda i: i.mint(lifetime=-LEEWAY - 1), InvalidToken, EXPIRED),
    "not yet valid": (lambda i: i.mint(claims={"nbf": now() + LEEWAY + 60}), InvalidToken, ""),
    "v1 claims with ver 2.0": (lambda i: i.mint(1, {"ver": "2.0"}), InvalidToken, ""),
    "v2 claims with ver 1.0": (lambda i: i.mint(2, {"ver": "1.0"}), InvalidToken, ""),
    "v2 issuer in v1": (lambda i: i.mint(1, {"iss": f"{i.authority}/{i.tenant_id}/v2.0"}), InvalidToken, ""),
    "ver 3.0": (lambda i: i.mint(2, {"ver": "3.0"}), InvalidToken, ""),
    "an ID token, v2": (lambda i: i.mint(2, {"azp": None, "nonce": "a", "name": "Somebody"}), InvalidToken, ""),
    "an ID token, v1": (lambda i: i.mint(1, {"appid": None, "nonce": "a"}), InvalidToken, ""),
    "no role": (lambda i: i.mint(claims={"roles": None}), MissingRole, ""),
    "another role": (lambda i: i.mint(claims={"roles": ["Model.Read"]}), MissingRole, ""),
    "role as a text": (lambda i: i.mint(claims={"roles": ROLE}), MissingRole, ""),
    "a user with the scope and without the role": (lambda i: i.mint(claims={**USER, "roles": None}), MissingRole, ""),
    "a user with the role and without the scope": (lambda i: i.mint(claims={"scp": "openid"}), MissingRole, "scope"),
    "a user with the role and an empty scope": (lambda i: i.mint(claims={"scp": ""}), MissingRole, "scope"),
    "a user without scopes": (lambda i: i.mint(claims={"idtyp": "user"}), MissingRole, "scope"),
    "a scope that begins with the role": (lambda i: i.mint(claims={"scp": f"{ROLE}.All"}), MissingRole, "scope"),
}


@pytest.mark.anyio
class TestForgeries:
    @pytest.mark.parametrize("name", FORGERIES)
    async def test_it_is_rejected_with_its_code_and_not_logged(
        self, check: TokenCheck, issuer: TokenIssuer, caplog: pytest.LogCaptureFixture, name: str
    ) -> None:
        forge, error, detail = FORGERIES[name]
        token = forge(issuer)
        with pytest.raises(error) as caught:
            await caller_of(check, token)
        assert type(caught.value) is error
        if error is MissingRole:
            assert f"it lacks the {detail or 'role'} for this app" in caught.value.message
        else:
            assert caught.value.message.endswith(f" here: {detail}." if detail else " here.")
        assert "A caller's token was rejected" in caplog.text
        leaked = [part for part in token.split(".") if len(part) > 3 and part in caplog.text + caught.value.message]
        assert leaked == []
        assert OTHER_ID not in caplog.text
        # Nothing is remembered of it.
        assert check.checked == {}


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)
TEXTS = ["", " ", OTHER_ID, API_CLIENT_ID.upper(), f" {API_CLIENT_ID}", "1.0", "2.0", "common", "9" * 12, "Model.invoke"]
SUBTLE = st.sampled_from([*TEXTS, 2.0, 1, 0, -1, True, 1e12, [], {}, [ROLE], [[ROLE]], {ROLE: 1}, ["a", ROLE]])
CLAIMS = ("aud", "iss", "tid", "ver", "oid", "exp", "nbf", "azp", "appid", "roles", "scp", "idtyp")


def is_allowed(name: str, value: Any, version: int, original: Json) -> bool:
    """Return whether the token stays valid if the claim has this value."""
    if name == "exp":
        return type(value) is int and value > now() - LEEWAY
    if name == "nbf":
        return type(value) is int and value <= now() + LEEWAY
    if name == "tid":
        return isinstance(value, str) and value.lower() == original["tid"]
    if name == "aud":
        return value in (API_CLIENT_ID, original["aud"])
    if name == "oid" or name == ("appid", "azp")[version - 1]:
        return isinstance(value, str) and bool(GUID.fullmatch(value))
    if name == "roles":
        return isinstance(value, list) and ROLE in value
    if name == "scp":
        return value is None or (isinstance(value, str) and ROLE in value.split())
    if name == "idtyp":
        return value is None or value == "app"
    # The claim of the other version does not matter.
    return name in ("appid", "azp") or value == original.get(name)


@pytest.mark.fuzz
@given(version=st.sampled_from([1, 2]), name=st.sampled_from(CLAIMS), value=SUBTLE | ANYTHING)
def test_no_altered_claim_passes(version: int, name: str, value: Any) -> None:
    issuer = FUZZED
    token = issuer.mint(version, {name: value})
    check = check_with_keys(issuer)
    try:
        asyncio.run(caller_of(check, token))
        passed = True
    except (InvalidToken, MissingRole):
        passed = False
    assert passed == is_allowed(name, value, version, claims_of(issuer.mint(version)))


FUZZED = TokenIssuer()


@pytest.mark.fuzz
@given(
    st.text()
    | st.lists(st.text(), min_size=2, max_size=6).map(".".join)
    | st.binary().map(lambda data: data.decode("latin-1"))
)
def test_no_other_text_passes(text: str) -> None:
    check = check_with_keys(FUZZED)
    # Headers hold no other characters.
    latin = text.encode("latin-1", "ignore").decode("latin-1")
    with pytest.raises(InvalidToken):
        asyncio.run(check.caller_of(latin, {"alg": "RS256", "kid": FUZZED.signing_key()[0]}))


@pytest.mark.anyio
class TestCallers:
    @pytest.mark.parametrize("version", [1, 2])
    async def test_an_app_is_called_by_its_client_id_and_a_user_by_the_object_id(
        self, check: TokenCheck, issuer: TokenIssuer, version: int
    ) -> None:
        claims = {"name": "Somebody", "preferred_username": "somebody@contoso.com", "upn": "somebody@contoso.com"}
        assert await caller_of(check, issuer.mint(version, claims)) == CALLER_CLIENT_ID
        assert await caller_of(check, issuer.mint(version, claims | {"idtyp": "app"})) == CALLER_CLIENT_ID
        assert await caller_of(check, issuer.mint(version, claims | USER)) == CALLER_OBJECT_ID

    async def test_ids_have_names(self, check: TokenCheck, issuer: TokenIssuer) -> None:
        check.settings = settings_for(issuer, batch=CALLER_CLIENT_ID, somebody=OTHER_ID)
        assert await caller_of(check, issuer.mint(claims={"oid": OTHER_ID.upper(), **USER})) == "somebody"
        assert await caller_of(check, issuer.mint()) == "batch"
        # The object id of an app's service principal counts as well.
        assert await caller_of(check, issuer.mint(claims={"azp": API_CLIENT_ID, "oid": OTHER_ID})) == "somebody"
        # The name of a program is not the name of its users.
        assert await caller_of(check, issuer.mint(claims=USER)) == CALLER_OBJECT_ID

    async def test_clocks_may_differ_by_a_minute(self, check: TokenCheck, issuer: TokenIssuer) -> None:
        assert await caller_of(check, issuer.mint(lifetime=-LEEWAY + 20))
        assert await caller_of(check, issuer.mint(claims={"nbf": now() + LEEWAY - 20}))

    async def test_the_issuers_of_other_clouds(self, issuer: TokenIssuer) -> None:
        for authority, v1 in {
            "https://login.microsoftonline.us": "https://sts.windows.net",
            "https://login.partner.microsoftonline.cn": "https://sts.chinacloudapi.cn",
        }.items():
            settings = EntraSettings(issuer.tenant_id, (), ROLE, {}, authority)
            assert TokenCheck(settings, HttpClient(1)).issuers == {
                "1.0": f"{v1}/{issuer.tenant_id}/",
                "2.0": f"{authority}/{issuer.tenant_id}/v2.0",
            }


@pytest.mark.anyio
class TestCheckedTokens:
    async def test_a_checked_token_is_valid_until_it_expires(self, check: TokenCheck, issuer: TokenIssuer) -> None:
        token = issuer.mint()
        await caller_of(check, token)
        # Without the key, the signature could not be checked again.
        check.keys.keys.clear()
        check.keys.has_failed = False
        check.keys.tried_at = check.keys.clock()
        assert await caller_of(check, token) == CALLER_CLIENT_ID
        check.clock = lambda: time.time() + 3601
        with pytest.raises(InvalidToken):
            await caller_of(check, token)

    async def test_the_number_of_remembered_tokens_is_limited(
        self, check: TokenCheck, issuer: TokenIssuer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("shared.callers.entra.MAX_REMEMBERED", 2)
        tokens = [issuer.mint() for _ in range(3)]
        for token in tokens:
            await caller_of(check, token)
        assert list(check.checked) == [hashlib.sha256(token.encode()).digest() for token in tokens[1:]]

    async def test_a_withdrawn_key_ends_the_tokens_that_it_has_signed(self, check: TokenCheck) -> None:
        issuer = TokenIssuer()
        issuer.authority = check.settings.authority
        token = issuer.mint()
        check.keys.store(keys_of(issuer))
        assert await caller_of(check, token)
        # The simulator does not have that key.
        check.keys.tried_at -= REFRESH_INTERVAL
        await check.keys.refresh()
        assert check.keys.request
        await check.keys.request
        with pytest.raises(InvalidToken):
            await caller_of(check, token)
