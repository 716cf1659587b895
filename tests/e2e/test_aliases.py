"""Test that callers can use an alias with slashes and colons wherever they can name a model."""

import pytest
from openai import AzureOpenAI, OpenAI

from tests.support.gateway_calls import CALLER, call
from tests.support.processes import Simulator
from tests.support.upstreams import CALLER_KEY, Gateway

ALIAS = "openai/gpt-4o:latest"


@pytest.fixture
def aliased(gateway: Gateway, model: Simulator) -> Gateway:
    gateway.configure(model.url, AZURE_OPENAI_DEPLOYMENTS=f"{ALIAS}=other")
    return gateway


def test_the_alias_in_the_body_leads_to_its_deployment(aliased: Gateway, model: Simulator) -> None:
    assert call(aliased, model=ALIAS).status_code == 200
    assert "/deployments/other/" in model.journal()[0].path


@pytest.mark.parametrize("name", ["openai%2Fgpt-4o:latest", "openai%2fgpt-4o%3Alatest"])
def test_the_alias_in_a_path_leads_to_its_deployment(aliased: Gateway, model: Simulator, name: str) -> None:
    assert call(aliased, f"/api/openai/deployments/{name}/chat/completions").status_code == 200
    assert call(aliased, f"/api/openai/deployments/{name}/embeddings", input="Hello").status_code == 200
    assert ["/deployments/other/" in seen.path for seen in model.journal()] == [True, True]
    assert aliased.http.get(f"/api/v1/models/{name}", headers=CALLER).json()["id"] == ALIAS


def test_a_name_in_a_path_is_decoded_once(aliased: Gateway) -> None:
    for name in ("openai%2Fgpt-4o", "openai%25252Fgpt-4o:latest", "openai%2F..%2Fopenai%2Fgpt-4o:latest"):
        response = aliased.http.get(f"/api/v1/models/{name}", headers=CALLER)
        assert response.json()["error"]["code"] == "model_not_found"


def test_the_sdk_finds_and_calls_the_alias(aliased: Gateway, model: Simulator) -> None:
    with OpenAI(base_url=f"{aliased.app.url}/api/v1", api_key=CALLER_KEY) as client:
        assert ALIAS in [found.id for found in client.models.list()]
        assert client.models.retrieve(ALIAS).id == ALIAS
        assert client.chat.completions.create(model=ALIAS, messages=[{"role": "user", "content": "Hi"}]).choices
    with AzureOpenAI(azure_endpoint=f"{aliased.app.url}/api", api_key=CALLER_KEY, api_version="2024-10-21") as azure:
        assert azure.chat.completions.create(model=ALIAS, messages=[{"role": "user", "content": "Hi"}]).choices
    assert ["/deployments/other/" in seen.path for seen in model.journal()] == [True, True]
