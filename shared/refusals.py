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
from email.utils import parsedate_to_datetime

import httpx2

from shared.call import RESPONSES, InferenceCall
from shared.endpoint import EndpointClient
from shared.errors import DeploymentNotFound, GatewayError, UpstreamAuthError, UpstreamFailure, UpstreamRefusal
from shared.settings import Settings
from shared.wire import content_type, error_of, returned_headers

logger = logging.getLogger(__name__)

# Refusals that the caller can mend, or must see to behave well.
CALLERS_STATUSES = {400, 409, 413, 422, 429}
# Seconds for which an endpoint rests that does not say for how long, and the longest that is believed.
COOL_DOWN = 10.0
LONGEST_COOL_DOWN = 86400.0
NUMBER = re.compile(r"\d{1,12}(\.\d+)?")


class Refusal(Exception):
    """An endpoint gave no answer that counts; the caller gets `error`, unless another endpoint does better."""

    def __init__(self, error: GatewayError, rests_for: float | None = None, *, is_unknown: bool = False) -> None:
        super().__init__()
        self.error = error
        self.rests_for = rests_for
        """For how many seconds the endpoint, or the deployment on it, should be left alone; None for not at all."""
        self.is_unknown = is_unknown
        """Whether this endpoint merely does not know the response that the call names."""


def judge(response: httpx2.Response, call: InferenceCall, endpoint: EndpointClient, settings: Settings) -> Refusal:
    """What `response`, which is no success and has been read, means; notes for how long the endpoint should rest.

    What the operator must mend is logged, and is not the caller's to read.
    """
    status, code, headers = response.status_code, error_of(response.content).code, returned_headers(response)
    where = f"Endpoint {endpoint.position}, called by {call.caller},"
    rest = cool_down(response)
    if status in (401, 403):
        endpoint.cool(rest)
        logger.error("%s refused the app's credentials (%d %s). %s", where, status, code, settings.auth_advice)
        return Refusal(UpstreamAuthError(), rest)
    if status == 404 and code == "DeploymentNotFound":
        endpoint.cool(rest, call.deployment)
        logger.error("%s has no deployment %r", where, call.deployment)
        return Refusal(DeploymentNotFound(), rest)
    if status in CALLERS_STATUSES or (status == 404 and call.operation.startswith(RESPONSES)):
        error = UpstreamRefusal(status, response.content, {**headers, "content-type": content_type(response)})
        if code == "404" and not call.is_about_stored:
            # As for an address that does not exist, such as with an API version that has no /responses.
            logger.error("%s answered %d %s", where, status, code)
        if status == 429:
            endpoint.throttle(rest, call.deployment)
            logger.warning("%s is throttled: deployment %r", where, call.deployment)
            return Refusal(error, rest)
        unknown = status == 404 or code == "previous_response_not_found"
        return Refusal(error, is_unknown=call.is_about_stored and unknown)
    logger.error("%s answered %d %s", where, status, code)
    if status == 408 or 500 <= status <= 599:
        endpoint.cool(rest)
        return Refusal(UpstreamFailure(status, headers), rest)
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
