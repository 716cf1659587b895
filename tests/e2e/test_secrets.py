"""Nothing that nobody may read is written down: not in logs, not in errors, whatever the level of logging."""

import json
from pathlib import Path

import pytest

from local.simulator import payloads
from tests.support.processes import Json, LocalApp, local_app

PROMPT = "prompt-that-nobody-may-read"
REPLY = "reply-that-nobody-may-read"
CALLERS = "callers-secret-0123456789"
# What Azure Functions itself understands: the host prints from this level on.
EVERYTHING = {"AzureFunctionsJobHost__logging__logLevel__default": "Trace", "OPENAI_LOG": "debug"}
SCRIPTS: list[Json] = [
    {"reply": REPLY},
    {"reply": f"{REPLY} and {REPLY} and {REPLY}", "cut": 1},
    {"status": 200, "body": {"choices": f"{REPLY}"}},
    {"status": 400, "body": {"error": {"message": "no such thing", "code": None}}},
    {"status": 401, "body": payloads.WRONG_KEY},
    {"status": 401, "body": payloads.WRONG_TOKEN},
    {"status": 403},
    {"status": 404},
    {"status": 429},
    {"status": 500},
]


def exercise(app: LocalApp) -> str:
    """Sends a set of good and bad requests; returns all that callers were told in errors."""
    headers = {"authorization": f"Bearer {CALLERS}", "api-key": CALLERS, "x-functions-key": CALLERS, "cookie": CALLERS}
    bodies = [b"", f'{{"prompt":"{PROMPT}'.encode(), f'{{"prompt":["{PROMPT}"]}}'.encode(), f'"{PROMPT}"'.encode()]
    for stream in (False, True):
        for script in SCRIPTS:
            app.model.script(script)
            bodies.append(json.dumps({"prompt": PROMPT, "stream": stream}).encode())
    responses = [app.chat(body, headers=headers, params={"code": CALLERS}) for body in bodies]
    return "\n".join(response.text for response in responses if response.status_code != 200)


@pytest.mark.parametrize("mode", ["key", "identity"])
def test_no_secret_prompt_or_reply_is_logged_or_told(folder: Path, mode: str) -> None:
    options = ["--identity"] if mode == "identity" else []
    with local_app(folder, *options, **EVERYTHING) as app:
        told = exercise(app)
        secrets = {PROMPT, REPLY, CALLERS}
        for seen in app.model.journal():
            secrets.add(seen.token if options else seen.headers["api-key"])
        if options:
            secrets.add(app.identity.journal()[0].headers["x-identity-header"])
    assert "_UnixSelectorEventLoop" in app.output, "DEBUG records of libraries are printed"
    assert told
    assert len(secrets) > 3
    for secret in secrets:
        assert secret not in app.output
        assert secret not in told
