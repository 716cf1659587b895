"""Sends a call to Azure OpenAI within its deadline, and tells an answer from a refusal."""

import asyncio
import functools
import logging
import time
from collections.abc import AsyncIterator, Callable
from email.utils import parsedate_to_datetime

import httpx2
from openai import APIStatusError

from shared.clients import (
    RESPONSES,
    TRANSPORT_ERRORS,
    Clients,
    EndpointClient,
    InferenceCall,
    auth_advice,
    shared_clients,
)
from shared.errors import (
    DeadlineExceeded,
    DeploymentNotFound,
    GatewayError,
    TooManyCalls,
    UpstreamAuthError,
    UpstreamFailure,
    UpstreamRefusal,
    UpstreamUnreachable,
    error_of,
    header_safe,
)

logger = logging.getLogger(__name__)

# What of Azure's headers callers see, besides the content type.
RETURNED_HEADERS = (
    "apim-request-id",
    "x-request-id",
    "x-ms-request-id",
    "x-ms-client-request-id",
    "x-ms-region",
    "retry-after",
    "retry-after-ms",
)
RETURNED_PREFIX = "x-ratelimit-"
# Refusals that the caller can mend, or must see to behave well.
CALLERS_STATUSES = {400, 409, 413, 422, 429}
# Seconds for which an endpoint rests that does not say for how long.
COOL_DOWN = 10.0


class Answer:
    """Azure's answer to a call, its headers read and its body not. Whoever has it must `aclose` it."""

    def __init__(self, call: InferenceCall, response: httpx2.Response, deadline: float, release: Callable[[], None]) -> None:
        self.call = call
        self.response = response
        self.deadline = deadline
        self.release = release
        self.headers = returned_headers(response)
        self.content_type = content_type(response)

    @property
    def is_event_stream(self) -> bool:
        return self.content_type.partition(";")[0].strip().lower() == "text/event-stream"

    async def read(self) -> bytes:
        """The whole body, and closes. Raises `DeadlineExceeded`, or `UpstreamUnreachable` when it breaks off."""
        try:
            async with asyncio.timeout_at(self.deadline):
                return await self.response.aread()
        except TimeoutError:
            raise DeadlineExceeded from None
        except TRANSPORT_ERRORS:
            raise UpstreamUnreachable from None
        finally:
            await self.aclose()

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes; raises `TRANSPORT_ERRORS` when it breaks off."""
        return self.response.aiter_raw()

    async def aclose(self) -> None:
        """Ends the call, closing its connection unless the answer was read to its end. May be repeated."""
        self.release()
        self.release = nothing
        await self.response.aclose()


class Failover:
    """Sends calls for one process."""

    def __init__(self, clients: Clients) -> None:
        self.clients = clients
        self.settings = clients.settings
        self.calls_in_flight = 0

    async def send(self, call: InferenceCall) -> Answer:
        """Azure's answer to `call`, once its headers are there.

        Raises what `errors` lists as upstream's failures, `TooManyCalls` and `DeadlineExceeded`.
        """
        if self.calls_in_flight >= self.settings.max_concurrent_calls:
            raise TooManyCalls
        self.calls_in_flight += 1
        deadline = asyncio.get_running_loop().time() + self.settings.request_timeout
        endpoint = self.clients.endpoints[0]
        try:
            async with asyncio.timeout_at(deadline):
                response = await self.attempt(endpoint, call)
        except BaseException as exc:
            self.release()
            if isinstance(exc, TimeoutError):
                endpoint.cool(COOL_DOWN)
                raise DeadlineExceeded from None
            raise
        return Answer(call, response, deadline, self.release)

    def release(self) -> None:
        self.calls_in_flight -= 1

    async def attempt(self, endpoint: EndpointClient, call: InferenceCall) -> httpx2.Response:
        """One answer from one endpoint; notes what it shows of the endpoint."""
        try:
            response = await endpoint.post(call)
        except APIStatusError as exc:
            raise self.refusal(endpoint, exc.response, call) from None
        except TRANSPORT_ERRORS as exc:
            logger.warning("No answer from endpoint %d to %s: %s", endpoint.position, call.caller, exc.__cause__ or exc)
            endpoint.cool(COOL_DOWN)
            raise UpstreamUnreachable from None
        endpoint.served_at[call.deployment] = time.monotonic()
        return response

    def refusal(self, endpoint: EndpointClient, response: httpx2.Response, call: InferenceCall) -> GatewayError:
        """Whose failure a refusal is. What the operator must mend is logged, and is not the caller's to read."""
        status, code, headers = response.status_code, error_of(response.content).code, returned_headers(response)
        where = f"Endpoint {endpoint.position}, called by {call.caller},"
        if status == 429:
            endpoint.cool(cool_down(response), call.deployment)
        elif status in (401, 403, 408) or status >= 500:
            endpoint.cool(cool_down(response))
        if status in (401, 403):
            logger.error("%s refused the app's credentials (%d %s). %s", where, status, code, auth_advice(self.settings))
            return UpstreamAuthError()
        if status == 404 and code == "DeploymentNotFound":
            logger.error("%s has no deployment %r", where, call.deployment)
            endpoint.cool(COOL_DOWN, call.deployment)
            return DeploymentNotFound()
        if status in CALLERS_STATUSES or (status == 404 and call.operation.startswith(RESPONSES)):
            return UpstreamRefusal(status, response.content, {**headers, "content-type": content_type(response)})
        logger.error("%s answered %d %s", where, status, code)
        # Other 4xx and 3xx are about how this app calls, such as an API version that does not exist.
        return UpstreamFailure(status if 500 <= status <= 599 or status == 408 else 502, headers)


def cool_down(response: httpx2.Response) -> float:
    """For how many seconds Azure wants to be left alone; `COOL_DOWN` where it does not say so in a readable way."""
    try:
        if "retry-after-ms" in response.headers:
            return max(float(response.headers["retry-after-ms"]) / 1000, 0)
        return max(float(response.headers["retry-after"]), 0)
    except KeyError:
        return COOL_DOWN
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(response.headers["retry-after"]).timestamp() - time.time(), 0)
    except (KeyError, ValueError):
        return COOL_DOWN


def returned_headers(response: httpx2.Response) -> dict[str, str]:
    return header_safe(
        {
            name: value
            for name, value in response.headers.items()
            if name in RETURNED_HEADERS or name.startswith(RETURNED_PREFIX)
        }
    )


def content_type(response: httpx2.Response) -> str:
    return header_safe({"": response.headers.get("content-type", "")}).get("") or "application/json"


def nothing() -> None:
    pass


@functools.cache
def shared_failover() -> Failover:
    """The one of this process, built on first use. Raises `SettingsError`."""
    return Failover(shared_clients())
