"""Test the simulator of Entra ID: PyJWT and azure-identity accept what it publishes and signs."""

import asyncio
import json
import time
from typing import Any

import httpx2
import jwt
import pytest
from azure.identity.aio import ManagedIdentityCredential
from jwt.utils import base64url_decode

from local.simulator.identity_endpoint import SYSTEM_ASSIGNED
from local.simulator.tokens import API_CLIENT_ID, AUDIENCE, CALLER_CLIENT_ID, ROLE, TENANT_ID
from tests.support.simulators import Simulators
from tests.support.upstreams import Upstreams

pytestmark = pytest.mark.anyio

API = f"api://{TENANT_ID}/local"
REQUIRED = ["aud", "exp", "iat", "iss", "nbf", "oid", "sub", "tid", "ver", "roles"]


async def get_keys(simulators: Simulators, tenant: str = TENANT_ID) -> httpx2.Response:
    return await simulators.http.get(f"{simulators.entra_url}/{tenant}/discovery/v2.0/keys")


async def control(simulators: Simulators, route: str, body: Any = None) -> Any:
    response = await simulators.http.post(f"{simulators.entra_url}/control/{route}", json=body)
    return response.raise_for_status().json() if response.content else None


async def verified(simulators: Simulators, token: str, audience: str) -> dict[str, Any]:
    """Return the claims of `token`. Raise what PyJWT raises if no published key verifies it."""
    keys = jwt.PyJWKSet.from_dict((await get_keys(simulators)).json())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, Any] = jwt.decode(token, key, ["RS256"], audience=audience, options={"require": REQUIRED})
    return claims


class TestTokens:
    """Compare the tokens with Entra's: https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference."""

    @pytest.mark.parametrize(
        ("version", "audience", "issuer", "client"),
        [
            (1, API, f"https://sts.windows.net/{TENANT_ID}/", "appid"),
            (2, API_CLIENT_ID, f"URL/{TENANT_ID}/v2.0", "azp"),
        ],
    )
    async def test_each_version_has_its_claims(
        self, simulators: Simulators, version: int, audience: str, issuer: str, client: str
    ) -> None:
        for token in (
            simulators.issuer.mint(version),
            (await control(simulators, "tokens", {"version": version}))["token"],
        ):
            claims = await verified(simulators, token, audience)
            assert claims["ver"] == f"{version}.0"
            assert claims["iss"] == issuer.replace("URL", simulators.entra_url)
            assert claims[client] == CALLER_CLIENT_ID
            assert {"appid", "azp"} & claims.keys() == {client}
            assert (claims["tid"], claims["roles"]) == (TENANT_ID, [ROLE])
            assert "scp" not in claims
            assert 3590 < claims["exp"] - time.time() <= 3600

    async def test_no_two_tokens_are_equal(self, simulators: Simulators) -> None:
        assert simulators.issuer.mint() != simulators.issuer.mint()

    async def test_the_configuration_has_the_issuer_and_the_url_of_the_keys(self, simulators: Simulators) -> None:
        url = f"{simulators.entra_url}/{TENANT_ID}/v2.0/.well-known/openid-configuration"
        configuration = (await simulators.http.get(url)).json()
        token = jwt.decode(simulators.issuer.mint(), options={"verify_signature": False})
        assert configuration["issuer"] == token["iss"]
        assert (await simulators.http.get(configuration["jwks_uri"])).json() == simulators.issuer.key_set()

    async def test_another_tenant_has_no_keys(self, simulators: Simulators) -> None:
        response = await get_keys(simulators, "common")
        assert (response.status_code, response.json()["error"]) == (400, "invalid_tenant")

    async def test_claims_headers_and_lifetime_can_be_replaced(self, simulators: Simulators) -> None:
        options = {
            "claims": {"aud": ["several", AUDIENCE], "iss": 7, "roles": None, "scp": ROLE},
            "headers": {"kid": ["of another type"], "alg": "HS256", "jku": "https://attacker.example/keys", "typ": None},
            "lifetime": -90,
        }
        token = (await control(simulators, "tokens", options))["token"]
        # PyJWT raises at a header of another type.
        header, claims = (json.loads(base64url_decode(part)) for part in token.split(".")[:2])
        assert (claims["aud"], claims["iss"], claims["scp"]) == (["several", AUDIENCE], 7, ROLE)
        assert "roles" not in claims
        assert claims["exp"] == claims["iat"] - 90
        assert header == {"alg": "HS256", "kid": ["of another type"], "jku": "https://attacker.example/keys"}

    async def test_altered_claims_have_a_genuine_signature(self, simulators: Simulators) -> None:
        token = simulators.issuer.mint(claims={"aud": "another", "tid": "another"}, headers={"x5u": "https://a.example"})
        assert (await verified(simulators, token, "another"))["tid"] == "another"


