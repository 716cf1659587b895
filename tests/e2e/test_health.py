"""Test the health routes and the timer that probes the endpoints, against the simulators."""

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from azure.functions.timer import TimerRequest

from local.serving import Servers
from local.simulator import payloads
from local.simulator.azure_openai import AzureOpenAISimulator
from shared.gateway import reset
from shared.health import DEGRADED, DOWN, HEALTHY, UNHEALTHY, UP, Finding, Report, Unhealthy, Watch
from tests.support.processes import Json, LocalApp, Simulator, local_app
from tests.support.upstreams import USER_ASSIGNED, ConfigureIdentity, Gateway


@pytest.fixture
def fresh_app(gateway: Gateway, model: Simulator) -> LocalApp:
    """Return an app that has not called its endpoint yet."""
    gateway.app.model = model
    return gateway.app


@pytest.fixture
def keyless(configure_identity: ConfigureIdentity) -> LocalApp:
    """Return an app with a user-assigned identity and no token yet."""
    return configure_identity(AZURE_CLIENT_ID=USER_ASSIGNED)


def ready(app: LocalApp) -> tuple[int, str]:
    response = app.http.get("/api/health/ready")
    assert response.headers["cache-control"] == "no-store"
    assert list(response.json()) == ["status"]
    return response.status_code, response.json()["status"]


def detail(app: LocalApp) -> Json:
    found: Json = app.http.get("/api/health").json()
    return found


def test_a_probe_shows_that_an_endpoint_works_and_uses_no_tokens(fresh_app: LocalApp) -> None:
    assert ready(fresh_app) == (200, "healthy")
    (endpoint,) = detail(fresh_app)["endpoints"]
    assert (endpoint["position"], endpoint["state"]) == (1, "up")
    assert endpoint["reason"] == "identity, network and deployment work"
    assert endpoint["latency_ms"] >= 0
    assert endpoint["age_seconds"] >= 0
    (seen,) = fresh_app.model.journal()
    assert json.loads(seen.body)["messages"] == []
    # Azure has rejected it, so no model has processed it.
    assert seen.status == 400


@pytest.mark.deep
def test_1000_requests_cause_one_probe(fresh_app: LocalApp) -> None:
    with ThreadPoolExecutor(100) as pool:
        found = set(pool.map(lambda _: ready(fresh_app), range(1000)))
    assert found == {(200, "healthy")}
    (seen,) = fresh_app.model.journal()
    assert seen.status == 400


@pytest.mark.deep
def test_1000_requests_during_a_failure_cause_one_probe_per_period(fresh_app: LocalApp) -> None:
    fresh_app.model.script({"status": 500, "times": 9})
    with ThreadPoolExecutor(100) as pool:
        found = set(pool.map(lambda _: ready(fresh_app), range(1000)))
    assert found == {(503, "unhealthy")}
    # One in each period of five seconds, and the requests may take several periods.
    assert len(fresh_app.model.journal()) <= 3


@pytest.mark.parametrize(
    ("script", "status", "state", "reason"),
    [
        ({"status": 401, "body": payloads.WRONG_KEY}, "unhealthy", "down", "responded with 401 401: check AZURE_OPENAI_KEY"),
        ({"status": 403}, "unhealthy", "down", "responded with 403 AuthenticationTypeDisabled: check AZURE_OPENAI_KEY"),
        ({"status": 404}, "unhealthy", "down", "there is no deployment 'chat'"),
        ({"status": 404, "body": payloads.NO_DEPLOYMENT_FOR_MODEL}, "unhealthy", "down", "there is no deployment 'chat'"),
        ({"status": 410}, "unhealthy", "down", "the model of the deployment 'chat' is retired"),
        ({"status": 403, "body": payloads.NETWORK_RULES}, "unhealthy", "down", "network rules exclude this app"),
        ({"status": 403, "body": payloads.PUBLIC_ACCESS_DISABLED}, "unhealthy", "down", "network rules exclude this app"),
        ({"status": 400, "body": payloads.NO_CUSTOM_SUBDOMAIN}, "unhealthy", "down", "regional endpoint accepts no token"),
        ({"status": 400, "body": payloads.API_VERSION_TOO_OLD}, "unhealthy", "down", "Set AZURE_OPENAI_API_VERSION"),
        ({"status": 404, "body": payloads.RESOURCE_NOT_FOUND}, "unhealthy", "down", "and AZURE_OPENAI_API_VERSION"),
        ({"status": 429}, "degraded", "throttled", "quota is used up"),
        ({"status": 500}, "unhealthy", "down", "responded with 500"),
        ({"status": 200, "body": {}}, "unhealthy", "down", "responded with 200 to a chat without messages"),
        ({"reset": True}, "unhealthy", "down", "cannot be reached; check AZURE_OPENAI_ENDPOINT"),
        ({"hang": True}, "unhealthy", "down", "no response within 5 s"),
    ],
)  # fmt: skip
def test_each_failure_has_its_own_state_and_reason(
    fresh_app: LocalApp, script: Json, status: str, state: str, reason: str
) -> None:
    fresh_app.model.script(script)
    assert ready(fresh_app) == (200 if status == "degraded" else 503, status)
    found = detail(fresh_app)
    assert found["status"] == status
    assert found["endpoints"][0]["state"] == state
    assert reason in found["endpoints"][0]["reason"]
    assert len(fresh_app.model.journal()) == 1


