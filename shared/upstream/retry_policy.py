"""Classify Azure's error responses: what they mean, what cools down, and whether to try the next endpoint.

`Kind` is the table. docs/failover.md and docs/operations.md show it to users.
"""

import logging
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum, IntEnum, auto

import httpx2
import msgspec

from shared.errors import (
    DO_NOT_RETRY,
    DeploymentNotFound,
    ErrorDetail,
    GatewayError,
    UpstreamAuthError,
    UpstreamErrorResponse,
    UpstreamFailure,
    UpstreamNetworkError,
    error_detail,
)
from shared.settings import Settings
from shared.upstream.endpoint import Cooldown
from shared.upstream.request import InferenceCall
from shared.upstream.response_headers import content_type, returned_headers

logger = logging.getLogger(__name__)

# Seconds: the cooldown if Azure names none, and the longest that the app accepts from Azure.
DEFAULT_COOLDOWN = 10.0
MAX_COOLDOWN = 86400.0
NUMBER = re.compile(r"\d{1,12}(\.\d+)?")

# Codes of errors in a body, without `_` and in lower case.
THROTTLING_CODES = re.compile(
    "insufficientquota|nocapacity|quotaexceeded|ratelimit(?:error|exceeded|reached)|slowdown|toomanyrequests|tokens|requests"
)
SERVER_CODES = re.compile(
    "badgateway|internal(?:server)?error|(?:engine|model|serveris|server)?overloaded(?:error)?|serverbusy|servererror"
    "|serviceunavailable|(?:gateway|request)?timeout"
)
MISSING_DEPLOYMENT_CODES = {"deploymentnotfound", "modelnotfound", "unknownmodel"}
UNKNOWN_STATE_CODES = {"previousresponsenotfound", "invalidencryptedcontent"}

# Azure often sends no code, so its messages count as well. Some quote what callers sent. Where a match cools something
# down or becomes a 502, the pattern must therefore match at the beginning: otherwise a caller could take an endpoint from
# everybody, or would not see what is wrong with the call.
MISSING_DEPLOYMENT = re.compile(r"(?i)could not find an existing deployment|the api deployment for this resource does not")
REGIONAL_ENDPOINT = re.compile(r"(?i)(?:please )?provide a custom subdomain")
NETWORK_RULES = re.compile(r"(?i)virtual network|firewall|public (?:network )?access is disabled|private endpoint")
WRONG_API_VERSION = re.compile(
    r"(?i)(?:the )?(?:model \S{1,100}|azure openai [\w ]{1,40}|response_format value as \S{1,40})"
    r" is enabled only for api[- ]version|(?:the )?(?:requested )?api[- ]version\b.{0,80}not (?:supported|allowed)"
)
STATE = r"(?:item|response|conversation|file|vector store|container|prompt)"
UNKNOWN_STATE = re.compile(
    rf"(?is)\b{STATE}s?\b.{{0,200}}\b(?:not found|(?:does|do) not exist)|\bno {STATE} found"
    r"|created under a different azure openai resource"
    r"|encrypted content .{0,200}could not be (?:verified|decrypted)"
)
EXPIRED_STATE = re.compile(rf"(?is)\b{STATE}s?\b.{{0,200}}\bexpired")
# Of errors without a code.
THROTTLING_MESSAGE = re.compile(r"(?i)rate limit|too many requests|quota")
SERVER_MESSAGE = re.compile(r"(?i)server had an error|server error|overloaded|unavailable|capacity|timed? ?out")
# Enough of a message that may quote a whole request.
LONGEST_MESSAGE = 1000


class Scope(Enum):
    """What cools down."""

    NOTHING = "none"
    DEPLOYMENT = "this deployment on this endpoint"
    ENDPOINT = "this endpoint"


class Rank(IntEnum):
    """Which error the caller gets if endpoints fail differently: the lowest."""

    THROTTLED = auto()
    TROUBLE = auto()
    OPERATOR = auto()
    STATE = auto()
    CALLER = auto()


