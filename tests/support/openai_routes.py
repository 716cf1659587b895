"""Start an app with caller keys, and send requests to its OpenAI-compatible routes."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import Json, LocalApp, local_app
from tests.support.upstreams import CALLER_KEY

OLD_KEY = "the-same-callers-former-key"
SDK_SETTINGS = {
    "OPENAI_ORG_ID": "from-the-environment",
    "OPENAI_PROJECT_ID": "from-the-environment",
    "OPENAI_CUSTOM_HEADERS": "X-Extra: 1\nAuthorization: Bearer from-the-environment",
}
SETTINGS = {
    "CALLER_KEYS": f"team-a={CALLER_KEY},team-a={OLD_KEY},team-b=a-key-of-another-team",
    "AZURE_OPENAI_DEPLOYMENTS": "gpt-4o=prod-4o,embed-3",
    **SDK_SETTINGS,
}
BEARER = {"authorization": f"Bearer {CALLER_KEY}"}
CHAT = "/api/v1/chat/completions"
MESSAGES = b'[{"role":"user","content":"Hello"}]'
BODY = b'{"messages":%s}' % MESSAGES
# A path for each operation, with the smallest body that it accepts besides `model`.
BODIES = {CHAT: BODY, "/api/v1/embeddings": b'{"input":"Hello"}', "/api/v1/responses": b'{"input":"Hello"}'}


@contextmanager
def app_with_keys(folder: Path, **environ: str) -> Iterator[LocalApp]:
    with local_app(folder, **SETTINGS, **environ) as app:
        yield app


def post(app: LocalApp, body: bytes, path: str = CHAT, **headers: str) -> Json:
    """Send `body`, and return the status with the fields of the response's error, if it has one."""
    response = app.http.post(path, content=body, headers=BEARER | headers)
    fields: Json = response.json()
    error: Json = fields.get("error") or {}
    assert error or response.status_code == 200
    return {"status": response.status_code, **error}


def read_status(connection: socket.socket) -> int:
    with connection.makefile("rb") as response:
        return int(response.readline().split()[1])
