"""Test each operation with OpenAI's SDK for JavaScript, on each surface and with each kind of API version."""

import json
import os
import subprocess
from typing import Any

import pytest

from shared.operations import OPERATIONS, V1
from tests.support.javascript import NODE_FOLDER, needs_node
from tests.support.operation_calls import CALLS, DEPLOYMENT, MODEL, SETTINGS, digest, files_in
from tests.support.processes import Simulator
from tests.support.sdk import DATED
from tests.support.upstreams import CALLER_KEY, Gateway

HEARD = "You sent 2000000 bytes"
# What tests/node/operations.js prints where the app's version of Azure's API has the operation.
RESULTS: dict[str, Any] = {
    "chat": 1,
    "chat, streamed": True,
    "completion": 1,
    "completion, streamed": True,
    "embeddings": 8,
    "response": "completed",
    "response, streamed": "response.completed",
    "stored response": "completed",
    "deletion": True,
    "cancellation": "cancelled",
    "input items": 1,
    "compaction": 2,
    "input tokens": "response.input_tokens",
    "image": 2,
    "image, streamed": 3,
    "edited image": 1,
    "edited images": 1,
    "edited image, streamed": 2,
    "speech": 5004,
    "speech in events": 4,
    "transcription": HEARD,
    "transcription, text": HEARD,
    "transcription, verbose": 1,
    "transcription, streamed": HEARD,
    "translation": HEARD,
    "models": 3,
    "model": MODEL,
}
WRONG_MODEL = {"error": "NotFoundError", "code": "model_not_found"}
NOT_AVAILABLE = {"error": "NotFoundError", "code": "operation_not_available"}
CLIENTS = {
    "v1": {"KIND": "openai", "URL": "/api/v1"},
    "openai/v1": {"KIND": "openai", "URL": "/api/openai/v1"},
    "openai": {"KIND": "azure", "URL": "/api", "API_VERSION": DATED},
    "openai, with a deployment": {"KIND": "azure", "URL": "/api", "API_VERSION": DATED, "DEPLOYMENT": MODEL},
}

pytestmark = needs_node


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("version", [DATED, V1])
def test_each_operation_works(gateway: Gateway, model: Simulator, client: str, version: str) -> None:
    gateway.configure(model.url, AZURE_OPENAI_API_VERSION=version, **SETTINGS)
    environ = {**CLIENTS[client], "URL": gateway.app.url + CLIENTS[client]["URL"], "KEY": CALLER_KEY}
    run = subprocess.run(
        ["node", "operations.js"],
        cwd=NODE_FOLDER,
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    expected = {
        name: result if CALLS[name].operation.exists_in(version) else NOT_AVAILABLE for name, result in RESULTS.items()
    }
    results = json.loads(run.stdout)
    assert results == expected | {"wrong model": results["wrong model"]}
    # A deployment in the path replaces the model in the form.
    assert results["wrong model"] == WRONG_MODEL or client == "openai, with a deployment"
    forms = [seen for seen in model.journal() if seen.parts]
    assert len(forms) == 8 + (results["wrong model"] != WRONG_MODEL)
    for seen in forms:
        assert [part["value"] for part in seen.parts if part["name"] == "model"] == [DEPLOYMENT]
        if "/audio/" in seen.path:
            assert files_in(seen) == {"file": [digest(b"audio" * 400_000)]}
    images = [list(files_in(seen).values()) for seen in forms if "/images/" in seen.path]
    one, two = digest(b"\1" * 2_000), digest(b"\2" * 2_000)
    assert images == [[[one], [two]], [[one, two]], [[one]]]


def test_there_is_a_call_of_each_operation() -> None:
    assert {CALLS[name].operation for name in RESULTS} == set(OPERATIONS)
