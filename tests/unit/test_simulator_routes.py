"""Test which API versions of the simulator of Azure OpenAI have which operations, and its errors for the others."""

from typing import Any

import httpx2
import pytest

from local.simulator.routes import OPERATIONS
from tests.support.simulators import CHAT, KEY, Simulators

pytestmark = pytest.mark.anyio

BODY: dict[str, Any] = {**CHAT, "model": "chat", "input": "Hello", "prompt": "Hello", "voice": "alloy"}
FORM = {"model": "chat", "prompt": "Hello"}
FILES = {"image": ("a.png", b"image"), "file": ("a.wav", b"audio")}
FORMS = ("images/edits", "audio/transcriptions", "audio/translations")
NOT_FOUND = {"error": {"code": "404", "message": "Resource not found"}}


async def post(simulators: Simulators, operation: str, version: str | None) -> httpx2.Response:
    """Send a valid request. On a dated version, the path has the deployment if the operation has it there."""
    deployment = "deployments/chat/" if OPERATIONS[operation].by_deployment else ""
    path = f"/openai/{deployment}{operation}?api-version={version}" if version else f"/openai/v1/{operation}"
    content: Any = {"data": FORM, "files": FILES} if operation in FORMS else {"json": BODY}
    return await simulators.http.post(simulators.keyed_url + path, headers={"api-key": KEY}, **content)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_v1_has_every_operation(simulators: Simulators, operation: str) -> None:
    assert (await post(simulators, operation, None)).status_code == 200


@pytest.mark.parametrize(
    ("operation", "versions", "others"),
    [
        ("chat/completions", ["2023-03-15-preview", "2024-10-21"], ["2022-12-01"]),
        ("completions", ["2022-12-01", "2025-04-01-preview"], ["2021-11-01-preview"]),
        ("embeddings", ["2022-12-01", "2025-04-01-preview"], ["2021-11-01-preview"]),
        ("images/generations", ["2023-12-01-preview", "2024-02-01"], ["2023-09-01-preview", "2023-12-31"]),
        ("images/edits", ["2025-04-01-preview"], ["2025-03-01-preview", "2024-10-21"]),
        ("audio/speech", ["2024-02-15-preview"], ["2023-12-01-preview", "2024-10-21"]),
        ("audio/transcriptions", ["2023-09-01-preview", "2024-02-01"], ["2023-08-01-preview", "2023-12-31"]),
        ("audio/translations", ["2023-09-01-preview", "2024-02-01"], ["2023-08-01-preview", "2023-12-31"]),
        ("responses", ["2025-03-01-preview"], ["2025-02-01-preview", "2024-10-21"]),
        ("responses/compact", [], ["2025-04-01-preview"]),
        ("responses/input_tokens", [], ["2025-04-01-preview"]),
    ],
)
async def test_dated_versions_have_an_operation_since_their_specification_has_it(
    simulators: Simulators, operation: str, versions: list[str], others: list[str]
) -> None:
    for version in versions:
        assert (await post(simulators, operation, version)).status_code == 200, version
    for version in others:
        response = await post(simulators, operation, version)
        assert (response.status_code, response.json()) == (404, NOT_FOUND), version


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_other_methods_do_not_exist(simulators: Simulators, operation: str, method: str) -> None:
    url = f"{simulators.keyed_url}/openai/v1/{operation}"
    response = await simulators.http.request(method, url, headers={"api-key": KEY})
    assert (response.status_code, response.json()) == (404, NOT_FOUND)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_deployment_can_lack_an_operation(simulators: Simulators, operation: str) -> None:
    others = [other for other in OPERATIONS if other != operation]
    await simulators.http.put(f"{simulators.keyed_url}/control/deployments", json={"chat": others})
    response = await post(simulators, operation, None)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == "OperationNotSupported"
    assert error["message"].startswith(f"The {OPERATIONS[operation].azure_name} operation does not work with")


@pytest.mark.parametrize("operation", ["completions", "images/generations", "audio/speech", "responses/compact"])
@pytest.mark.parametrize("model", [None, "other"])
async def test_v1_needs_a_known_model_in_the_body(simulators: Simulators, operation: str, model: str | None) -> None:
    response = await simulators.chat(f"/openai/v1/{operation}", {**BODY, "model": model})
    assert response.status_code == 404
    assert "Could not find an existing deployment to match the model in the request." in response.text


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("script", [{"status": 429}, {"raw": "text"}, {"headers": {"x-own": "1"}}])
async def test_a_script_changes_every_operation(simulators: Simulators, operation: str, script: dict[str, Any]) -> None:
    await simulators.script(**script)
    response = await post(simulators, operation, None)
    assert response.status_code == script.get("status", 200)
    assert response.headers.get("x-own") == script.get("headers", {}).get("x-own")
    assert script.get("raw") in (None, response.text)


@pytest.mark.parametrize("operation", [*FORMS, "completions", "images/generations", "audio/speech"])
async def test_an_error_can_have_the_status_200(simulators: Simulators, operation: str) -> None:
    await simulators.script(error={"code": "rate_limit_exceeded", "message": "Slow down."})
    response = await post(simulators, operation, None)
    assert response.status_code == 200
    assert response.json()["error"] == {
        "code": "rate_limit_exceeded",
        "message": "Slow down.",
        "type": None,
        "param": None,
    }