class Kind(Enum):
    """A kind of failure: Azure's response, the scope of the cooldown, whether the next endpoint is tried, and the rank.

    The last value tells the operator what to do. Health and the log say the same.
    """

    THROTTLED = (
        "429; 503 with `Retry-After`",
        Scope.DEPLOYMENT,
        True,
        Rank.THROTTLED,
        "the deployment {deployment!r} is throttled",
    )
    TROUBLE = (
        "408, 421, 424, 425, 499, other 5xx, no connection",
        Scope.ENDPOINT,
        True,
        Rank.TROUBLE,
        "Azure is in trouble; see its status page",
    )
    SLOW = (
        "no headers in time, although the request was sent",
        Scope.DEPLOYMENT,
        True,
        Rank.TROUBLE,
        "the deployment {deployment!r} did not respond in time",
    )
    CREDENTIALS = ("401, other 403", Scope.ENDPOINT, True, Rank.OPERATOR, "{auth_advice}")
    NETWORK = (
        "403 with *Virtual Network/Firewall rules* or *Public access is disabled*",
        Scope.ENDPOINT,
        True,
        Rank.OPERATOR,
        "the resource's network rules exclude this app. Check its firewall, virtual networks and private endpoints",
    )
    REGIONAL = (
        "400, 401 or 403 with *provide a custom subdomain*",
        Scope.ENDPOINT,
        True,
        Rank.OPERATOR,
        "a regional endpoint accepts no tokens. Set AZURE_OPENAI_ENDPOINT to the resource's https://NAME.openai.azure.com",
    )
    DEPLOYMENT = (
        "400 or 404 with `DeploymentNotFound` or *Could not find an existing deployment*",
        Scope.DEPLOYMENT,
        True,
        Rank.OPERATOR,
        "there is no deployment {deployment!r}. Create it on this endpoint, or correct the setting",
    )
    RETIRED = (
        "410; 400 or 404 with `ModelDeprecated`",
        Scope.DEPLOYMENT,
        True,
        Rank.OPERATOR,
        "the model of the deployment {deployment!r} is retired. Deploy a newer model under this name",
    )
    VERSION = (
        "400 with *enabled only for api versions*",
        Scope.NOTHING,
        False,
        Rank.OPERATOR,
        "the deployment {deployment!r} needs another API version. Set AZURE_OPENAI_API_VERSION to v1 or to a newer date",
    )
    UNKNOWN_STATE = (
        "400 or 404 for a stored response, sealed content, a conversation, an item or a file that is not there",
        Scope.NOTHING,
        True,
        Rank.STATE,
        "",
    )
    NOT_SUPPORTED = (
        "400 with `OperationNotSupported`",
        Scope.NOTHING,
        False,
        Rank.CALLER,
        "the deployment {deployment!r} does not have this operation",
    )
    CALLER = ("other 400, 409, 413, 422; 404 on `/responses`", Scope.NOTHING, False, Rank.CALLER, "")
    OTHER = (
        "any other 4xx, 3xx",
        Scope.NOTHING,
        False,
        Rank.OPERATOR,
        "check AZURE_OPENAI_ENDPOINT and AZURE_OPENAI_API_VERSION",
    )

    def __init__(self, azure: str, scope: Scope, tries_next: bool, rank: Rank, advice: str) -> None:
        self.azure = azure
        self.scope = scope
        self.tries_next = tries_next
        self.rank = rank
        self.advice = advice

    def explain(self, deployment: str, settings: Settings) -> str:
        """Return what it means and what the operator can do."""
        return self.advice.format(deployment=deployment, auth_advice=settings.auth_advice)


# The log has these as warnings. It has nothing on a kind without advice, and the others as errors.
WARNINGS = {Kind.THROTTLED, Kind.NOT_SUPPORTED}