@pytest.mark.parametrize(
    ("operations", "reason"),
    [
        (["responses"], "the default deployment does not serve chats, but it serves responses"),
        (["embeddings"], "the default deployment does not serve chats, but it serves embeddings"),
        (["responses", "embeddings"], "the default deployment does not serve chats, but it serves responses and embeddings"),
        ([], "the default deployment does not serve chats"),
    ],
)
@pytest.mark.parametrize("version", ["v1", "2025-04-01-preview"])
def test_a_default_deployment_without_chats_is_healthy_and_the_reason_says_what_it_serves(
    gateway: Gateway, model: Simulator, operations: list[str], reason: str, version: str
) -> None:
    gateway.configure(model.url, AZURE_OPENAI_API_VERSION=version)
    model.http.put("/control/deployments", json={"chat": operations}).raise_for_status()
    # The calls of a caller who does not know it change nothing.
    for _ in range(3):
        assert ready(gateway.app) == (200, "healthy")
        assert gateway.app.chat({"prompt": "Hello"}).status_code == 400
    assert detail(gateway.app)["endpoints"][0]["reason"] == f"identity, network and deployment work; {reason}"
    gateway.http.post("/admin/functions/health_probe", json={})
    gateway.app.wait_for("Executed 'Functions.health_probe' (Succeeded")


@pytest.mark.parametrize("script", [{"status": 429}, {"status": 500}, {"status": 404}])
@pytest.mark.parametrize(("failures", "known"), [(1, ", but it serves embeddings"), (2, "")])
def test_the_reason_says_only_what_the_further_probes_have_shown(
    gateway: Gateway, model: Simulator, script: Json, failures: int, known: str
) -> None:
    gateway.configure(model.url)
    model.http.put("/control/deployments", json={"chat": ["responses", "embeddings"]}).raise_for_status()
    model.script({}, *[script] * failures)
    (found,) = detail(gateway.app)["endpoints"]
    assert found["state"] == "up"
    assert found["reason"].endswith(f"; the default deployment does not serve chats{known}")


@pytest.mark.parametrize("path", ["/live", "/ready", ""])
def test_a_probe_may_use_head(fresh_app: LocalApp, path: str) -> None:
    response = fresh_app.http.head(f"/api/health{path}")
    assert (response.status_code, response.content) == (200, b"")
    fresh_app.model.script({"status": 500, "times": 9})
    fresh_app.chat({"prompt": "Hello"})
    assert fresh_app.http.head(f"/api/health{path}").status_code == (200 if path == "/live" else 503)


def test_the_reason_names_a_missing_role_and_the_identity(keyless: LocalApp) -> None:
    keyless.model.script({"status": 401, "body": payloads.PERMISSION_DENIED})
    assert ready(keyless) == (503, "unhealthy")
    reason = detail(keyless)["endpoints"][0]["reason"]
    assert "'Cognitive Services OpenAI User'" in reason
    assert USER_ASSIGNED in reason


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ({"status": 403, "body": payloads.NETWORK_RULES}, "network rules exclude this app"),
        ({"status": 403, "body": payloads.VIRTUAL_NETWORK}, "network rules exclude this app"),
        ({"status": 400, "body": payloads.NO_CUSTOM_SUBDOMAIN}, "a regional endpoint accepts no tokens"),
        ({"status": 403, "body": payloads.PERMISSION_DENIED}, "'Cognitive Services OpenAI User'"),
    ],
)
def test_the_network_is_not_mistaken_for_the_role(keyless: LocalApp, script: Json, reason: str) -> None:
    keyless.model.script({**script, "times": 2})
    assert ready(keyless) == (503, "unhealthy")
    assert reason in detail(keyless)["endpoints"][0]["reason"]
    code = "upstream_auth" if "Services" in reason else "upstream_network"
    assert keyless.chat({"prompt": "Hello"}).json()["error"]["code"] == code
    keyless.wait_for(reason)


