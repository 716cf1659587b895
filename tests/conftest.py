"""Provide the fixtures, and fail in CI if tests are skipped."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest
from hypothesis import settings

from local.serving import Servers
from local.simulator.azure_openai import AzureOpenAISimulator
from shared.settings import Settings
from shared.upstream.clients import Clients
from shared.upstream.failover import Failover
from tests.support.core_tools import CORE_TOOLS, core_tools_app
from tests.support.local_host import SETTINGS, HostApp, host_app
from tests.support.openai_routes import app_with_keys
from tests.support.processes import LocalApp, Simulator, local_app
from tests.support.sdk import CLIENTS_AND_VERSIONS, DATED, SDK
from tests.support.simulators import Simulators
from tests.support.upstreams import ConfigureIdentity, Gateway, Upstreams, gateway_app

# Even in CI, tests may be skipped for a reason that contains this.
ALLOWED_SKIP_REASON = "Core Tools"


# `make test-deep` asks for the second one.
settings.register_profile("quick", max_examples=40)
settings.register_profile("deep", max_examples=350)
settings.load_profile("quick")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if os.environ.get("CI") and any(ALLOWED_SKIP_REASON not in str(report.longrepr) for report in skipped):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def clean_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the settings of whoever runs the tests."""
    for name in os.environ:
        if name.startswith(("AZURE", "OPENAI", "IDENTITY", "AUTHENTICATION", "MSI", "CALLER_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session", params=["python -m local", *(["func"] if CORE_TOOLS else [])])
def shared_app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalApp]:
    # Where Core Tools are installed, the tests of the chat endpoint run under `func start` as well.
    start = local_app if request.param == "python -m local" else core_tools_app
    # The SDK would by itself send the last three to Azure. The tests of headers check that the app prevents it.
    settings = {
        "AZURE_OPENAI_DEPLOYMENTS": "gpt-4o=prod-4o",
        "OPENAI_ORG_ID": "from-the-environment",
        "OPENAI_PROJECT_ID": "from-the-environment",
        "OPENAI_CUSTOM_HEADERS": "X-Extra: 1\nAuthorization: Bearer from-the-environment\nAccept: from-the-environment",
    }
    with start(tmp_path_factory.mktemp("app"), **settings) as app:
        yield app


@pytest.fixture
def app(shared_app: LocalApp) -> LocalApp:
    """Return the app, with an API key for its simulator of Azure OpenAI, whose journal is empty."""
    shared_app.model.clear()
    return shared_app


@pytest.fixture(scope="session")
def dated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalApp]:
    """Run an app with caller keys that calls a dated version of Azure's API."""
    with app_with_keys(tmp_path_factory.mktemp("app")) as app:
        yield app


@pytest.fixture(scope="session")
def v1(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalApp]:
    """Run an app with caller keys that calls Azure's v1 API."""
    with app_with_keys(tmp_path_factory.mktemp("app"), AZURE_OPENAI_API_VERSION="v1") as app:
        yield app


@pytest.fixture
async def simulators() -> AsyncIterator[Simulators]:
    """Run the simulators in the test's own process."""
    simulators = Simulators()
    async with Servers() as servers, httpx2.AsyncClient(timeout=60) as http:
        await simulators.start(servers, http)
        yield simulators


@pytest.fixture
def resource() -> AzureOpenAISimulator:
    """Return a simulator of an Azure OpenAI resource, in the test's own process."""
    return AzureOpenAISimulator(["chat"], keys=["a-key-of-the-resource"])


@pytest.fixture
async def failover(resource: AzureOpenAISimulator) -> AsyncIterator[Failover]:
    """Start `resource`, and return the `Failover` that sends calls to it."""
    async with Servers() as servers:
        environ = {
            "AZURE_OPENAI_ENDPOINT": await servers.start(resource.application()),
            "AZURE_OPENAI_KEY": "a-key-of-the-resource",
            "AZURE_OPENAI_API_VERSION": "2024-10-21",
            "AZURE_OPENAI_CHATGPT_DEPLOYMENT": "chat",
            "REQUEST_TIMEOUT_SECONDS": "60",
        }
        failover = Failover(Clients(Settings.from_env(environ, Path("absent.env"))))
        yield failover
        await failover.clients.http.aclose()


@pytest.fixture(scope="module")
def open_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostApp]:
    """Run the local host without authentication."""
    with host_app(tmp_path_factory.mktemp("app"), environ=SETTINGS) as host:
        yield host


@pytest.fixture(scope="session")
def upstreams() -> Iterator[Upstreams]:
    with Upstreams() as upstreams:
        yield upstreams


@pytest.fixture(scope="session")
def shared_model(upstreams: Upstreams) -> Iterator[Simulator]:
    """Run a simulator of Azure OpenAI that the tests of a module share."""
    model = upstreams.azure()
    yield model
    model.http.close()


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Run an app whose settings each test can change."""
    with gateway_app(tmp_path_factory.mktemp("app")) as gateway:
        yield gateway


@pytest.fixture
def model(shared_model: Simulator, gateway: Gateway) -> Simulator:
    """Return the gateway's only endpoint, with an empty journal."""
    shared_model.clear()
    gateway.configure(shared_model.url)
    return shared_model


@pytest.fixture
def configure_identity(upstreams: Upstreams, gateway: Gateway) -> Iterator[ConfigureIdentity]:
    """Return a function that gives the app an identity without a token, and `more` settings."""
    model, identity, settings = upstreams.identity()

    def configure(**more: str) -> LocalApp:
        gateway.configure(model.url, **settings, **more)
        gateway.app.model, gateway.app.identity = model, identity
        return gateway.app

    yield configure
    model.http.close()
    identity.http.close()


@pytest.fixture(scope="session")
def shared_models(upstreams: Upstreams) -> Iterator[list[Simulator]]:
    models = [upstreams.azure() for _ in range(3)]
    yield models
    for model in models:
        model.http.close()


@pytest.fixture
def models(shared_models: list[Simulator]) -> list[Simulator]:
    """Return three simulators of Azure OpenAI, with empty journals."""
    for model in shared_models:
        model.clear()
    return shared_models


@pytest.fixture(params=["v1", DATED])
def two(request: pytest.FixtureRequest, gateway: Gateway, models: list[Simulator]) -> Gateway:
    """Return the app with two endpoints, for each kind of API version."""
    gateway.configure(models[0].url, models[1].url, AZURE_OPENAI_API_VERSION=request.param)
    return gateway


@pytest.fixture(params=CLIENTS_AND_VERSIONS, ids=lambda pair: f"{pair[0].__name__}-{pair[1]}")
def sdk(request: pytest.FixtureRequest, gateway: Gateway, models: list[Simulator]) -> Iterator[SDK]:
    """Return each of the SDK's clients for the app with two endpoints."""
    kind, version = request.param
    gateway.configure(models[0].url, models[1].url, AZURE_OPENAI_API_VERSION=version)
    sdk = SDK(gateway.app, kind)
    yield sdk
    sdk.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder for an app of the test's own."""
    return tmp_path / "app"
