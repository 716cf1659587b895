"""Test how the app loads: without settings, without I/O, without optional imports, and with settings that are wrong."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import PROJECT, LocalApp, eventually, local_app
from tests.support.upstreams import Gateway

# Valid settings for an endpoint where nothing listens.
UNREACHABLE = {
    "AZURE_OPENAI_ENDPOINT": "http://127.0.0.1:9",
    "AZURE_OPENAI_KEY": "some-key",
    "AZURE_OPENAI_API_VERSION": "v1",
    "AZURE_OPENAI_CHATGPT_DEPLOYMENT": "chat",
}

PROBE = """
import sys
opened = []
sys.addaudithook(lambda event, _: opened.append(event) if event in ("socket.__new__", "socket.connect") else None)
import function_app
print(len(function_app.app.get_functions()), opened, "azure.identity" in sys.modules)
"""


def test_the_import_needs_no_settings_no_socket_and_no_azure_identity() -> None:
    run = subprocess.run([sys.executable, "-c", PROBE], cwd=PROJECT, env={}, capture_output=True, text=True, check=True)
    assert run.stdout == "9 [] False\n"


@pytest.mark.parametrize("tenant", ["", "aaaabbbb-0000-cccc-1111-dddd2222eeee"])
def test_pyjwt_is_imported_only_if_callers_may_have_tokens(tenant: str) -> None:
    code = "import sys, function_app; function_app.shared_gateway(); print('jwt' in sys.modules)"
    environ = UNREACHABLE | {"CALLER_TENANT_ID": tenant, "CALLER_AUDIENCE": tenant and "api://app"}
    run = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=environ, capture_output=True, text=True, check=True)
    assert run.stdout == f"{bool(tenant)}\n"


@pytest.fixture(scope="module")
def unset_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalApp]:
    with local_app(tmp_path_factory.mktemp("app"), "--no-simulator") as app:
        yield app


def test_without_settings_the_functions_load_and_the_error_names_the_missing_ones(unset_app: LocalApp) -> None:
    response = unset_app.chat({"prompt": "Hello"})
    assert response.status_code == 503
    error = response.json()["error"]
    assert error["code"] == "not_configured"
    for name in ("ENDPOINT", "KEY", "API_VERSION", "CHATGPT_DEPLOYMENT"):
        assert f"AZURE_OPENAI_{name}" in error["message"]
        unset_app.wait_for(f"AZURE_OPENAI_{name}: is missing")


def test_the_error_names_invalid_settings_and_the_log_says_what_is_wrong(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    bad = {"AZURE_OPENAI_ENDPOINT": "https://name.example.com/openai", "AUTHENTICATION": "AZRUE"}
    with local_app(tmp_path_factory.mktemp("app"), **bad) as app:
        message = app.chat({"prompt": "Hello"}).json()["error"]["message"]
        assert "AZURE_OPENAI_ENDPOINT" in message
        assert "name.example.com" not in message
        app.wait_for("must be the bare URL of the resource: use https://name.example.com")
        app.wait_for("AUTHENTICATION is 'AZRUE': set it to AZURE, or give an API key")


def test_one_setting_switches_from_the_key_to_the_identity(tmp_path_factory: pytest.TempPathFactory) -> None:
    identity = "managed identity (system-assigned, or yours, by az login)"
    for switch, expected in (({}, "API key"), ({"AUTHENTICATION": "AZURE"}, identity)):
        with local_app(tmp_path_factory.mktemp("app"), **UNREACHABLE, **switch) as app:
            response = app.chat({"prompt": "Hello"})
            assert response.status_code == 502
            assert response.json()["error"]["code"] in ("upstream_unreachable", "upstream_auth")
            app.wait_for(f"API version v1, {expected}")


def test_an_unreachable_endpoint_is_502(tmp_path_factory: pytest.TempPathFactory) -> None:
    with local_app(tmp_path_factory.mktemp("app"), **UNREACHABLE) as app:
        response = app.chat({"prompt": "Hello"})
        assert response.status_code == 502
        assert response.json()["error"]["code"] == "upstream_unreachable"
        assert "127.0.0.1" not in response.text


NOT_A_URL = (503, "not_configured", "AZURE_OPENAI_ENDPOINT: is not a URL")
NOT_FOUND = (502, "upstream_unreachable", "Name or service not known. Check the name in AZURE_OPENAI_ENDPOINT")


@pytest.mark.parametrize(
    ("endpoint", "status", "code", "log"),
    [
        ("https://name..x", *NOT_A_URL),
        (f"https://{'a' * 70}.invalid", *NOT_A_URL),
        ("https://999.1.1.1", *NOT_A_URL),
        ("https://a%zz.invalid", *NOT_FOUND),
        ("https://-a_b-.invalid", *NOT_FOUND),
        ("https://<name>.invalid", *NOT_FOUND),
        (f"https://{'a.' * 150}invalid", *NOT_FOUND),
        ("https://127.0.0.1:99999", *NOT_A_URL),
    ],
)
def test_the_log_names_the_setting_of_an_invalid_host(
    gateway: Gateway, endpoint: str, status: int, code: str, log: str
) -> None:
    gateway.configure(endpoint)
    before = gateway.app.output.count(log)
    response = gateway.app.chat({"prompt": "Hello"})
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    eventually(lambda: gateway.app.output.count(log), lambda count: count == before + 1)


def test_a_likely_mistake_in_the_settings_is_logged_once(folder: Path) -> None:
    warning = "] AUTHENTICATION is 'AZRUE', so an API key is used"
    with local_app(folder, **UNREACHABLE, AUTHENTICATION="AZRUE") as app:
        for _ in range(2):
            assert app.chat({"prompt": "Hello"}).status_code == 502
        assert app.output.count(warning) == 1


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/api/v1/models/a%0Ab", "model_not_found"),
        ("GET", "/api/v1/models/%0A", "model_not_found"),
        ("GET", "/api/v1/responses/a%0D%0Ab", "response_not_found"),
        ("POST", "/api/openai/deployments/a%0Ab/chat/completions", "model_not_found"),
        ("GET", "/api/v1/a%0Ab", "path_not_found"),
        ("GET", "/api/v1/%0Ab", "path_not_found"),
        ("GET", "/api/openai/%0D%0A/models%0A", "path_not_found"),
        ("HEAD", "/api/v1/models/a%0Ab", None),
        ("OPTIONS", "/api/v1/a%0Ab", None),
    ],
)
def test_a_path_with_a_line_break_reaches_its_function(app: LocalApp, method: str, path: str, code: str | None) -> None:
    executed = app.output.count("Executed 'Functions.")
    response = app.http.request(method, path, json={"messages": []} if method == "POST" else None)
    assert response.status_code == (204 if method == "OPTIONS" else 404)
    assert (response.json()["error"]["code"] if response.content else None) == code
    # If the runtime's server responded without running the function, the host would wait for it in vain.
    eventually(lambda: app.output.count("Executed 'Functions."), lambda count: count > executed)
    assert "The runtime's HTTP server responded without running the function" not in app.output


def test_the_app_serves_its_description_at_the_root_of_an_empty_route_prefix(folder: Path) -> None:
    with local_app(folder, prefix="") as app:
        response = app.http.get("/openapi.json")
        assert response.json()["info"]["title"] == "Azure OpenAI on Azure Functions"
        app.wait_for("Executed 'Functions.openapi_json' (Succeeded")
        assert "responded without running the function" not in app.output
