"""Test each operation with OpenAI's SDKs, on each surface and with each kind of API version."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import openai
import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, OpenAI

from shared.operations import MODEL, MODELS, OPERATIONS, V1
from tests.support.operation_calls import CALLS, SETTINGS, check_seen
from tests.support.operation_calls import MODEL as GPT_4O
from tests.support.processes import Simulator
from tests.support.sdk import DATED, SDK
from tests.support.upstreams import Gateway

# The first version of Azure's API for chats.
OLD = "2023-05-15"
# Each client, by its surface.
CLIENTS: dict[str, tuple[type[Any], dict[str, str]]] = {
    "v1": (OpenAI, {"base_url": "/api/v1"}),
    "v1, async": (AsyncOpenAI, {"base_url": "/api/v1"}),
    "openai/v1": (OpenAI, {"base_url": "/api/openai/v1"}),
    "openai": (AzureOpenAI, {"azure_endpoint": "/api"}),
    "openai, async": (AsyncAzureOpenAI, {"azure_endpoint": "/api"}),
    "openai, with a deployment": (AzureOpenAI, {"azure_endpoint": "/api", "azure_deployment": GPT_4O}),
}


@dataclass(frozen=True)
class Connection:
    """A client of the app with one version of Azure's API."""

    sdk: SDK
    version: str


# Each surface meets both kinds of version, and so does each kind of client.
CONNECTIONS = [
    *((client, version) for version in (DATED, V1) for client in CLIENTS if "async" not in client),
    ("v1, async", DATED),
    ("openai, async", V1),
    ("v1", OLD),
]


@pytest.fixture(scope="module", params=CONNECTIONS, ids=" ".join)
def connection(request: pytest.FixtureRequest, gateway: Gateway, shared_model: Simulator) -> Iterator[Connection]:
    client, version = request.param
    kind, options = CLIENTS[client]
    gateway.configure(shared_model.url, AZURE_OPENAI_API_VERSION=version, **SETTINGS)
    urls = {name: gateway.app.url + value for name, value in options.items() if value.startswith("/")}
    sdk = SDK(gateway.app, kind, **options | urls)
    yield Connection(sdk, version)
    sdk.close()


@pytest.mark.parametrize("name", CALLS)
def test_each_operation_works(connection: Connection, shared_model: Simulator, name: str) -> None:
    call, sdk = CALLS[name], connection.sdk
    shared_model.clear()
    if call.operation.exists_in(connection.version):
        call.run(sdk)
        if call.operation not in (MODELS, MODEL):
            check_seen(call, shared_model.journal()[-1], connection.version)
        return
    with pytest.raises(openai.NotFoundError) as raised:
        call.run(sdk)
    assert raised.value.code == "operation_not_available"
    assert not any(call.path.partition("/{")[0] in seen.path and seen.method != "POST" for seen in shared_model.journal())


def test_there_is_a_call_of_each_operation() -> None:
    assert {call.operation for call in CALLS.values()} == set(OPERATIONS)
