"""What Azure's refusals mean, as README tells it."""

import json

import httpx2
import pytest

from shared.errors import UpstreamErrorResponse
from shared.upstream.retry_policy import FailedAttempt, classify
from tests.e2e.test_readme import table
from tests.support.calls import chat_call

CHAT = chat_call()
STORED = chat_call(operation="stored_response", path="responses/resp_1", deployment="", needs_stored_response=True)
ROWS = {cells[0]: cells[1:] for cells in table("Azure | cooldown |")}
# Those of each row that are answers; the rest of the rows has none to judge.
ANSWERS: dict[str, list[tuple[int, str | None]]] = {
    "429": [(429, None)],
    "401, 403, 408, 5xx, no connection, no answer in time": [
        (401, None),
        (403, None),
        (408, None),
        (500, None),
        (599, None),
    ],
    "deployment not found": [(404, "DeploymentNotFound")],
    "stored response not found": [(404, None), (400, "previous_response_not_found")],
    "any other refusal": [(400, None), (404, None), (409, None), (413, None), (422, None), (418, None), (301, None)],
}


def judged(row: str, status: int, code: str | None) -> FailedAttempt:
    call = STORED if row.startswith("stored") else CHAT
    body = {"error": {"code": code, "message": "Scripted."}}
    return classify(httpx2.Response(status, content=json.dumps(body)), call, 1, "Advice.")


def test_readme_has_every_kind() -> None:
    assert set(ROWS) == set(ANSWERS)


@pytest.mark.parametrize(("row", "status", "code"), [(row, *answer) for row in ANSWERS for answer in ANSWERS[row]])
def test_what_rests_and_who_is_asked_next_is_as_readme_says(row: str, status: int, code: str | None) -> None:
    refusal = judged(row, status, code)
    rests, asked = ROWS[row]
    kinds = {None: "this endpoint", "chat": "this deployment on this endpoint"}
    assert rests == (kinds[refusal.cooldown.deployment] if refusal.cooldown else "nothing")
    assert asked.startswith("yes") == bool(refusal.cooldown or refusal.lacks_stored_response)


@pytest.mark.parametrize("status", [400, 409, 413, 422, 429])
def test_what_callers_can_fix_is_theirs_to_read(status: int) -> None:
    assert isinstance(judged("any other refusal", status, None).error, UpstreamErrorResponse)


@pytest.mark.parametrize("status", [301, 401, 403, 404, 408, 418, 500])
def test_what_callers_cannot_fix_is_not(status: int) -> None:
    assert not isinstance(judged("any other refusal", status, None).error, UpstreamErrorResponse)
