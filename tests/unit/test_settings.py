"""Test that Settings.from_env reads the environment and the dotenv file, and reports every mistake in them."""

import json
import os
import re
import warnings
from pathlib import Path

import pytest
from azure.identity import DefaultAzureCredential, EnvironmentCredential

from shared.errors import SettingsError
from shared.settings import SCHEDULE_NAME, Endpoint, Settings, health_check_schedule
from shared.settings.checks import EARLIER_CREDENTIALS, WORKLOAD_IDENTITY
from tests.support.processes import PROJECT
from tests.support.settings import ENDPOINT, KEY, TOKENS, VALID, problems, settings

QUOTED = "has quotes around it; remove them"
REFERENCE = "@Microsoft.KeyVault(SecretUri=https://vault.vault.azure.net/secrets/key)"


@pytest.fixture
def dotenv(tmp_path: Path) -> Path:
    return tmp_path / "azureopenai.env"


def test_the_defaults() -> None:
    found = settings()
    assert found.endpoints == (Endpoint(ENDPOINT, KEY),)
    assert found.api_version == "2024-10-21"
    assert found.default_deployment == "chat"
    assert found.deployments == {"chat": "chat"}
    assert not found.use_identity
    assert found.identity_client_id is None
    assert found.token_scope == "https://cognitiveservices.azure.com/.default"
    assert found.caller_keys == ()
    assert found.entra is None
    assert (found.request_timeout, found.attempt_timeout, found.stream_idle) == (200, 100, 600)
    assert found.stream_seconds == 1500
    assert (found.max_concurrent_calls, found.max_body_bytes) == (1000, 20971520)
    assert not found.stream_usage
    assert found.warnings == ()


def test_the_environment_overrides_the_file_unless_it_is_empty(dotenv: Path) -> None:
    dotenv.write_text("AZURE_OPENAI_CHATGPT_DEPLOYMENT=from-file\nAZURE_OPENAI_API_VERSION=v1\nMAX_BODY_BYTES=5\n")
    found = settings(dotenv, AZURE_OPENAI_API_VERSION="")
    assert found.default_deployment == "chat"
    assert found.api_version == "v1"
    assert found.max_body_bytes == 5


def test_the_file_alone_is_enough(dotenv: Path) -> None:
    dotenv.write_text("".join(f'{name}="{value}"\n' for name, value in VALID.items()), encoding="utf-8-sig")
    assert Settings.from_env({}, dotenv) == settings()


def test_a_misspelt_name_in_the_file_causes_a_warning(dotenv: Path) -> None:
    dotenv.write_text("AZURE_OPENAI_ENDPIONT=https://a.com\nAZURE_OPENAI_API_KEY=also\nCALLER_KEYS=\n")
    assert settings(dotenv).warnings == (
        "azureopenai.env has AZURE_OPENAI_ENDPIONT, which this app does not know; correct or remove it",
    )


def test_variables_in_the_file_are_not_expanded(dotenv: Path) -> None:
    dotenv.write_text("AZURE_OPENAI_KEY=${PATH}abc\n")
    assert settings(dotenv, AZURE_OPENAI_KEY="").endpoints[0].key == "${PATH}abc"


def test_an_unreadable_file_is_reported_by_name(dotenv: Path) -> None:
    dotenv.write_bytes(b"AZURE_OPENAI_KEY=\xff\n")
    with pytest.raises(SettingsError) as caught:
        settings(dotenv)
    assert "UTF-8" in caught.value.problems["azureopenai.env"]


def test_all_missing_settings_are_reported_together_by_name() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({}, Path("absent.env"))
    assert set(caught.value.problems) == set(VALID)
    for name in VALID:
        assert name in str(caught.value)
        assert name in caught.value.message


def test_missing_and_invalid_settings_are_reported_together() -> None:
    assert set(problems(AZURE_OPENAI_KEY="", MAX_BODY_BYTES="many", AZURE_OPENAI_API_VERSION="latest")) == {
        "AZURE_OPENAI_KEY",
        "AZURE_OPENAI_API_VERSION",
        "MAX_BODY_BYTES",
    }