class TestRotation:
    async def test_a_new_key_signs_and_the_old_one_stays(self, simulators: Simulators) -> None:
        old = simulators.issuer.mint()
        key_id = (await control(simulators, "rotate"))["kid"]
        new = simulators.issuer.mint()
        assert jwt.get_unverified_header(old)["kid"] != jwt.get_unverified_header(new)["kid"] == key_id
        for token in (old, new):
            await verified(simulators, token, API_CLIENT_ID)

    async def test_old_keys_can_be_dropped(self, simulators: Simulators) -> None:
        old = simulators.issuer.mint()
        for_azure, _ = simulators.issuer.issue(AUDIENCE, "id", 60)
        key_id = (await control(simulators, "rotate", {"drop": True}))["kid"]
        assert [key["kid"] for key in (await get_keys(simulators)).json()["keys"]] == [key_id]
        with pytest.raises(KeyError):
            await verified(simulators, old, API_CLIENT_ID)
        assert not simulators.issuer.is_valid(for_azure)
        await verified(simulators, simulators.issuer.mint(), API_CLIENT_ID)


class TestFaults:
    @pytest.mark.parametrize(
        ("script", "status", "content"),
        [
            ({"status": 503}, 503, "Scripted by a test."),
            ({"content": "<html>"}, 200, "<html>"),
            ({"status": 500, "content": '{"keys": []}'}, 500, '{"keys": []}'),
        ],
    )
    async def test_outages_and_garbage_can_be_scripted(
        self, simulators: Simulators, script: dict[str, Any], status: int, content: str
    ) -> None:
        await control(simulators, "scripts", [{**script, "times": 2}])
        for _ in range(2):
            response = await get_keys(simulators)
            assert (response.status_code, response.text) == (status, content)
        assert (await get_keys(simulators)).json() == simulators.issuer.key_set()

    async def test_a_delay_can_be_scripted(self, simulators: Simulators) -> None:
        await control(simulators, "scripts", [{"delay": 0.3}])
        started = time.monotonic()
        await get_keys(simulators)
        assert time.monotonic() - started >= 0.3

    async def test_a_hang_lasts_until_it_is_released(self, simulators: Simulators) -> None:
        await control(simulators, "scripts", [{"hang": True}])
        request = asyncio.create_task(get_keys(simulators))
        await simulators.http.get(f"{simulators.entra_url}/control/journal", params={"requests": 1})
        await asyncio.sleep(0.1)
        assert not request.done()
        await control(simulators, "next")
        assert (await request).status_code == 200

    async def test_the_journal_has_the_requests_for_keys_and_no_control_requests(self, simulators: Simulators) -> None:
        await get_keys(simulators)
        await control(simulators, "rotate")
        await control(simulators, "tokens")
        (entry,) = (await simulators.http.get(f"{simulators.entra_url}/control/journal")).json()
        assert (entry["path"], entry["status"]) == (f"/{TENANT_ID}/discovery/v2.0/keys", 200)


class TestManagedIdentities:
    @pytest.mark.parametrize("client_id", [None, "user-assigned"])
    async def test_azure_identity_gets_tokens_for_the_app(
        self, simulators: Simulators, monkeypatch: pytest.MonkeyPatch, client_id: str | None
    ) -> None:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{simulators.identity_url}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", simulators.identity.header)
        async with ManagedIdentityCredential(client_id=client_id) as credential:
            token = await credential.get_token(f"{API}/.default")
        claims = await verified(simulators, token.token, API)
        assert (claims["ver"], claims["iss"]) == ("1.0", f"https://sts.windows.net/{TENANT_ID}/")
        assert (claims["appid"], claims["roles"]) == (client_id or SYSTEM_ASSIGNED, [ROLE])
        assert claims["oid"] == claims["sub"] != CALLER_CLIENT_ID
        assert token.expires_on == claims["exp"]
        assert not simulators.issuer.is_valid(token.token), "Azure OpenAI accepts only its own audience"


def test_tests_control_it_over_http(upstreams: Upstreams) -> None:
    entra, settings = upstreams.entra()
    assert settings["CALLER_AUTHORITY"] == entra.url
    token = entra.mint(1, {"roles": ["Other"], "sub": None}, {"x": 1}, lifetime=60)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["aud"], claims["roles"], claims["exp"] - claims["iat"]) == (API, ["Other"], 60)
    assert "sub" not in claims
    assert jwt.get_unverified_header(token)["x"] == 1
    for drop, count in ((False, 2), (True, 1)):
        key_id = entra.rotate(drop=drop)
        assert jwt.get_unverified_header(entra.mint())["kid"] == key_id
        keys = entra.http.get(f"/{settings['CALLER_TENANT_ID']}/discovery/v2.0/keys").json()["keys"]
        assert len(keys) == count
    entra.http.close()
