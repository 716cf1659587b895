"""Test calls without any key: real credentials and the real SDK call the app with Entra ID tokens."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jwt
import pytest
from azure.identity import DefaultAzureCredential, ManagedIdentityCredential, get_bearer_token_provider
from openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, OpenAI

from local.simulator.identity_endpoint import SYSTEM_ASSIGNED
from local.simulator.tokens import AUDIENCE, TokenIssuer
from tests.support.openai_routes import BODY, CHAT
from tests.support.processes import Simulator
from tests.support.sdk import SDK
from tests.support.upstreams import CALLER_KEY, Gateway, Upstreams

MESSAGES: Any = [{"role": "user", "content": "Hello"}]


@dataclass
class Tenant:
    """Hold the simulators that share one tenant, and the settings that make the app use them."""

    issuer: TokenIssuer
    model: Simulator
    settings: dict[str, str]


@pytest.fixture(scope="module")
def tenant(upstreams: Upstreams) -> Iterator[Tenant]:
    issuer = TokenIssuer()
    entra, callers = upstreams.entra(issuer)
    model, identity, settings = upstreams.identity(issuer)
    # The app accepts only the audience that azure-identity asks for.
    callers |= {"CALLER_AUDIENCE": issuer.audience, "CALLER_KEYS": ""}
    yield Tenant(issuer, model, settings | callers)
    for simulator in (entra, model, identity):
        simulator.http.close()


@pytest.fixture
def app(gateway: Gateway, tenant: Tenant) -> Gateway:
    """Return the app, whose settings contain no key."""
    tenant.model.clear()
    gateway.configure(tenant.model.url, AZURE_OPENAI_KEY="", **tenant.settings)
    return gateway


@pytest.fixture(params=[ManagedIdentityCredential, DefaultAzureCredential])
def provider(request: pytest.FixtureRequest, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Return a token provider of a caller who has a managed identity."""
    for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"):
        monkeypatch.setenv(name, tenant.settings[name])
    return get_bearer_token_provider(request.param(), f"{tenant.issuer.audience}/.default")


def client_options(kind: type[Any], provider: Callable[[], str]) -> dict[str, Any]:
    async def asynchronous() -> str:
        return provider()

    if kind is AzureOpenAI or kind is AsyncAzureOpenAI:
        return {"api_key": None, "azure_ad_token_provider": provider}
    return {"api_key": asynchronous if kind is AsyncOpenAI else provider}


@pytest.mark.parametrize("kind", [OpenAI, AsyncOpenAI, AzureOpenAI, AsyncAzureOpenAI])
def test_the_whole_chain_works_without_a_secret(
    app: Gateway, tenant: Tenant, provider: Callable[[], str], kind: type[Any]
) -> None:
    sdk = SDK(app.app, kind, **client_options(kind, provider))
    try:
        chat = sdk.client.chat.completions
        assert sdk.result(chat.create(model="chat", messages=MESSAGES)).choices[0].message.content
        assert len(sdk.events(chat.create(model="chat", messages=MESSAGES, stream=True))) > 3
        assert sdk.result(sdk.client.responses.create(model="chat", input="Hello")).output_text
        assert sdk.result(sdk.client.embeddings.create(model="other", input="Hello")).data
    finally:
        sdk.close()
    journal = tenant.model.journal(ended=4)
    assert len(journal) == 4
    for request in journal:
        # The app signs in with a token of its own, for Azure OpenAI; the caller's goes no further.
        token = request.headers["authorization"].removeprefix("Bearer ")
        assert jwt.decode(token, options={"verify_signature": False})["aud"] == AUDIENCE
        assert provider() not in json.dumps(dict(request.headers))
    assert len(re.findall(rf"Call caller={SYSTEM_ASSIGNED} ", app.app.output)) == 4
    assert provider().rpartition(".")[2] not in app.app.output


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


