"""Test which headers and query parameters of each operation reach Azure."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import AzureOpenAI, OpenAI

from local.simulator import payloads
from shared.openai_api.translate import IMAGE_DEPLOYMENT
from shared.operations import OPERATIONS, V1, Body, Operation
from tests.support.forms import CONTENT_TYPE, field, file, form
from tests.support.gateway_calls import CALLER, attempts
from tests.support.operation_calls import DEPLOYMENT, MODEL, SETTINGS, stored_id
from tests.support.processes import Simulator
from tests.support.sdk import DATED, SDK
from tests.support.upstreams import Gateway

CLIENTS: list[tuple[type[Any], str]] = [(kind, version) for kind in (OpenAI, AzureOpenAI) for version in (DATED, V1)]
CREATING = [operation for operation in OPERATIONS if operation.body is not Body.NOTHING]
FORWARDED = {
    "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01",
    "tracestate": "a=b",
    "x-client-request-id": "17",
    "x-ms-client-request-id": "18",
}
# All parameters that any operation has, and others.
QUERY = {
    "api-version": "2020-01-01",
    "code": "secret",
    "model": "hidden",
    "deployment": "hidden",
    **{name: "true" for operation in OPERATIONS for name in operation.query},
}


@pytest.fixture(params=CLIENTS, ids=lambda pair: f"{pair[0].__name__}-{pair[1]}")
def sdk(request: pytest.FixtureRequest, gateway: Gateway, model: Simulator) -> Iterator[SDK]:
    kind, version = request.param
    gateway.configure(model.url, AZURE_OPENAI_API_VERSION=version, **SETTINGS)
    sdk = SDK(gateway.app, kind)
    yield sdk
    sdk.close()


@pytest.fixture(params=[DATED, V1])
def version(request: pytest.FixtureRequest, gateway: Gateway, model: Simulator) -> str:
    gateway.configure(model.url, AZURE_OPENAI_API_VERSION=request.param, **SETTINGS)
    version: str = request.param
    return version


def request_for(operation: Operation, response_id: str = "resp_1") -> dict[str, Any]:
    """Return the arguments of httpx2 for a request that Azure gets."""
    path = f"/api/v1/{operation.path.format(id=response_id)}"
    if operation.body is Body.FORM:
        content = form(field("model", MODEL), field("prompt", "A cat"), file("image", b"png", "image.png"), file())
        return {"method": operation.method, "url": path, "content": content, "headers": {"content-type": CONTENT_TYPE}}
    body = {"model": MODEL, "prompt": "A cat", "input": "Hello", "voice": "alloy", "messages": [{"role": "user"}]}
    return {"method": operation.method, "url": path, **({"json": body} if operation.body is Body.JSON else {})}


def send(gateway: Gateway, operation: Operation, headers: dict[str, str], **options: Any) -> int:
    request = request_for(operation)
    request["headers"] = {**request.get("headers", {}), **CALLER, **headers}
    return gateway.http.request(**request, **options).status_code


def served(version: str) -> list[Operation]:
    """Return the operations that Azure serves in `version`."""
    return [operation for operation in OPERATIONS if operation.exists_in(version) and "models" not in operation.path]


def test_azure_gets_the_ids_of_requests_and_traces(gateway: Gateway, model: Simulator, version: str) -> None:
    for operation in served(version):
        send(gateway, operation, FORWARDED)
    journal = model.journal()
    assert len(journal) == len(served(version))
    for seen in journal:
        assert {name: seen.headers[name] for name in FORWARDED} == FORWARDED


def test_azure_gets_only_the_query_parameters_of_the_operation(gateway: Gateway, model: Simulator, version: str) -> None:
    for operation in served(version):
        send(gateway, operation, {}, params=QUERY)
    own = {} if version == V1 else {"api-version": version}
    for operation, seen in zip(served(version), model.journal(), strict=True):
        names = {f"{name}[]" if name == "include" and version == V1 else name for name in operation.query}
        assert seen.query == dict.fromkeys(names, "true") | own


@pytest.mark.parametrize("value", ["preview", "v1", "2024-10-21", ""])
def test_only_v1_gets_preview_as_its_api_version(gateway: Gateway, model: Simulator, version: str, value: str) -> None:
    for operation in served(version):
        send(gateway, operation, {}, params={"api-version": value})
    expected = ["preview"] if (version, value) == (V1, "preview") else [] if version == V1 else [version]
    for seen in model.journal():
        assert [given for name, given in seen.query.items() if name == "api-version"] == expected


def test_azure_gets_the_list_in_the_form_that_its_version_knows(sdk: SDK, model: Simulator) -> None:
    response_id = stored_id(sdk)
    values: Any = ["reasoning.encrypted_content", "message.output_text.logprobs"]
    sdk.client.responses.retrieve(response_id, include=values[:1])
    sdk.client.responses.input_items.list(response_id, include=values[:1])
    for name in ("include", "include[]"):
        sdk.client.responses.retrieve(response_id, extra_query={name: values[0]})
    is_v1 = "v1" in model.journal()[0].path
    for seen in model.journal()[1:]:
        assert {name: given for name, given in seen.query.items() if name != "api-version"} == {
            "include[]" if is_v1 else "include": values[0]
        }


def test_a_response_may_name_the_deployment_of_its_images(sdk: SDK, model: Simulator) -> None:
    create = sdk.client.responses.create
    create(model="chat", input="Hello", extra_headers={IMAGE_DEPLOYMENT: MODEL})
    assert model.journal()[0].headers[IMAGE_DEPLOYMENT] == DEPLOYMENT
    with pytest.raises(openai.NotFoundError) as raised:
        create(model="chat", input="Hello", extra_headers={IMAGE_DEPLOYMENT: "hidden"})
    assert raised.value.code == "model_not_found"
    assert len(model.journal()) == 1


@pytest.mark.parametrize("value", [MODEL, "hidden"])
def test_other_operations_drop_the_deployment_of_images(
    gateway: Gateway, model: Simulator, version: str, value: str
) -> None:
    others = [operation for operation in served(version) if operation.path != "responses"]
    for operation in others:
        send(gateway, operation, {IMAGE_DEPLOYMENT: value})
    journal = model.journal()
    assert len(journal) == len(others)
    assert not any(IMAGE_DEPLOYMENT in seen.headers for seen in journal)


@pytest.mark.parametrize("status", [429, 500, 424, 404])
def test_a_failure_of_the_callers_image_deployment_cools_nothing_down(
    gateway: Gateway, models: list[Simulator], status: int
) -> None:
    gateway.configure(models[0].url, models[1].url, **SETTINGS)
    script = {"status": status, **({"body": payloads.DEPLOYMENT_NOT_FOUND} if status == 404 else {})}
    models[0].script(script)
    response: Any = {"url": "/api/v1/responses", "json": {"model": "chat", "input": "Hello"}}
    gateway.http.post(**response, headers={**CALLER, IMAGE_DEPLOYMENT: MODEL})
    before = attempts(models)
    assert gateway.http.post(**response, headers=CALLER).status_code == 200
    # The first endpoint is still the first.
    assert attempts(models) == [before[0] + 1, *before[1:]]
    assert gateway.state()["cooldowns"] == [0, 0]
