"""Test that Azure's error responses are classified as docs/failover.md says, row by row."""

import json
import re
from pathlib import Path
from typing import Any

import httpx2
import pytest

from local.simulator import payloads
from shared import operations
from shared.errors import ErrorDetail, UpstreamErrorResponse, error_in
from shared.settings import Settings
from shared.upstream.request import InferenceCall, State
from shared.upstream.retry_policy import FailedAttempt, Kind, Rank, as_error_response, classify
from tests.support.calls import chat_call
from tests.support.pages import page, table

SETTINGS = Settings.from_env(
    {
        "AZURE_OPENAI_ENDPOINT": "https://a.openai.azure.com",
        "AZURE_OPENAI_KEY": "a-key",
        "AZURE_OPENAI_API_VERSION": "v1",
        "AZURE_OPENAI_CHATGPT_DEPLOYMENT": "chat",
    },
    Path("absent.env"),
)
CHAT = chat_call()
RESPONSES = chat_call(operation=operations.RESPONSES, path="responses")
STORED = chat_call(
    operation=operations.STORED_RESPONSE, path="responses/resp_1", deployment="", state=State((b"key",), is_needed=True)
)
OWN = chat_call(names_own_resources=True)

type Case = tuple[InferenceCall, int, Any, dict[str, str]]


def error(message: str, code: str | None = None) -> Any:
    return payloads.error(code, message)


def chats(*statuses: int) -> list[Case]:
    return [(CHAT, status, error("Scripted."), {}) for status in statuses]


# The error responses to classify. A kind without any has no response.
CASES: dict[Kind, list[Case]] = {
    Kind.THROTTLED: [
        *chats(429),
        (CHAT, 503, error("Scripted."), {"retry-after": "3"}),
        (CHAT, 503, error("Scripted."), {"retry-after-ms": "3"}),
    ],
    Kind.TROUBLE: [*chats(408, 421, 424, 425, 499, 500, 503, 599), (CHAT, 503, error("Scripted."), {"retry-after": "soon"})],
    Kind.CREDENTIALS: [
        *chats(401, 403),
        (CHAT, 401, payloads.PERMISSION_DENIED, {}),
        (CHAT, 403, payloads.KEYS_DISABLED, {}),
    ],
    Kind.NETWORK: [
        (call, 403, body, {})
        for call in (CHAT, STORED)
        for body in (payloads.NETWORK_RULES, payloads.PUBLIC_ACCESS_DISABLED, payloads.VIRTUAL_NETWORK)
    ],
    Kind.REGIONAL: [(CHAT, status, payloads.NO_CUSTOM_SUBDOMAIN, {}) for status in (400, 401, 403)],
    Kind.DEPLOYMENT: [
        (CHAT, 404, payloads.DEPLOYMENT_NOT_FOUND, {}),
        *((call, status, payloads.NO_DEPLOYMENT_FOR_MODEL, {}) for call in (CHAT, RESPONSES) for status in (400, 404)),
    ],
    Kind.RETIRED: [
        *chats(410),
        (CHAT, 404, payloads.DEPLOYMENT_RETIRED, {}),
        (RESPONSES, 410, payloads.DEPLOYMENT_RETIRED, {}),
    ],
    Kind.VERSION: [
        (CHAT, 400, payloads.API_VERSION_TOO_OLD, {}),
        (CHAT, 400, payloads.API_VERSION_ON_V1, {}),
        (CHAT, 400, error("API version not supported", "BadRequest"), {}),
        (CHAT, 400, error("The requested API version 2023-01-01 is not supported."), {}),
        (RESPONSES, 400, error("Azure OpenAI Responses API is enabled only for api-version 2025-03-01-preview"), {}),
        (CHAT, 400, error("response_format value as json_schema is enabled only for api versions 2024-08-01-preview"), {}),
    ],
    Kind.UNKNOWN_STATE: [
        (STORED, 404, error("Not found."), {}),
        (RESPONSES, 400, error("Scripted.", "previous_response_not_found"), {}),
        (RESPONSES, 400, error("Scripted.", "invalid_encrypted_content"), {}),
        (RESPONSES, 400, error("The encrypted content gAAA... could not be verified."), {}),
        (RESPONSES, 404, error("Item with id 'rs_1' not found. Items are not persisted when `store` is set to false."), {}),
        (RESPONSES, 400, payloads.item_not_found("rs_1", store=True), {}),
        (RESPONSES, 400, payloads.DIFFERENT_RESOURCE, {}),
        (RESPONSES, 410, error("Container is expired."), {}),
        (RESPONSES, 404, payloads.file_not_found("file-1"), {}),
        (RESPONSES, 404, payloads.conversation_not_found("conv_1"), {}),
        (RESPONSES, 400, payloads.invalid_encrypted_content("rs_1", code=None), {}),
        (RESPONSES, 404, error("Conversation with id 'conv_1' not found."), {}),
        (RESPONSES, 404, error("No file found with id 'file-1'"), {}),
        (RESPONSES, 400, error("Files with ids ['file-1'] do not exist in this resource."), {}),
    ],
    Kind.NOT_SUPPORTED: [(CHAT, 400, payloads.OPERATION_NOT_SUPPORTED, {})],
    Kind.CALLER: [
        *chats(400, 409, 413, 422),
        (CHAT, 400, payloads.CONTENT_FILTER, {}),
        (RESPONSES, 404, error("Scripted."), {}),
        (OWN, 424, error("Error retrieving tool list from MCP server: 'mine'."), {}),
        # Azure quotes what the caller sent.
        (CHAT, 400, error("Invalid value: 'Could not find an existing deployment to match the model'."), {}),
        (CHAT, 400, error("Invalid value: 'Please provide a custom subdomain'."), {}),
        (CHAT, 400, error("Invalid value: 'api version x is not supported'."), {}),
        (CHAT, 400, error("Invalid value: 'Model x is enabled only for api versions y'."), {}),
        (CHAT, 400, error("Invalid schema for the function 'f': Model x is enabled only for api versions y"), {}),
    ],
    Kind.OTHER: chats(301, 404, 405, 418),
}
ROWS = {cells[0]: cells[1:] for cells in table("Azure | cooldown |", page("docs/failover.md"))}