class TestResponses:
    @pytest.mark.parametrize("name", ["authorization", "api-key", "x-api-key"])
    def test_a_token_counts_in_every_header(self, app: Gateway, tenant: Tenant, name: str) -> None:
        for text in (tenant.issuer.mint(1), f"bearer {tenant.issuer.mint(1)}"):
            assert app.http.get("/api/v1/models", headers={name: text}).status_code == 200

    def test_a_caller_has_a_name(self, app: Gateway, tenant: Tenant) -> None:
        user = "12345678-1234-1234-1234-123456789012"
        app.configure(tenant.model.url, **tenant.settings | {"CALLER_NAMES": f"jane={user}"})
        token = tenant.issuer.mint(1, {"oid": user, "scp": "Model.Invoke"})
        assert app.http.post(CHAT, content=BODY, headers=bearer(token)).status_code == 200
        app.app.wait_for("Call caller=jane ")

    @pytest.mark.parametrize(
        ("claims", "status", "code", "message"),
        [
            ({"exp": 1}, 401, "invalid_token", "This Entra ID token is not valid here: expired."),
            ({"aud": AUDIENCE}, 401, "invalid_token", "This Entra ID token is not valid here: wrong audience."),
            ({"tid": "1"}, 401, "invalid_token", "This Entra ID token is not valid here: wrong tenant."),
            ({"iss": "https://sts.windows.net/common/"}, 401, "invalid_token", "This Entra ID token is not valid here."),
            ({"roles": []}, 403, "missing_role", "This Entra ID token is valid, but it lacks the role for this app."),
        ],
    )
    def test_an_error_has_its_code_and_no_detail_of_the_token(
        self, app: Gateway, tenant: Tenant, claims: dict[str, Any], status: int, code: str, message: str
    ) -> None:
        token = tenant.issuer.mint(1, {"upn": "somebody@contoso.com", **claims})
        response = app.http.post(CHAT, content=BODY, headers=bearer(token))
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["type"]) == (status, code, "invalid_request_error")
        assert error["message"].startswith(message)
        if status == 401:
            assert response.headers["www-authenticate"] == f'Bearer error="invalid_token", error_description="{message}"'
        app.app.wait_for("A caller's token was rejected")
        assert not any(part in app.app.output + response.text for part in (*token.split("."), "somebody"))
        assert tenant.model.journal() == []

    def test_without_a_token_the_app_is_closed(self, app: Gateway) -> None:
        for headers in ({}, {"api-key": "something"}, {"x-functions-key": "something"}):
            response = app.http.get("/api/v1/models", headers=headers)
            assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
            assert response.json()["error"]["code"] == "invalid_api_key"
            assert "An Entra ID token for this app is needed" in response.json()["error"]["message"]

    def test_keys_and_tokens_work_side_by_side(self, app: Gateway, tenant: Tenant) -> None:
        app.configure(tenant.model.url, **tenant.settings | {"CALLER_KEYS": f"tests={CALLER_KEY}"})
        good, bad = tenant.issuer.mint(1), tenant.issuer.mint(1, {"exp": 1})
        for status, headers in [
            (200, bearer(CALLER_KEY)),
            (200, bearer(good)),
            (200, bearer(bad) | {"api-key": CALLER_KEY}),
            (200, bearer(good) | {"api-key": "unused"}),
            (401, bearer(bad) | {"api-key": "unused"}),
            (401, bearer("a-wrong-key")),
            (401, {}),
        ]:
            assert app.http.get("/api/v1/models", headers=headers).status_code == status, headers

    def test_an_app_without_these_settings_says_that_it_takes_keys(
        self, app: Gateway, tenant: Tenant, model: Simulator
    ) -> None:
        app.configure(model.url)
        response = app.http.get("/api/v1/models", headers=bearer(tenant.issuer.mint()))
        assert response.status_code == 401
        assert response.json()["error"]["message"].startswith("This app takes caller keys, not Entra ID tokens.")

    def test_without_signing_keys_the_response_is_503(self, app: Gateway, tenant: Tenant) -> None:
        app.configure(tenant.model.url, **tenant.settings | {"CALLER_AUTHORITY": "http://127.0.0.1:9"})
        response = app.http.get("/api/v1/models", headers=bearer(tenant.issuer.mint(1)))
        assert (response.status_code, response.json()["error"]["code"]) == (503, "signing_keys_unavailable")
        app.app.wait_for("The signing keys of Entra ID could not be fetched")