@pytest.mark.parametrize("value", ["AZURE", "azure", " Azure "])
def test_authentication_azure_uses_the_identity_and_no_key(value: str) -> None:
    found = settings(AUTHENTICATION=value, AZURE_CLIENT_ID="id")
    assert found.use_identity
    assert found.endpoints == (Endpoint(ENDPOINT, None),)
    assert found.identity_client_id == "id"
    assert KEY not in str(vars(found))
    assert settings(AUTHENTICATION=value, AZURE_OPENAI_KEY="").endpoints == found.endpoints


@pytest.mark.parametrize("value", ["", "KEY", "key"])
def test_authentication_key_is_the_default(value: str) -> None:
    found = settings(AUTHENTICATION=value)
    assert not found.use_identity
    assert found.warnings == ()


def test_a_misspelt_authentication_causes_a_warning() -> None:
    (warning,) = settings(AUTHENTICATION="AZRUE").warnings
    assert "'AZRUE', so an API key is used" in warning


def test_a_misspelt_authentication_is_reported_as_the_reason_why_a_key_is_needed() -> None:
    problem = problems(AUTHENTICATION="AZRUE", AZURE_OPENAI_KEY="")["AZURE_OPENAI_KEY"]
    assert problem == "is missing; AUTHENTICATION is 'AZRUE': set it to AZURE, or give an API key"


def test_the_key_is_also_read_from_its_second_name() -> None:
    assert settings(AZURE_OPENAI_KEY="", AZURE_OPENAI_API_KEY=KEY).endpoints[0].key == KEY


def test_endpoints_and_keys_are_paired_in_order() -> None:
    found = settings(AZURE_OPENAI_ENDPOINT="https://a.com/, https://b.com", AZURE_OPENAI_KEY="key-a, key-b")
    assert found.endpoints == (Endpoint("https://a.com", "key-a", 1), Endpoint("https://b.com", "key-b", 2))


@pytest.mark.parametrize(
    ("separators", "groups"),
    [(",,", [1, 2, 3]), ("||", [1, 1, 1]), ("|,", [1, 1, 2]), (",|", [1, 2, 2]), (" | , ", [1, 1, 2])],
)
@pytest.mark.parametrize("authentication", ["KEY", "AZURE"])
def test_a_bar_joins_equals(authentication: str, separators: str, groups: list[int]) -> None:
    between = re.findall(r" ?[,|] ?", separators)
    listed = {
        "AZURE_OPENAI_ENDPOINT": "https://a.com{}https://b.com{}https://c.com".format(*between),
        "AZURE_OPENAI_KEY": "key-a{}key-b{}key-c".format(*between),
    }
    found = settings(AUTHENTICATION=authentication, **listed).endpoints
    assert [endpoint.origin for endpoint in found] == ["https://a.com", "https://b.com", "https://c.com"]
    assert [endpoint.key for endpoint in found] == ([None] * 3 if authentication == "AZURE" else ["key-a", "key-b", "key-c"])
    assert [endpoint.group for endpoint in found] == groups


@pytest.mark.parametrize("keys", ["key-a,key-b,key-c", "key-a|key-b|key-c", "key-a,key-b|key-c"])
@pytest.mark.parametrize("name", ["AZURE_OPENAI_KEY", "AZURE_OPENAI_API_KEY"])
def test_keys_in_other_groups_than_the_endpoints_are_reported(name: str, keys: str) -> None:
    listed = {"AZURE_OPENAI_ENDPOINT": "https://a.com|https://b.com,https://c.com", "AZURE_OPENAI_KEY": "", name: keys}
    assert problems(**listed) == {name: "has other groups than AZURE_OPENAI_ENDPOINT; put ',' and '|' in the same places"}


@pytest.mark.parametrize(
    "endpoints", ["|https://a.com", "https://a.com|", "https://a.com||https://b.com", "https://a.com,|"]
)
def test_a_group_with_an_empty_entry_is_reported(endpoints: str) -> None:
    assert "empty entry" in problems(AZURE_OPENAI_ENDPOINT=endpoints)["AZURE_OPENAI_ENDPOINT"]


def test_a_response_ends_long_before_the_host_would_end_its_invocation() -> None:
    # The host then restarts the worker, and interrupts everybody's calls.
    hours, minutes, seconds = map(int, json.loads((PROJECT / "host.json").read_text())["functionTimeout"].split(":"))
    assert settings().stream_seconds <= hours * 3600 + minutes * 60 + seconds - 240


