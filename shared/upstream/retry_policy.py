"""What it means when Azure refuses a call: for the caller, for the endpoint, and whether another may do better.

| Azure's answer                           | the caller gets   | what rests     | next endpoint  |
|------------------------------------------|-------------------|----------------|----------------|
| 429                                      | it, as it came    | the deployment | yes            |
| 401, 403                                 | 502               | the endpoint   | yes            |
| 404 DeploymentNotFound                   | 502               | the deployment | yes            |
| 408, 5xx                                 | the status        | the endpoint   | yes            |
| 404 on /responses                        | it, as it came    | nothing        | if it is stored elsewhere |
| 400 previous_response_not_found          | it, as it came    | nothing        | if it is stored elsewhere |
| other 400, 409, 413, 422                 | it, as it came    | nothing        | no             |
| anything else                            | 502               | nothing        | no             |
"""

import logging
import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httpx2

from shared.errors import DeploymentNotFound, GatewayError, UpstreamAuthError, UpstreamFailure, UpstreamRefusal
from shared.upstream.endpoint import Rest
from shared.upstream.request import RESPONSES, InferenceCall
from shared.wire import content_type, error_of, returned_headers

logger = logging.getLogger(__name__)

# Refusals that the caller can fix, or must see to behave well.
CALLERS_STATUSES = {400, 409, 413, 422, 429}
# Seconds for which an endpoint rests that does not say for how long, and the longest that is believed.
COOL_DOWN = 10.0
LONGEST_COOL_DOWN = 86400.0
NUMBER = re.compile(r"\d{1,12}(\.\d+)?")


@dataclass(frozen=True)
class Refusal:
    """No answer that counts: what the caller gets of it, unless another endpoint does better."""

    error: GatewayError
    rest: Rest | None = None
    is_unknown: bool = False
    """Whether the endpoint merely does not know the response that the call names."""


def judge(response: httpx2.Response, call: InferenceCall, position: int, advice: str) -> Refusal:
    """What `response`, which is no success and has been read, means. What the operator must fix is logged:

    which endpoint, by its `position`, and `advice` where it refuses the app's credentials. The caller does not see that.
    """
    status, code, headers = response.status_code, error_of(response.content).code, returned_headers(response)
    where = f"Endpoint {position}, called by {call.caller},"
    seconds = cool_down(response)
    if status in (401, 403):
        logger.error("%s refused the app's credentials (%d %s). %s", where, status, code, advice)
        return Refusal(UpstreamAuthError(), Rest(seconds))
    if status == 404 and code == "DeploymentNotFound":
        logger.error("%s has no deployment %r", where, call.deployment)
        return Refusal(DeploymentNotFound(), Rest(seconds, call.deployment))
    if status in CALLERS_STATUSES or (status == 404 and call.operation.startswith(RESPONSES)):
        error = UpstreamRefusal(status, response.content, {**headers, "content-type": content_type(response)})
        if status == 429:
            logger.warning("%s is throttled: deployment %r", where, call.deployment)
            return Refusal(error, Rest(seconds, call.deployment, is_throttling=True))
        if code == "404" and not call.is_about_stored:
            # As for an address that does not exist, such as with an API version that has no /responses.
            logger.error("%s answered %d %s", where, status, code)
        is_unknown = status == 404 or code == "previous_response_not_found"
        return Refusal(error, is_unknown=call.is_about_stored and is_unknown)
    logger.error("%s answered %d %s", where, status, code)
    if status == 408 or 500 <= status <= 599:
        return Refusal(UpstreamFailure(status, headers), Rest(seconds))
    # Other 4xx and 3xx are about how this app calls, such as an API version that does not exist.
    return Refusal(UpstreamFailure(502, headers))


def cool_down(response: httpx2.Response) -> float:
    """For how many seconds Azure wants to be left alone; `COOL_DOWN` where it does not say so in a readable way.

    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after, and Azure's own header in milliseconds, which goes first.
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
            return COOL_DOWN
    return min(seconds, LONGEST_COOL_DOWN)