@pytest.mark.parametrize("script", [{"status": 400, "times": 99}, {"status": 500, "times": 99}, {"hang": True, "times": 99}])
def test_a_failing_identity_endpoint_is_reported_within_the_probes_deadline(keyless: LocalApp, script: Json) -> None:
    keyless.identity.script(script)
    response = keyless.http.get("/api/health/ready")
    assert response.status_code == 503
    assert response.elapsed.total_seconds() < 10
    reason = detail(keyless)["endpoints"][0]["reason"]
    assert "identity" in reason
    assert keyless.model.journal() == []


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"AZURE_TOKEN_CREDENTIALS": "ManagedIdentity"}, "Invalid value for AZURE_TOKEN_CREDENTIALS: managedidentity"),
        ({"AZURE_CLIENT_SECRET": ""}, "secret should be a Microsoft Entra application's client secret"),
        ({"AZURE_CLIENT_CERTIFICATE_PATH": "/no/such/file"}, "[Errno 2] No such file or directory: '/no/such/file'"),
        ({"AZURE_CLIENT_CERTIFICATE_PATH": "function_app.py"}, "Failed to deserialize certificate"),
    ],
)
def test_the_log_names_an_invalid_setting_of_azure_identity(
    gateway: Gateway, variables: dict[str, str], problem: str
) -> None:
    principal = {"AZURE_TENANT_ID": "tenant", "AZURE_CLIENT_ID": "client"}
    gateway.configure("http://127.0.0.1:9", AUTHENTICATION="AZURE", **principal, **variables)
    app = gateway.app
    assert ready(app) == (503, "not_configured")
    assert app.chat({"prompt": "Hello"}).status_code == 503
    app.wait_for(f"AZURE_... of azure-identity: {problem}")
    assert "Unexpected" not in app.output


def test_a_probe_replaces_a_rejected_token(keyless: LocalApp) -> None:
    keyless.model.script({"status": 401, "body": payloads.WRONG_TOKEN})
    assert ready(keyless) == (200, "healthy")


def test_an_app_with_invalid_settings_reports_not_configured(folder: Path) -> None:
    with local_app(folder, "--no-simulator", HEALTH_CHECK_SCHEDULE="*/2 * * * * *") as app:
        assert ready(app) == (503, "not_configured")
        found = detail(app)
        assert found["endpoints"] == []
        assert "AZURE_OPENAI_ENDPOINT" in found["reason"]
        assert app.http.get("/api/health/live").status_code == 200
        app.wait_for("Executed 'Functions.health_probe' (Failed")


@pytest.mark.parametrize(
    ("order", "status"),
    [(("down", "up", "up"), "degraded"), (("up", "down", "up"), "healthy"), (("down", "down"), "unhealthy")],
)
def test_the_first_endpoint_decides_between_healthy_and_degraded(
    gateway: Gateway, model: Simulator, order: tuple[str, ...], status: str
) -> None:
    urls = {"up": model.url, "down": "http://127.0.0.1:9"}
    gateway.configure(*(urls[state] for state in order))
    assert ready(gateway.app) == (503 if status == "unhealthy" else 200, status)
    found = detail(gateway.app)["endpoints"]
    assert [(endpoint["position"], endpoint["state"]) for endpoint in found] == list(enumerate(order, start=1))


def test_a_recently_served_call_replaces_a_probe(fresh_app: LocalApp) -> None:
    assert fresh_app.chat({"prompt": "Hello"}).status_code == 200
    assert ready(fresh_app) == (200, "healthy")
    assert detail(fresh_app)["endpoints"][0]["reason"] == "has just served a call"
    assert len(fresh_app.model.journal()) == 1


@pytest.mark.parametrize("failure", [{"status": 500}, {"status": 401}, {"status": 404}, {"reset": True}])
def test_failing_calls_do_not_hide_an_outage(fresh_app: LocalApp, failure: Json) -> None:
    fresh_app.model.script({**failure, "times": 99})
    for _ in range(3):
        assert fresh_app.chat({"prompt": "Hello"}).status_code >= 500
        assert ready(fresh_app) == (503, "unhealthy")
    assert detail(fresh_app)["endpoints"][0]["state"] == "down"
    assert "429" not in detail(fresh_app)["endpoints"][0]["reason"]


def test_an_app_whose_endpoint_cools_down_is_degraded_without_a_probe(fresh_app: LocalApp) -> None:
    assert fresh_app.chat({"prompt": "Hello"}).status_code == 200
    fresh_app.model.script({"status": 429, "headers": {"retry-after": "60"}})
    assert fresh_app.chat({"prompt": "Hello"}).status_code == 429
    assert ready(fresh_app) == (200, "degraded")
    assert "cooling down for another" in detail(fresh_app)["endpoints"][0]["reason"]
    assert len(fresh_app.model.journal()) == 2


@pytest.mark.parametrize(("since", "found"), [({}, (200, "healthy")), ({"status": 401, "times": 9}, (503, "unhealthy"))])
def test_later_calls_override_a_long_cooldown(fresh_app: LocalApp, since: Json, found: tuple[int, str]) -> None:
    fresh_app.model.script({"status": 429, "headers": {"retry-after": "3600"}}, since)
    for _ in range(2):
        fresh_app.chat({"prompt": "Hello"})
    assert ready(fresh_app) == found