@dataclass(frozen=True)
class FailedAttempt:
    """An attempt that failed: why, the error for the caller unless another endpoint does better, and the cooldown."""

    kind: Kind
    error: GatewayError
    cooldown: Cooldown | None = None
    retry_after: float | None = None
    """The seconds that Azure asks clients to wait."""
    tries_next: bool = True


def kind_of(status: int, error: ErrorDetail, *, retry_after: float | None, call: InferenceCall) -> Kind:
    """Return the kind of an error response."""
    if status == 429 or (status == 503 and retry_after is not None):
        return Kind.THROTTLED
    if status in (400, 401, 403) and REGIONAL_ENDPOINT.match(error.message):
        return Kind.REGIONAL
    if status in (401, 403):
        return Kind.NETWORK if status == 403 and NETWORK_RULES.search(error.message) else Kind.CREDENTIALS
    if status == 410:
        return Kind.UNKNOWN_STATE if EXPIRED_STATE.search(error.message[:LONGEST_MESSAGE]) else Kind.RETIRED
    if status == 424 and call.names_own_resources:
        # The failed dependency is the caller's, such as an MCP server.
        return Kind.CALLER
    if status in (408, 421, 424, 425, 499) or 500 <= status <= 599:
        return Kind.TROUBLE
    if status in (400, 404):
        return kind_of_request_error(status, error, call)
    return Kind.CALLER if status in (409, 413, 422) else Kind.OTHER


def kind_of_request_error(status: int, error: ErrorDetail, call: InferenceCall) -> Kind:
    """Return the kind of a 400 or 404, whose reason is in the code or only in the message."""
    code, message = plain(error.code), error.message[:LONGEST_MESSAGE]
    if code == "modeldeprecated":
        return Kind.RETIRED
    if code in MISSING_DEPLOYMENT_CODES or MISSING_DEPLOYMENT.match(message):
        return Kind.DEPLOYMENT
    if code == "operationnotsupported":
        return Kind.NOT_SUPPORTED
    if WRONG_API_VERSION.match(message):
        return Kind.VERSION
    if code in UNKNOWN_STATE_CODES or UNKNOWN_STATE.search(message):
        return Kind.UNKNOWN_STATE
    if status == 404 and call.operation.uses_state:
        return Kind.UNKNOWN_STATE if call.state.is_needed else Kind.CALLER
    return Kind.CALLER if status == 400 else Kind.OTHER


def classify(response: httpx2.Response, call: InferenceCall, position: int, settings: Settings) -> FailedAttempt:
    """Classify an error response, whose body has been read.

    Log what the operator must fix, with the endpoint's `position`. The caller does not see it.
    """
    status, detail, retry_after = response.status_code, error_detail(response.content), retry_after_of(response)
    kind = kind_of(status, detail, retry_after=retry_after, call=call)
    # Azure's code 404 stands for a path that does not exist, for example with an API version without /responses.
    logged = Kind.OTHER if kind is Kind.CALLER and detail.code == "404" else kind
    if logged.advice:
        logger.log(
            logging.WARNING if logged in WARNINGS else logging.ERROR,
            "Endpoint %d, called by %s, responded with %s: %s",
            position,
            call.caller,
            f"{status} {detail.code}".removesuffix(f" {status}").strip(),
            logged.explain(call.deployment, settings),
        )
    cooldown = cooldown_for(kind, call, DEFAULT_COOLDOWN if retry_after is None else retry_after)
    return FailedAttempt(kind, error_for(kind, response, retry_after), cooldown, retry_after, kind.tries_next)


def cooldown_for(kind: Kind, call: InferenceCall, seconds: float = DEFAULT_COOLDOWN) -> Cooldown | None:
    """Return the cooldown that a failure of `kind` starts.

    It is None for a call that names services of the caller's own. They may have failed, and one caller must not take an
    endpoint from the others.
    """
    if kind.scope is Scope.NOTHING or call.names_own_resources:
        return None
    deployment = call.deployment if kind.scope is Scope.DEPLOYMENT else None
    return Cooldown(seconds, deployment, is_throttling=kind is Kind.THROTTLED)


