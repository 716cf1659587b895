"""Test that no secrets, prompts or replies appear in the log or in error responses, even at the lowest log level."""

import json
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from local.simulator import payloads
from tests.support.processes import Json, LocalApp, local_app

PROMPT = "confidential-prompt"
REPLY = "confidential-reply"
SECRET = "callers-secret-0123456789"
# The first is a setting of Azure Functions itself: the host prints records from this level on.
ALL_LEVELS = {"AzureFunctionsJobHost__logging__logLevel__default": "Trace", "OPENAI_LOG": "debug"}
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
    """Send good and bad requests, and return the texts of all error responses."""
    headers = {"authorization": f"Bearer {SECRET}", "api-key": SECRET, "x-functions-key": SECRET, "cookie": SECRET}
    bodies = [b"", f'{{"prompt":"{PROMPT}'.encode(), f'{{"prompt":["{PROMPT}"]}}'.encode(), f'"{PROMPT}"'.encode()]
    for stream in (False, True):
        for script in SCRIPTS:
            app.model.script(script)
            bodies.append(json.dumps({"prompt": PROMPT, "stream": stream}).encode())
    errors = []
    for body in bodies:
        # A stream that breaks.
        with suppress(httpx2.TransportError):
            response = app.chat(body, headers=headers, params={"code": SECRET})
            errors += [response.text] if response.status_code != 200 else []
    return "\n".join(errors)


@pytest.mark.parametrize("mode", ["key", "identity"])
def test_no_secret_prompt_or_reply_is_in_the_log_or_in_an_error_response(folder: Path, mode: str) -> None:
    options = ["--identity"] if mode == "identity" else []
    with local_app(folder, *options, **ALL_LEVELS) as app:
        errors = exercise(app)
        secrets = {PROMPT, REPLY, SECRET}
        for request in app.model.journal():
            secrets.add(request.token if options else request.headers["api-key"])
        if options:
            secrets.add(app.identity.journal()[0].headers["x-identity-header"])
    assert "_UnixSelectorEventLoop" in app.output, "DEBUG records of libraries are printed"
    assert errors
    assert len(secrets) > 3
    for secret in secrets:
        assert secret not in app.output
        assert secret not in errors