@pytest.mark.parametrize("keys", ["key-a", "key-a,key-b,key-c"])
def test_too_few_and_too_many_keys_are_reported(keys: str) -> None:
    problem = problems(AZURE_OPENAI_ENDPOINT="https://a.com,https://b.com", AZURE_OPENAI_KEY=keys)["AZURE_OPENAI_KEY"]
    assert "for 2 endpoints" in problem
    assert "key-a" not in problem


@pytest.mark.parametrize("origin", ["http://localhost:8080", "http://127.0.0.1:8080", "http://[::1]:8080"])
def test_http_is_allowed_on_loopback(origin: str) -> None:
    assert settings(AZURE_OPENAI_ENDPOINT=origin).endpoints[0].origin == origin


@pytest.mark.parametrize("url", [f"{ENDPOINT}/", f"{ENDPOINT}:443", "HTTPS://Name.OpenAI.azure.com"])
def test_an_origin_is_normalized(url: str) -> None:
    assert settings(AZURE_OPENAI_ENDPOINT=url).endpoints[0].origin == ENDPOINT


@pytest.mark.parametrize(
    ("endpoint", "problem"),
    [
        (f"{ENDPOINT}/openai/deployments/chat/chat/completions?api-version=1", f"use {ENDPOINT}"),
        (f"{ENDPOINT}/openai/v1/", f"use {ENDPOINT}"),
        (f"{ENDPOINT}?a=b", f"use {ENDPOINT}"),
        ("https://user:secret@name.openai.azure.com", f"use {ENDPOINT}"),
        ("http://name.openai.azure.com", "must begin with https://"),
        ("http://127.0.0.1.example.com", "must begin with https://"),
        ("name.openai.azure.com", "is not a URL"),
        ("https://name..openai.azure.com", "is not a URL"),
        (f"https://{'a' * 64}.openai.azure.com", "is not a URL"),
        ("https://999.1.1.1", "is not a URL"),
        ("https://name.openai.azure.com:0", "is not a URL"),
        ("https://name.openai.azure.com:-1", "is not a URL"),
        ("https://name.openai.azure.com:99999", "is not a URL"),
        ("https://NAME.openai.azure.com", "still has the example's NAME"),
        ("https://", "is not a URL"),
        ("https://name:port", "is not a URL"),
        ("https://[::1", "is not a URL"),
        ("https://na me.com", "is not a URL"),
        ("https://[::1]x", "is not a URL"),
        ("ftp://name.com", "is not a URL"),
        (f"{ENDPOINT},", "empty entry"),
        (
            f"{ENDPOINT}|name.azure.com,{ENDPOINT}",
            "is not a URL; it should look like https://NAME.openai.azure.com (entry 2 of 3)",
        ),
        (REFERENCE, "Key Vault reference that did not resolve"),
    ],
)
def test_a_bad_endpoint_is_reported_with_its_problem(endpoint: str, problem: str) -> None:
    found = problems(AZURE_OPENAI_ENDPOINT=endpoint)
    assert list(found) == ["AZURE_OPENAI_ENDPOINT"]
    assert problem in found["AZURE_OPENAI_ENDPOINT"]
    assert "secret" not in found["AZURE_OPENAI_ENDPOINT"] or endpoint == REFERENCE