def error_for(kind: Kind, response: httpx2.Response, retry_after: float | None) -> GatewayError:
    """Return the error that the caller gets, without a Retry-After where waiting does not help."""
    headers = returned_headers(response)
    if kind.rank in (Rank.CALLER, Rank.STATE) or response.status_code == 429:
        if kind is Kind.THROTTLED:
            headers = with_retry_after(headers, retry_after)
        verbatim = {**headers, "content-type": content_type(response)}
        return UpstreamErrorResponse(response.status_code, response.content, verbatim)
    if kind.rank is not Rank.OPERATOR:
        # The other statuses of 4xx would blame the caller.
        status = response.status_code if response.status_code == 408 or response.status_code >= 500 else 502
        return UpstreamFailure(status, with_retry_after(headers, retry_after))
    error: GatewayError
    if kind is Kind.CREDENTIALS:
        error = UpstreamAuthError()
    elif kind in (Kind.NETWORK, Kind.REGIONAL):
        error = UpstreamNetworkError()
    elif kind in (Kind.DEPLOYMENT, Kind.RETIRED):
        error = DeploymentNotFound()
    else:
        message = "The model service rejected what this app sent. Its operator can see why in the log."
        error = UpstreamFailure(502, with_retry_after(headers, None), message)
    error.headers |= DO_NOT_RETRY
    return error


def with_retry_after(headers: Mapping[str, str], seconds: float | None) -> dict[str, str]:
    """Return `headers` with these seconds as their Retry-After, or without one for None."""
    others = {name: value for name, value in headers.items() if name not in ("retry-after", "retry-after-ms")}
    if seconds is None:
        return others
    return {**others, "retry-after": str(math.ceil(seconds)), "retry-after-ms": str(math.ceil(seconds * 1000))}


def retry_after_of(response: httpx2.Response) -> float | None:
    """Return the seconds that Azure asks clients to wait, None where it names none, at most `MAX_COOLDOWN`.

    `retry-after-ms` is Azure's own header and goes first, then
    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after.
    """
    milliseconds, text = response.headers.get("retry-after-ms", ""), response.headers.get("retry-after", "")
    if NUMBER.fullmatch(milliseconds):
        seconds = float(milliseconds) / 1000
    elif NUMBER.fullmatch(text):
        seconds = float(text)
    else:
        try:
            seconds = max(parsedate_to_datetime(text).timestamp() - time.time(), 0)
        except (ValueError, OverflowError):
            return None
    return min(seconds, MAX_COOLDOWN)


def as_error_response(error: ErrorDetail, response: httpx2.Response) -> httpx2.Response:
    """Return the error response that says the same as `error`, which Azure has sent in the body of a 200."""
    fields = {"code": error.code or None, "message": error.message, "type": error.type or None, "param": error.param or None}
    headers = {**returned_headers(response), "content-type": "application/json"}
    return httpx2.Response(status_of(error), headers=headers, content=msgspec.json.encode({"error": fields}))


def status_of(error: ErrorDetail) -> int:
    """Return the status that says the same as the code of `error`. It is 400 where the code says nothing of the endpoint."""
    code, kind = plain(error.code), plain(error.type)
    if re.fullmatch("[45][0-9][0-9]", code):
        return int(code)
    if THROTTLING_CODES.fullmatch(code) or THROTTLING_CODES.fullmatch(kind):
        return 429
    if SERVER_CODES.fullmatch(code) or SERVER_CODES.fullmatch(kind):
        return 500
    if code in MISSING_DEPLOYMENT_CODES:
        return 404
    if not code:
        return status_of_message(error.message[:LONGEST_MESSAGE])
    return 400


def status_of_message(message: str) -> int:
    if THROTTLING_MESSAGE.search(message):
        return 429
    return 500 if SERVER_MESSAGE.search(message) else 400


def plain(code: str) -> str:
    """Return a code in the form of the sets above."""
    return code.replace("_", "").replace("-", "").lower()
