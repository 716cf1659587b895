"""Test that Azure's error responses are classified as docs/failover.md says."""

import json

import httpx2
import pytest

from shared.errors import UpstreamErrorResponse
from shared.upstream.retry_policy import FailedAttempt, classify
from tests.support.calls import chat_call
from tests.support.pages import page, table

CHAT = chat_call()
STORED = chat_call(operation="stored_response", path="responses/resp_1", deployment="", needs_stored_response=True)
ROWS = {cells[0]: cells[1:] for cells in table("Azure | cooldown |", page("docs/failover.md"))}
# The error responses to classify, by row of the table. Connection failures and time-outs have no response.
RESPONSES: dict[str, list[tuple[int, str | None]]] = {
    "429": [(429, None)],
    "401, 403, 408, 5xx, no connection, no response in time": [
        (401, None),
        (403, None),
        (408, None),
        (500, None),
        (599, None),
    ],
    "deployment not found": [(404, "DeploymentNotFound")],
    "stored response not found": [(404, None), (400, "previous_response_not_found")],
    "any other error response": [(400, None), (404, None), (409, None), (413, None), (422, None), (418, None), (301, None)],
}


def classified(row: str, status: int, code: str | None) -> FailedAttempt:
    call = STORED if row.startswith("stored") else CHAT
    body = {"error": {"code": code, "message": "Scripted."}}
    return classify(httpx2.Response(status, content=json.dumps(body)), call, 1, "Advice.")


def test_the_table_lists_every_kind_of_failure() -> None:
    assert set(ROWS) == set(RESPONSES)


@pytest.mark.parametrize(("row", "status", "code"), [(row, *response) for row in RESPONSES for response in RESPONSES[row]])
def test_the_cooldown_and_the_next_endpoint_are_as_documented(row: str, status: int, code: str | None) -> None:
    attempt = classified(row, status, code)
    cooldown, next_endpoint = ROWS[row]
    kinds = {None: "this endpoint", "chat": "this deployment on this endpoint"}
    assert cooldown == (kinds[attempt.cooldown.deployment] if attempt.cooldown else "none")
    assert next_endpoint.startswith("yes") == bool(attempt.cooldown or attempt.lacks_stored_response)


@pytest.mark.parametrize("status", [400, 409, 413, 422, 429])
def test_callers_get_azures_response_to_an_error_that_they_can_fix(status: int) -> None:
    assert isinstance(classified("any other error response", status, None).error, UpstreamErrorResponse)


@pytest.mark.parametrize("status", [301, 401, 403, 404, 408, 418, 500])
def test_callers_do_not_get_azures_response_to_other_errors(status: int) -> None:
    assert not isinstance(classified("any other error response", status, None).error, UpstreamErrorResponse)