@pytest.mark.parametrize("version", ["2024-10-21", "2025-01-01-preview", "v1"])
def test_dated_versions_previews_and_v1_are_accepted(version: str) -> None:
    assert settings(AZURE_OPENAI_API_VERSION=version).api_version == version


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("AZURE_OPENAI_API_VERSION", "latest", "'latest' is not an API version"),
        ("AZURE_OPENAI_API_VERSION", "v2", "is not an API version"),
        ("AZURE_OPENAI_API_VERSION", "2024-1-1", "is not an API version"),
        ("AZURE_OPENAI_KEY", "KEY-OF-THE-RESOURCE", "still has the example's text"),
        ("AZURE_OPENAI_KEY", "two words", "without blanks"),
        ("AZURE_OPENAI_KEY", "clé", "printable ASCII"),
        ("AZURE_OPENAI_KEY", REFERENCE, "did not resolve"),
        ("AZURE_OPENAI_KEY", f"a,{REFERENCE}", "did not resolve"),
        ("AZURE_OPENAI_CHATGPT_DEPLOYMENT", "../../files", "is not a deployment's name"),
        ("AZURE_OPENAI_CHATGPT_DEPLOYMENT", "..", "is not a deployment's name"),
        ("AZURE_OPENAI_DEPLOYMENTS", "a=.", "is not a deployment's name"),
        ("MAX_CONCURRENT_CALLS", "٣", "must be a whole number"),
        ("AZURE_OPENAI_CHATGPT_DEPLOYMENT", "a" * 65, "is not a deployment's name"),
        ("AZURE_OPENAI_DEPLOYMENTS", "a=b/c", "'b/c' is not a deployment's name"),
        ("AZURE_OPENAI_DEPLOYMENTS", "a=b:c", "'b:c' is not a deployment's name"),
        ("AZURE_OPENAI_DEPLOYMENTS", "openai/gpt-4o", "is not a deployment's name"),
        ("AZURE_OPENAI_DEPLOYMENTS", "a b=c", "'a b' is not an alias"),
        ("AZURE_OPENAI_DEPLOYMENTS", "..=c", "'..' is not an alias"),
        ("AZURE_OPENAI_CHATGPT_DEPLOYMENT", "openai/gpt-4o", "is not a deployment's name"),
        ("AZURE_OPENAI_DEPLOYMENTS", "a=b,a=c", "'a' two meanings"),
        ("AZURE_OPENAI_DEPLOYMENTS", "a,,b", "empty entry"),
        ("AZURE_CLIENT_ID", REFERENCE, "did not resolve"),
        ("CALLER_KEYS", REFERENCE, "did not resolve"),
        ("CALLER_KEYS", f"web={REFERENCE}", "did not resolve"),
        ("CALLER_KEYS", "web=short", "fewer than 16 characters"),
        ("CALLER_KEYS", "web", "fewer than 16 characters"),
        ("CALLER_KEYS", f"our web={KEY}", "must be name=key"),
        ("CALLER_KEYS", f"{KEY}=web", "fewer than 16 characters; it must be name=key"),
        ("CALLER_KEYS", f"app={KEY}-app,{KEY}", "it must be name=key (entry 2 of 2)"),
        ("AZURE_OPENAI_API_VERSION", KEY * 2, "a text of 46 characters is not an API version"),
        ("AZURE_OPENAI_DEPLOYMENTS", f"chat,{KEY * 4}", "a text of 92 characters is not a deployment's name"),
        ("REQUEST_TIMEOUT_SECONDS", "1e308", "at most 86400"),
        ("CALLER_KEYS", f"web={KEY},app={KEY}", "the same key twice"),
        ("REQUEST_TIMEOUT_SECONDS", "soon", "must be a number of seconds greater than 0"),
        ("REQUEST_TIMEOUT_SECONDS", "-1", "must be a number of seconds greater than 0"),
        ("REQUEST_TIMEOUT_SECONDS", "0", "must be a number of seconds greater than 0"),
        ("ATTEMPT_TIMEOUT_SECONDS", "nan", "must be a number of seconds greater than 0"),
        ("STREAM_SECONDS", "1500s", "must be a number of seconds greater than 0"),
        ("STREAM_IDLE_SECONDS", "inf", "must be a number of seconds greater than 0"),
        ("MAX_CONCURRENT_CALLS", "1.5", "must be a whole number greater than 0"),
        ("MAX_CONCURRENT_CALLS", "0", "must be a whole number greater than 0"),
        ("MAX_BODY_BYTES", "20 MB", "must be a whole number greater than 0"),
        ("STREAM_USAGE", "yes", "must be true or false"),
    ],
)
def test_a_bad_value_is_named(name: str, value: str, problem: str) -> None:
    found = problems(**{name: value})
    assert list(found) == [name]
    assert problem in found[name]
    assert KEY not in str(found)


ALL = json.loads((PROJECT / "local.settings.json.example").read_text())["Values"]
OWN = [name for name in ALL if name not in ("FUNCTIONS_WORKER_RUNTIME", "AzureWebJobsStorage", SCHEDULE_NAME)]


