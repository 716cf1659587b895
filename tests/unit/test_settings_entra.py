"""Test the settings for callers with Entra ID tokens."""

import pytest

from shared.settings.entra import EntraSettings
from tests.support.settings import CLIENT, TENANT, TOKENS, problems, settings

USER = "22223333-cccc-4444-dddd-5555eeee6666"


def entra(**changes: str) -> EntraSettings:
    found = settings(**TOKENS | changes).entra
    assert found
    return found


def test_without_them_no_token_is_accepted() -> None:
    assert settings().entra is None
    assert settings(CALLER_TENANT_ID="", CALLER_AUDIENCE="").entra is None


def test_the_defaults() -> None:
    assert entra() == EntraSettings(TENANT, (CLIENT,), "Model.Invoke", {}, "https://login.microsoftonline.com")


def test_every_setting_counts_and_ids_are_in_lower_case() -> None:
    found = entra(
        CALLER_TENANT_ID=TENANT.upper(),
        CALLER_AUDIENCE=f"{CLIENT.upper()}, api://{TENANT}/Gateway, https://gateway.contoso.com",
        CALLER_ROLE="Chat.Use",
        CALLER_NAMES=f"team-a={USER.upper()}, batch={CLIENT}",
        CALLER_AUTHORITY="https://login.microsoftonline.us/",
    )
    assert found == EntraSettings(
        TENANT,
        (CLIENT, f"api://{TENANT}/Gateway", "https://gateway.contoso.com"),
        "Chat.Use",
        {USER: "team-a", CLIENT: "batch"},
        "https://login.microsoftonline.us",
    )


@pytest.mark.parametrize("host", ["https://login.partner.microsoftonline.cn", "login.partner.microsoftonline.cn"])
def test_the_authority_of_azure_identity_is_the_default(host: str) -> None:
    assert entra(AZURE_AUTHORITY_HOST=host).authority == "https://login.partner.microsoftonline.cn"
    assert entra(AZURE_AUTHORITY_HOST=host, CALLER_AUTHORITY="http://127.0.0.1:8000").authority == "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("CALLER_TENANT_ID", "", "is needed, because CALLER_AUDIENCE is set"),
        ("CALLER_TENANT_ID", "common", "stands for many tenants"),
        ("CALLER_TENANT_ID", "Organizations", "stands for many tenants"),
        ("CALLER_TENANT_ID", "contoso.com", "is not a GUID"),
        ("CALLER_AUDIENCE", "", "is needed, because CALLER_TENANT_ID is set"),
        ("CALLER_AUDIENCE", "gateway", "neither a client id nor a URI"),
        ("CALLER_AUDIENCE", f"{CLIENT},", "has an empty entry"),
        ("CALLER_AUDIENCE", "https://[x", "neither a client id nor a URI"),
        ("CALLER_AUDIENCE", "api://gateway/.default", "is a scope"),
        ("CALLER_ROLE", "Model Invoke", "without blanks"),
        ("CALLER_NAMES", "team-a", "must be name=ID"),
        ("CALLER_NAMES", "team-a=somebody@contoso.com", "must be name=ID"),
        ("CALLER_NAMES", f"team a={USER}", "must be name=ID"),
        ("CALLER_NAMES", f"a={USER},b={USER}", f"gives {USER} two names"),
        ("CALLER_AUTHORITY", "http://login.microsoftonline.com", "is not an authority"),
        ("CALLER_AUTHORITY", "https://login.microsoftonline.com/common", "is not an authority"),
    ],
)
def test_a_bad_value_is_named(name: str, value: str, problem: str) -> None:
    found = problems(**TOKENS | {name: value})
    assert list(found) == [name]
    assert problem in found[name]


@pytest.mark.parametrize(
    "audience",
    [
        "https://cognitiveservices.azure.com",
        "https://cognitiveservices.azure.com/",
        "https://cognitiveservices.azure.com/.default",
        "https://COGNITIVESERVICES.azure.us",
        "cognitiveservices.azure.com",
        "https://ai.azure.com",
        "https://management.core.windows.net/",
        "https://management.azure.com",
        "https://graph.microsoft.com",
        "https://vault.azure.net",
        "https://cognitiveservices.azure.com.",
        "api://7d312290-28c8-473c-a0ed-8e53749b6d6d",
        "api://graph.microsoft.com",
        "00000003-0000-0000-C000-000000000000",
        "7d312290-28c8-473c-a0ed-8e53749b6d6d",
    ],
)
def test_audiences_of_azures_own_are_refused(audience: str) -> None:
    found = problems(CALLER_TENANT_ID=TENANT, CALLER_AUDIENCE=f"{CLIENT},{audience}")
    assert list(found) == ["CALLER_AUDIENCE"]
    assert "audience of Azure's own" in found["CALLER_AUDIENCE"]


@pytest.mark.parametrize("name", ["CALLER_ROLE", "CALLER_NAMES", "CALLER_AUTHORITY"])
def test_a_setting_for_tokens_needs_a_tenant_and_an_audience(name: str) -> None:
    value = {"CALLER_ROLE": "a", "CALLER_NAMES": f"a={USER}", "CALLER_AUTHORITY": "https://login.microsoftonline.us"}[name]
    found = problems(CALLER_TENANT_ID="", CALLER_AUDIENCE="", **{name: value})
    assert found == dict.fromkeys(("CALLER_TENANT_ID", "CALLER_AUDIENCE"), f"is needed, because {name} is set")


def test_a_name_belongs_to_a_key_or_to_an_id() -> None:
    found = problems(**TOKENS, CALLER_KEYS="team-a=0123456789abcdef", CALLER_NAMES=f"team-a={USER}")
    assert list(found) == ["CALLER_NAMES"]
    assert "which CALLER_KEYS has, too" in found["CALLER_NAMES"]
