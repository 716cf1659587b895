"""Test which keys open the OpenAI-compatible routes, and that none of them appears in the log."""

import re

import pytest

from tests.support.openai_routes import BEARER, BODIES, BODY, CHAT, OLD_KEY, read_status
from tests.support.processes import LocalApp, Simulator
from tests.support.streams import read_unfinished
from tests.support.upstreams import CALLER_KEY, Gateway


@pytest.fixture(autouse=True)
def empty_journal(dated: LocalApp) -> None:
    dated.model.clear()


class TestCallerKeys:
    @pytest.mark.parametrize(
        "headers",
        [
            BEARER,
            {"authorization": f"bearer  {CALLER_KEY}"},
            {"api-key": CALLER_KEY},
            {"x-api-key": CALLER_KEY},
            {"api-key": OLD_KEY},
            {"authorization": "Bearer of-something-else", "api-key": CALLER_KEY},
        ],
    )
    def test_a_key_is_accepted_in_every_header_that_clients_use(self, dated: LocalApp, headers: dict[str, str]) -> None:
        assert dated.http.get("/api/v1/models", headers=headers).status_code == 200
        assert dated.http.post(CHAT, content=BODY, headers=headers).status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"api-key": "wrong"},
            {"api-key": ""},
            {"authorization": "Bearer"},
            {"authorization": f"Basic {CALLER_KEY}"},
            {"api-key": CALLER_KEY[:-1]},
            {"api-key": CALLER_KEY + "x"},
            {"api-key": CALLER_KEY.upper()},
            {"api-key": "team-a"},
            {"api-key": f"team-a={CALLER_KEY}"},
            {"api-key": "k" * 6000},
            {"api-key": "ключ".encode()},
            {"api-key": b"\xff\xfe"},
            {"x-functions-key": CALLER_KEY},
            {"cookie": f"api-key={CALLER_KEY}"},
            {"X-MS-CLIENT-PRINCIPAL-ID": "00000000-0000-0000-0000-000000000000", "X-MS-CLIENT-PRINCIPAL-NAME": "team-a"},
        ],
    )
    def test_a_request_without_a_valid_key_is_401(self, dated: LocalApp, headers: dict[str, str]) -> None:
        requests = [("POST", path) for path in BODIES] + [
            ("POST", "/api/openai/deployments/gpt-4o/chat/completions"),
            ("POST", "/api/openai/deployments/gpt-4o/embeddings"),
            ("GET", "/api/v1/models"),
            ("GET", "/api/v1/models/gpt-4o"),
            *[
                (method, f"/api/{api}/responses{suffix}")
                for api in ("v1", "openai")
                for method, suffix in (("GET", "/a"), ("DELETE", "/a"), ("POST", "/a/cancel"), ("GET", "/a/input_items"))
            ],
        ]
        for method, path in requests:
            response = dated.http.request(method, path, headers=headers, params={"code": CALLER_KEY, "api-key": CALLER_KEY})
            assert response.status_code == 401, (method, path)
            assert response.json()["error"]["code"] == "invalid_api_key"
            assert response.headers["www-authenticate"] == "Bearer"
        assert dated.model.journal() == []

    def test_every_route_requires_a_caller_key_except_those_listed_here(self, dated: LocalApp) -> None:
        without_key = {"health_live", "health_ready", "openapi_json", "playground_page"}
        with_function_key = {"chat", "health_detail"}
        routes = re.findall(r"\t(\w+): \[([A-Z,]+)\] http://localhost:\d+(/\S+)", dated.output)
        assert len(routes) == 8
        for name, methods, path in routes:
            for method in methods.split(","):
                response = dated.http.request(method, path.replace("{", "").replace("}", ""))
                # Without --enable-auth, the local host requires no function keys.
                expected = {200} if name in without_key else {200, 400} if name in with_function_key else {401}
                if method == "OPTIONS":
                    expected = {204}
                assert response.status_code in expected, (name, method)

    def test_a_key_is_checked_before_the_body_is_read(self, dated: LocalApp) -> None:
        with dated.send_raw("POST", CHAT, length=1000, api_key="wrong") as connection:
            assert read_status(connection) == 401

    def test_a_client_that_sends_a_large_body_with_a_wrong_key_gets_the_401(self, dated: LocalApp) -> None:
        response = dated.http.post(CHAT, content=b" " * 8_000_000, headers={"api-key": "wrong"})
        assert response.status_code == 401

    @pytest.mark.parametrize(
        "environ",
        [
            {"AZURE_FUNCTIONS_ENVIRONMENT": "Production"},
            {"WEBSITE_INSTANCE_ID": "0123"},
            {"WEBSITE_POD_NAME": "pod", "AZURE_FUNCTIONS_ENVIRONMENT": "Development"},
            {"CONTAINER_APP_NAME": "app", "AZURE_FUNCTIONS_ENVIRONMENT": "Development"},
        ],
    )
    def test_without_caller_keys_the_routes_are_closed_in_azure(
        self, gateway: Gateway, model: Simulator, environ: dict[str, str]
    ) -> None:
        gateway.configure(model.url, CALLER_KEYS="", **environ)
        for headers in ({}, BEARER):
            response = gateway.http.post(CHAT, content=BODY, headers=headers)
            assert response.status_code == 401
            assert "CALLER_KEYS" in response.json()["error"]["message"]
        assert gateway.http.get("/api/v1/models").status_code == 401
        assert gateway.app.chat({"prompt": "Hello"}).status_code == 200

    def test_without_caller_keys_the_routes_are_open_on_a_developers_machine(
        self, gateway: Gateway, model: Simulator
    ) -> None:
        gateway.configure(model.url, CALLER_KEYS="")
        assert gateway.http.post(CHAT, content=BODY).status_code == 200
        # SDKs always send a key.
        assert gateway.http.get("/api/v1/models", headers=BEARER).status_code == 200

    @pytest.mark.parametrize(
        ("value", "problem"),
        [
            ("team-a=short", "fewer than 16 characters"),
            (f"team-a={CALLER_KEY},team-b={CALLER_KEY}", "same key twice"),
            ("@Microsoft.KeyVault(SecretUri=https://x.vault.azure.net/secrets/y)", "did not resolve"),
            (f"team-a={CALLER_KEY},team-b=@Microsoft.KeyVault(SecretUri=https://x)", "did not resolve"),
        ],
    )
    def test_the_error_for_an_invalid_list_of_keys_names_the_setting(
        self, gateway: Gateway, model: Simulator, value: str, problem: str
    ) -> None:
        gateway.configure(model.url, CALLER_KEYS=value)
        response = gateway.http.post(CHAT, content=BODY, headers=BEARER)
        assert response.status_code == 503
        assert "CALLER_KEYS" in response.json()["error"]["message"]
        gateway.app.wait_for(problem)
        assert CALLER_KEY not in gateway.app.output

    def test_the_log_has_the_callers_name_but_no_key(self, dated: LocalApp) -> None:
        dated.model.script({"status": 500}, {"reset": True, "times": 2}, {"status": 401}, {"reply": "one and two", "cut": 1})
        for _ in range(3):
            dated.http.post(CHAT, content=BODY, headers={"api-key": OLD_KEY})
        body = BODY[:-1] + b',"stream":true}'
        with dated.http.stream("POST", CHAT, content=body, headers={"api-key": OLD_KEY}) as response:
            read_unfinished(response)
        dated.wait_for("Endpoint 1, called by team-a, responded with 500")
        dated.wait_for("No response from endpoint 1 to team-a")
        dated.wait_for("Endpoint 1, called by team-a, responded with 401 PermissionDenied: check AZURE_OPENAI_KEY")
        dated.wait_for("stream=true status=200 error=stream_broken")
        assert CALLER_KEY not in dated.output
        assert OLD_KEY not in dated.output