@pytest.mark.parametrize("quotes", ['""', "''", "“”"])
@pytest.mark.parametrize("name", OWN)
def test_quotes_around_any_setting_are_named(name: str, quotes: str) -> None:
    found = problems(**TOKENS | {name: quotes[0] + (ALL[name] or "a") + quotes[1]})
    assert found == {name: QUOTED}


@pytest.mark.parametrize(
    ("name", "value", "where"),
    [
        ("AZURE_OPENAI_ENDPOINT", f"{ENDPOINT},'{ENDPOINT}'", " (entry 2 of 2)"),
        ("AZURE_OPENAI_ENDPOINT", f'"{ENDPOINT}"|{ENDPOINT}', " (entry 1 of 2)"),
        ("AZURE_OPENAI_KEY", f'{KEY},"{KEY}"', " (entry 2 of 2)"),
        ("AZURE_OPENAI_DEPLOYMENTS", "other,'chat'", " (entry 2 of 2)"),
        ("AZURE_OPENAI_DEPLOYMENTS", 'gpt-4o="chat"', ""),
        ("AZURE_OPENAI_DEPLOYMENTS", "'gpt-4o'=chat", ""),
        ("CALLER_KEYS", f"web={KEY},'app={KEY}-app'", " (entry 2 of 2)"),
        ("CALLER_KEYS", f'web="{KEY}"', ""),
        ("CALLER_KEYS", f"'web'={KEY}", ""),
    ],
)
def test_quotes_around_an_entry_or_a_part_of_one_are_named(name: str, value: str, where: str) -> None:
    assert problems(**{name: value}) == {name: QUOTED + where}


def test_quotes_in_the_second_name_of_the_key_are_named() -> None:
    assert problems(AZURE_OPENAI_KEY="", AZURE_OPENAI_API_KEY=f'"{KEY}"') == {"AZURE_OPENAI_API_KEY": QUOTED}


def test_with_quotes_around_azure_no_key_is_asked_for() -> None:
    assert problems(AUTHENTICATION='"AZURE"', AZURE_OPENAI_KEY="") == {"AUTHENTICATION": QUOTED}


def test_quotes_around_the_schedule_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert health_check_schedule({SCHEDULE_NAME: '"0 0 * * * *"'}, Path("absent.env")) == "0 */5 * * * *"
    assert f"{SCHEDULE_NAME} {QUOTED}" in caplog.text


REFERENCES = {
    "@Microsoft.KeyVault(SecretUri=https://vault.vault.azure.net/secrets/key)": "a Key Vault reference",
    "@microsoft.keyvault(VaultName=vault;SecretName=key)": "a Key Vault reference",
    "@Microsoft.AppConfiguration(Endpoint=https://a.azconfig.io; Key=k)": "an App Configuration reference",
    "@MICROSOFT.APPCONFIGURATION(Endpoint=https://a.azconfig.io; Key=k)": "an App Configuration reference",
}


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("name", OWN)
def test_an_unresolved_reference_is_named_in_any_setting(name: str, reference: str) -> None:
    found = problems(**TOKENS | {name: reference})
    assert list(found) == [name]
    assert found[name].startswith(f"is {REFERENCES[reference]} that did not resolve; check that ")


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AZURE_OPENAI_ENDPOINT", f"{ENDPOINT},"),
        ("AZURE_OPENAI_ENDPOINT", f"{ENDPOINT}|"),
        ("AZURE_OPENAI_KEY", "key-a,"),
        ("AZURE_OPENAI_DEPLOYMENTS", "gpt-4o="),
        ("AZURE_OPENAI_DEPLOYMENTS", "other,"),
        ("CALLER_KEYS", "web="),
        ("CALLER_KEYS", f"app={KEY},web="),
    ],
)
def test_an_unresolved_reference_is_named_in_any_list(name: str, value: str, reference: str) -> None:
    found = problems(**{name: value + reference})
    assert list(found) == [name]
    assert found[name].startswith(
        f"holds {REFERENCES[reference]} that did not resolve; a reference must be the whole setting"
    )