EACH_CASE = [
    pytest.param(kind, case, id=f"{kind.name} {case[1]} {number}")
    for kind, found in CASES.items()
    for number, case in enumerate(found)
]


def classified(case: Case) -> FailedAttempt:
    call, status, body, headers = case
    return classify(httpx2.Response(status, headers=headers, content=json.dumps(body)), call, 1, SETTINGS)


def test_the_page_lists_every_kind_with_its_cooldown_and_no_other() -> None:
    assert list(ROWS) == [kind.azure for kind in Kind]
    for kind in Kind:
        cooldown, next_endpoint = ROWS[kind.azure]
        assert cooldown == kind.scope.value
        assert next_endpoint.startswith("yes" if kind.tries_next else "no")


def test_the_page_lists_the_ranks_of_errors() -> None:
    found = re.findall(r"^(\d)\. (.+?)[:,\n]", page("docs/failover.md"), re.MULTILINE)
    assert [int(number) for number, _ in found] == [rank.value for rank in Rank]
    words = ["throttling", "trouble", "setup", "state", "call"]
    assert all(word in text for word, (_, text) in zip(words, found, strict=True))


def test_every_kind_with_a_response_has_a_case() -> None:
    assert set(CASES) == set(Kind) - {Kind.SLOW}


@pytest.mark.parametrize(("kind", "case"), EACH_CASE)
def test_an_error_response_is_of_its_kind_and_cools_down_what_the_page_says(kind: Kind, case: Case) -> None:
    attempt = classified(case)
    assert attempt.kind is kind
    cooldown, next_endpoint = ROWS[kind.azure]
    scopes = {None: "this endpoint", case[0].deployment: "this deployment on this endpoint"}
    assert cooldown == (scopes[attempt.cooldown.deployment] if attempt.cooldown else "none")
    assert next_endpoint.startswith("yes") == attempt.tries_next


@pytest.mark.parametrize(("kind", "case"), EACH_CASE)
def test_callers_get_azures_own_response_only_if_they_can_use_it(kind: Kind, case: Case) -> None:
    error = classified(case).error
    is_verbatim = isinstance(error, UpstreamErrorResponse)
    assert is_verbatim == (kind.rank in (Rank.CALLER, Rank.STATE) or case[1] == 429)
    assert is_verbatim == ("Try again" not in error.message and "operator" not in error.message)
    # Clients should retry only if that can help.
    assert (error.headers.get("x-should-retry") == "false") == (kind.rank is Rank.OPERATOR)
    assert ("retry-after" in error.headers) == (kind is Kind.THROTTLED and bool(case[3]))


@pytest.mark.parametrize("status", [401, 403, 404, 408, 410, 424, 429, 500, 503])
def test_a_call_that_names_services_of_the_callers_own_starts_no_cooldown(status: int) -> None:
    body = payloads.DEPLOYMENT_NOT_FOUND if status == 404 else error("Scripted.")
    assert classified((CHAT, status, body, {})).cooldown
    assert classified((OWN, status, body, {})).cooldown is None


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"code": "rate_limit_exceeded"}, Kind.THROTTLED),
        ({"code": "429"}, Kind.THROTTLED),
        ({"code": 429}, Kind.THROTTLED),
        ({"code": "RateLimitReached"}, Kind.THROTTLED),
        ({"code": "too_many_requests"}, Kind.THROTTLED),
        ({"code": None, "type": "too_many_requests"}, Kind.THROTTLED),
        ({"code": "insufficient_quota"}, Kind.THROTTLED),
        ({"code": "server_error"}, Kind.TROUBLE),
        ({"code": "500"}, Kind.TROUBLE),
        ({"code": None, "type": "server_error"}, Kind.TROUBLE),
        ({"code": "internal_server_error"}, Kind.TROUBLE),
        ({"code": "engine_overloaded"}, Kind.TROUBLE),
        ({"code": "RequestTimeout"}, Kind.TROUBLE),
        ({"code": None, "type": "tokens", "message": "Rate limit reached."}, Kind.THROTTLED),
        ({"code": None, "message": "Too Many Requests"}, Kind.THROTTLED),
        ({"code": None, "message": "The server had an error while processing your request."}, Kind.TROUBLE),
        ({"code": "DeploymentNotFound"}, Kind.DEPLOYMENT),
        ({"code": None, "message": "Could not find an existing deployment to match the model."}, Kind.DEPLOYMENT),
        ({"code": "invalid_encrypted_content"}, Kind.UNKNOWN_STATE),
        ({"code": "content_filter"}, Kind.CALLER),
        ({"code": "invalid_prompt"}, Kind.CALLER),
        ({"code": None, "message": "Something about the request."}, Kind.CALLER),
    ],
)
def test_the_code_of_an_error_in_a_body_counts_like_a_status(fields: dict[str, Any], kind: Kind) -> None:
    detail: ErrorDetail = error_in(fields)
    response = as_error_response(detail, httpx2.Response(200, headers={"retry-after": "7", "content-type": "text/x"}))
    attempt = classify(response, RESPONSES, 1, SETTINGS)
    assert attempt.kind is kind
    assert attempt.retry_after == 7
    if kind is Kind.THROTTLED:
        assert attempt.error.headers["content-type"] == "application/json"
        assert attempt.error.headers["retry-after"] == "7"