def test_a_failed_call_invalidates_older_findings(fresh_app: LocalApp) -> None:
    assert ready(fresh_app) == (200, "healthy")
    assert fresh_app.chat({"prompt": "Hello"}).status_code == 200
    fresh_app.model.script({"status": 429, "headers": {"retry-after-ms": "1"}}, {"status": 500})
    assert fresh_app.chat({"prompt": "Hello"}).status_code == 429
    assert ready(fresh_app) == (503, "unhealthy")


def test_a_recovery_is_noticed_within_one_period(fresh_app: LocalApp) -> None:
    fresh_app.model.script({"status": 500})
    assert ready(fresh_app) == (503, "unhealthy")
    while (found := ready(fresh_app)) != (200, "healthy"):
        assert found == (503, "unhealthy")
    assert len(fresh_app.model.journal()) == 2


def test_live_and_chat_respond_while_200_requests_wait_for_a_probe(fresh_app: LocalApp) -> None:
    fresh_app.model.script({"hang": True})
    with ThreadPoolExecutor(200) as pool:
        waiting = [pool.submit(fresh_app.http.get, "/api/health/ready") for _ in range(200)]
        fresh_app.model.journal(requests=1)
        # Use a second client, because all connections of the first are in use.
        with httpx2.Client(base_url=fresh_app.url, timeout=60) as http:
            assert http.get("/api/health/live").json() == {"status": "alive"}
            assert http.post("/api/chat", json={"prompt": "Hello"}).status_code == 200
        fresh_app.model.permit()
        assert {future.result().status_code for future in waiting} == {200}


def test_anyone_can_read_the_status_and_only_a_key_opens_the_details(folder: Path) -> None:
    with local_app(folder, "--enable-auth") as app:
        assert app.http.get("/api/health/live").status_code == 200
        assert ready(app) == (200, "healthy")
        assert app.http.get("/api/health").status_code == 401


def test_the_timer_fires_on_its_schedule_and_on_demand(folder: Path) -> None:
    with local_app(folder, HEALTH_CHECK_SCHEDULE="*/2 * * * * *") as app:
        app.wait_for("Executed 'Functions.health_probe' (Succeeded")
        assert "Reason='Timer fired at" in app.output
        assert app.http.post("/admin/functions/health_probe", json={}).status_code == 202
        app.wait_for("Executing 'Functions.health_probe' (Reason='This function was programmatically called")


def test_the_timer_fails_when_nothing_works_and_logs_the_recovery(fresh_app: LocalApp) -> None:
    fresh_app.model.script({"status": 500})
    fresh_app.http.post("/admin/functions/health_probe", json={})
    fresh_app.wait_for("Executed 'Functions.health_probe' (Failed")
    fresh_app.wait_for("Endpoint 1 is down: responded with 500")
    fresh_app.wait_for("The app is unhealthy")
    while ready(fresh_app)[0] == 503:
        pass
    fresh_app.http.post("/admin/functions/health_probe", json={})
    fresh_app.wait_for("The app is healthy again; it was unhealthy")


@pytest.mark.anyio
async def test_a_timer_that_is_past_due_probes_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    import function_app

    model = AzureOpenAISimulator(["chat"], keys=["some-key"])
    async with Servers() as servers:
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", await servers.start(model.application()))
        monkeypatch.setenv("AZURE_OPENAI_KEY", "some-key")
        monkeypatch.setenv("AZURE_OPENAI_API_VERSION", "v1")
        monkeypatch.setenv("AZURE_OPENAI_CHATGPT_DEPLOYMENT", "chat")
        await function_app.health_probe(TimerRequest(past_due=True))
        await reset()
    assert [entry.status for entry in model.journal.entries] == [400]


def test_the_watch_logs_each_problem_and_the_recovery(caplog: pytest.LogCaptureFixture) -> None:
    watch = Watch()
    up, down = Finding(UP, "fine", 0), Finding(DOWN, "gone", 0)
    with caplog.at_level(logging.INFO):
        watch.note(Report(HEALTHY, (up,)))
        assert caplog.messages == []
        watch.note(Report(DEGRADED, (down, up)))
        assert caplog.messages == ["Endpoint 1 is down: gone", "The app is degraded"]
        caplog.clear()
        with pytest.raises(Unhealthy):
            watch.note(Report(UNHEALTHY, (down, down)))
        watch.note(Report(HEALTHY, (up, up)))
        watch.note(Report(HEALTHY, (up, up)))
    assert caplog.messages[-2:] == ["The app is unhealthy", "The app is healthy again; it was unhealthy"]