@pytest.mark.parametrize(
    "host",
    ["eastus2.api.cognitive.microsoft.com", "usgovvirginia.api.cognitive.microsoft.us", "chinaeast2.api.cognitive.azure.cn"],
)
def test_a_regional_endpoint_with_an_identity_causes_a_warning(host: str) -> None:
    endpoints = {"AZURE_OPENAI_ENDPOINT": f"{ENDPOINT},https://{host}", "AZURE_OPENAI_TOKEN_SCOPE": "https://scope/.default"}
    (warning,) = settings(**endpoints, AUTHENTICATION="AZURE").warnings
    assert warning.startswith(f"Endpoint 2 is {host}, which accepts no Entra ID tokens; use the resource's own URL")
    assert settings(**endpoints, AZURE_OPENAI_KEY="key-a,key-b").warnings == ()


SERVICE_PRINCIPAL = {"AZURE_TENANT_ID": "tenant", "AZURE_CLIENT_ID": "client", "AZURE_CLIENT_SECRET": "a-secret"}


@pytest.mark.parametrize("names", EARLIER_CREDENTIALS)
@pytest.mark.parametrize("choice", ["", "prod", " Prod "])
def test_credentials_before_the_managed_identity_cause_a_warning(names: tuple[str, ...], choice: str) -> None:
    complete = dict.fromkeys(names, "a-secret")
    (warning,) = settings(**complete, AUTHENTICATION="AZURE", AZURE_TOKEN_CREDENTIALS=choice).warnings
    assert warning.startswith(
        f"The app signs in with {', '.join(names)}, and not with its managed identity; remove {names[-1]}"
    )
    assert "a-secret" not in warning
    assert settings(**complete).warnings == (), "with a key, nothing signs in"
    for name in names:
        others = {other: "a-secret" for other in names if other != name}
        assert settings(**others, AUTHENTICATION="AZURE").warnings == (), f"it needs {name} as well"


def test_the_client_id_in_the_file_counts_for_a_workload_identity_alone(dotenv: Path) -> None:
    dotenv.write_text("AZURE_CLIENT_ID=client\n")
    others = {"AUTHENTICATION": "AZURE", "AZURE_TENANT_ID": "tenant"}
    (warning,) = settings(dotenv, **others, AZURE_FEDERATED_TOKEN_FILE="path").warnings
    assert "remove AZURE_FEDERATED_TOKEN_FILE" in warning
    assert settings(dotenv, **others, AZURE_CLIENT_SECRET="a-secret").warnings == ()


@pytest.mark.parametrize("name", SERVICE_PRINCIPAL)
def test_an_empty_variable_counts_for_a_service_principal_alone(name: str) -> None:
    (warning,) = settings(**SERVICE_PRINCIPAL | {name: ""}, AUTHENTICATION="AZURE").warnings
    assert "remove AZURE_CLIENT_SECRET" in warning
    workload = dict.fromkeys(WORKLOAD_IDENTITY, "x")
    for empty in WORKLOAD_IDENTITY:
        assert settings(**workload | {empty: ""}, AUTHENTICATION="AZURE").warnings == ()


def test_a_quoted_token_scope_is_reported_as_that() -> None:
    both = {"AZURE_OPENAI_ENDPOINT": "https://a.azure.com,https://b.azure.us", "AUTHENTICATION": "AZURE"}
    assert "quotes" in problems(**both, AZURE_OPENAI_TOKEN_SCOPE="'https://a'")["AZURE_OPENAI_TOKEN_SCOPE"]


def test_only_the_credential_that_is_used_is_named() -> None:
    (warning,) = settings(**SERVICE_PRINCIPAL, AZURE_CLIENT_CERTIFICATE_PATH="path", AUTHENTICATION="AZURE").warnings
    assert "remove AZURE_CLIENT_SECRET" in warning
    assert "CERTIFICATE" not in warning


@pytest.mark.parametrize("choice", ["ManagedIdentityCredential", "EnvironmentCredential", "dev"])
def test_an_operator_who_chooses_the_credential_gets_no_warning(choice: str) -> None:
    assert settings(**SERVICE_PRINCIPAL, AUTHENTICATION="AZURE", AZURE_TOKEN_CREDENTIALS=choice).warnings == ()


