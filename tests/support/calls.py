"""Create calls and records for tests of the app's own objects, without a running app."""

from typing import Any

from shared.operations import CHAT_COMPLETIONS
from shared.telemetry.call_record import CallRecord
from shared.upstream.request import InferenceCall


def chat_call(body: Any = b"", **fields: Any) -> InferenceCall:
    """Return a chat to the deployment `chat`, with a dated API version. `fields` override the defaults."""
    defaults: dict[str, Any] = {
        "operation": CHAT_COMPLETIONS,
        "path": "deployments/chat/chat/completions",
        "deployment": "chat",
        "headers": {},
        "caller": "tests",
    }
    return InferenceCall(**{**defaults, "body": body, **fields})


def chat_record() -> CallRecord:
    return CallRecord(
        operation=CHAT_COMPLETIONS, deployment="chat", caller="tests", stream=True, headers={}, request_bytes=0
    )
