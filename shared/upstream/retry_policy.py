"""Classify Azure's error responses: the error for the caller, the cooldown, and whether to try the next endpoint.

| Azure's response                         | the caller gets   | cooldown       | next endpoint  |
|------------------------------------------|-------------------|----------------|----------------|
| 429                                      | it, verbatim      | the deployment | yes            |
| 401, 403                                 | 502               | the endpoint   | yes            |
| 404 DeploymentNotFound                   | 502               | the deployment | yes            |
| 408, 5xx                                 | the status        | the endpoint   | yes            |
| 404 on /responses                        | it, verbatim      | none           | if the call needs a stored response |
| 400 previous_response_not_found          | it, verbatim      | none           | if the call needs a stored response |
| other 400, 409, 413, 422                 | it, verbatim      | none           | no             |
| anything else                            | 502               | none           | no             |
"""

import logging
import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httpx2

from shared.errors import (
    DeploymentNotFound,
    GatewayError,
    UpstreamAuthError,
    UpstreamErrorResponse,
    UpstreamFailure,
    error_detail,
)
from shared.upstream.endpoint import Cooldown
from shared.upstream.request import RESPONSES, STORED_RESPONSE, InferenceCall
from shared.upstream.response_headers import content_type, returned_headers

logger = logging.getLogger(__name__)

# The caller can fix the request or, after a 429, needs the response to know when to retry.
VERBATIM_STATUSES = {400, 409, 413, 422, 429}
# Seconds: the cooldown if Azure names none, and the longest that the app accepts from Azure.
DEFAULT_COOLDOWN = 10.0
MAX_COOLDOWN = 86400.0
NUMBER = re.compile(r"\d{1,12}(\.\d+)?")


@dataclass(frozen=True)
class FailedAttempt:
    """An attempt that failed: the error for the caller, unless another endpoint does better, and the cooldown."""

    error: GatewayError
    cooldown: Cooldown | None = None
    lacks_stored_response: bool = False
    """Whether the endpoint merely does not have the stored response that the call needs."""


def classify(response: httpx2.Response, call: InferenceCall, position: int, advice: str) -> FailedAttempt:
    """Classify an error response, whose body has been read.

    Log what the operator must fix: the endpoint by its `position`, and `advice` where Azure rejects the app's
    credentials. The caller sees neither.
    """
    status, code, headers = response.status_code, error_detail(response.content).code, returned_headers(response)
    where = f"Endpoint {position}, called by {call.caller},"
    seconds = cooldown_seconds(response)
    if status in (401, 403):
        logger.error("%s rejected the app's credentials (%d %s). %s", where, status, code, advice)
        return FailedAttempt(UpstreamAuthError(), Cooldown(seconds))
    if status == 404 and code == "DeploymentNotFound":
        logger.error("%s has no deployment %r", where, call.deployment)
        return FailedAttempt(DeploymentNotFound(), Cooldown(seconds, call.deployment))
    if status in VERBATIM_STATUSES or (status == 404 and call.operation in (RESPONSES, STORED_RESPONSE)):
        error = UpstreamErrorResponse(status, response.content, {**headers, "content-type": content_type(response)})
        if status == 429:
            logger.warning("%s is throttled: deployment %r", where, call.deployment)
            return FailedAttempt(error, Cooldown(seconds, call.deployment, is_throttling=True))
        if code == "404" and not call.needs_stored_response:
            # Azure's code for a path that does not exist, for example with an API version that has no /responses.
            logger.error("%s responded with %d %s", where, status, code)
        is_not_found = status == 404 or code == "previous_response_not_found"
        return FailedAttempt(error, lacks_stored_response=call.needs_stored_response and is_not_found)
    logger.error("%s responded with %d %s", where, status, code)
    if status == 408 or 500 <= status <= 599:
        return FailedAttempt(UpstreamFailure(status, headers), Cooldown(seconds))
    # Other 4xx and 3xx come from the app's own request or settings, for example an API version that does not exist.
    return FailedAttempt(UpstreamFailure(502, headers))


def cooldown_seconds(response: httpx2.Response) -> float:
    """Return the seconds that Azure asks clients to wait, `DEFAULT_COOLDOWN` where it names none.

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
            return DEFAULT_COOLDOWN
    return min(seconds, MAX_COOLDOWN)