@pytest.mark.parametrize("choice", ["", "prod", "ManagedIdentityCredential", "dev"])
@pytest.mark.parametrize("names", [names for names in EARLIER_CREDENTIALS if "AZURE_CLIENT_CERTIFICATE_PATH" not in names])
def test_azure_identity_tries_these_credentials_first(
    names: tuple[str, ...], choice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*names, "AZURE_TOKEN_CREDENTIALS"):
        monkeypatch.setenv(name, choice if name == "AZURE_TOKEN_CREDENTIALS" else "11111111-2222-3333-4444-555555555555")
    with warnings.catch_warnings():
        # Signing in with a user's password is deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        with DefaultAzureCredential() as credential:
            chain = [type(part).__name__ for part in credential.credentials if is_configured(part)]
    is_tried_first = "ManagedIdentityCredential" in chain and chain[0] != "ManagedIdentityCredential"
    found = settings(**dict(os.environ), AUTHENTICATION="AZURE").warnings
    assert bool(found) == is_tried_first == (choice in ("", "prod"))


def is_configured(credential: object) -> bool:
    """Return whether DefaultAzureCredential would ask this credential of its chain."""
    if isinstance(credential, EnvironmentCredential):
        return credential._credential is not None
    return type(credential).__name__ != "FailedDACCredential"


def test_numbers_and_booleans_are_parsed() -> None:
    found = settings(REQUEST_TIMEOUT_SECONDS="0.5", MAX_CONCURRENT_CALLS="7", STREAM_USAGE="True")
    assert (found.request_timeout, found.max_concurrent_calls, found.stream_usage) == (0.5, 7, True)


def test_a_deployment_can_be_called_by_its_name_and_its_alias() -> None:
    found = settings(AZURE_OPENAI_DEPLOYMENTS="gpt-4o=prod-4o, embed-3")
    assert found.deployments == {"chat": "chat", "gpt-4o": "prod-4o", "prod-4o": "prod-4o", "embed-3": "embed-3"}


def test_an_alias_may_contain_slashes_and_colons() -> None:
    assert settings(AZURE_OPENAI_DEPLOYMENTS="openai/gpt-4o:latest=chat").deployments == {
        "chat": "chat",
        "openai/gpt-4o:latest": "chat",
    }


def test_an_alias_takes_precedence_over_a_deployment_of_the_same_name() -> None:
    found = settings(AZURE_OPENAI_DEPLOYMENTS="blue=one,green=blue")
    assert found.deployments == {"chat": "chat", "blue": "one", "one": "one", "green": "blue"}


def test_caller_keys_may_share_a_name() -> None:
    keys = settings(CALLER_KEYS=f"web={KEY}=1, web={KEY}=2").caller_keys
    assert [(key.name, key.key) for key in keys] == [("web", f"{KEY}=1"), ("web", f"{KEY}=2")]


@pytest.mark.parametrize(
    ("host", "scope"),
    [
        ("name.openai.azure.com", "https://cognitiveservices.azure.com/.default"),
        ("name.openai.azure.us", "https://cognitiveservices.azure.us/.default"),
        ("name.openai.azure.cn", "https://cognitiveservices.azure.cn/.default"),
        ("name.example.azure.us.com", "https://cognitiveservices.azure.com/.default"),
    ],
)
def test_the_token_scope_follows_the_cloud(host: str, scope: str) -> None:
    assert settings(AZURE_OPENAI_ENDPOINT=f"https://{host}", AUTHENTICATION="AZURE").token_scope == scope


def test_the_token_scope_can_be_set() -> None:
    assert settings(AZURE_OPENAI_TOKEN_SCOPE="https://ai.azure.com/.default").token_scope == "https://ai.azure.com/.default"


def test_endpoints_in_different_clouds_need_a_token_scope() -> None:
    both = {"AZURE_OPENAI_ENDPOINT": "https://a.azure.com,https://b.azure.us", "AZURE_OPENAI_KEY": "a,b"}
    assert "different clouds" in problems(**both, AUTHENTICATION="AZURE")["AZURE_OPENAI_TOKEN_SCOPE"]
    assert len(settings(**both).endpoints) == 2, "keys need no token"


def test_the_repr_contains_no_secret() -> None:
    assert KEY not in repr(settings(CALLER_KEYS=f"web={KEY}-web"))


def test_the_environment_is_not_modified() -> None:
    environ = dict(VALID)
    Settings.from_env(environ, Path("absent.env"))
    assert environ == VALID
