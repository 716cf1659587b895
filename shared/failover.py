"""Sends a call to Azure OpenAI within its deadline, and tells an answer from a refusal."""

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import cast

import httpx2
import msgspec
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, AsyncStream, Omit

from shared.clients import Clients, shared_clients
from shared.errors import (
    DeadlineExceeded,
    DeploymentNotFound,
    GatewayError,
    TooManyCalls,
    UpstreamAuthError,
    UpstreamFailure,
    UpstreamRefusal,
    UpstreamUnreachable,
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
# Set per request by the SDK, about itself.
SDK_HEADERS = {"x-stainless-retry-count": Omit(), "x-stainless-read-timeout": Omit()}


@dataclass(frozen=True)
class InferenceCall:
    """What to ask of a deployment: an operation of Azure's API, its JSON body, and how the answer should come."""

    operation: str
    deployment: str
    body: bytes
    stream: bool
    headers: Mapping[str, str]


class Answer:
    """Azure's answer to a call, its headers read and its body not. Whoever has it must `aclose` it."""

    def __init__(self, response: httpx2.Response, deadline: float, release: Callable[[], None]) -> None:
        self.response = response
        self.deadline = deadline
        self.release = release
        self.headers = returned_headers(response)

    async def read(self) -> bytes:
        """The whole body, and closes. Raises `DeadlineExceeded`, or `UpstreamUnreachable` when it breaks off."""
        try:
            async with asyncio.timeout_at(self.deadline):
                return await self.response.aread()
        except TimeoutError:
            raise DeadlineExceeded from None
        except httpx2.HTTPError:
            raise UpstreamUnreachable from None
        finally:
            await self.aclose()

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes; raises `httpx2.HTTPError` when it breaks off."""
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
        try:
            async with asyncio.timeout_at(deadline):
                response = await self.attempt(self.clients.by_endpoint[0], call)
        except BaseException as exc:
            self.release()
            if isinstance(exc, TimeoutError):
                raise DeadlineExceeded from None
            raise
        return Answer(response, deadline, self.release)

    def release(self) -> None:
        self.calls_in_flight -= 1

    async def post(self, client: AsyncOpenAI, call: InferenceCall) -> httpx2.Response:
        """Sends `call` with the client's credentials; the answer's body is still to be read."""
        v1 = self.settings.api_version == "v1"
        response = await client.post(
            call.operation if v1 else f"deployments/{call.deployment}/{call.operation}",
            content=call.body,
            cast_to=httpx2.Response,
            stream=True,
            stream_cls=AsyncStream[bytes],
            options={"headers": {**call.headers, **SDK_HEADERS}},
        )
        # The SDK's types know only of the stream; what it returns is what `cast_to` asks for.
        return cast(httpx2.Response, response)

    async def attempt(self, client: AsyncOpenAI, call: InferenceCall) -> httpx2.Response:
        """One answer from one endpoint; where Azure refuses the token, one more with a fresh token."""
        try:
            try:
                return await self.post(client, call)
            except APIStatusError as exc:
                if not (exc.status_code == 401 and await self.has_fresh_token(exc.response)):
                    raise
                return await self.post(client, call)
        except APIStatusError as exc:
            raise self.refusal(exc.response, call) from None
        except APIConnectionError as exc:
            logger.warning("No answer from Azure OpenAI: %s", exc.__cause__ or exc)
            raise UpstreamUnreachable from None

    async def has_fresh_token(self, refused: httpx2.Response) -> bool:
        """Whether another try with another token makes sense: not when it is the role that is missing."""
        if self.clients.tokens is None or error_code(refused) == "PermissionDenied":
            return False
        return await self.clients.tokens.replace(refused.request.headers["authorization"].removeprefix("Bearer "))

    def refusal(self, response: httpx2.Response, call: InferenceCall) -> GatewayError:
        """Whose failure a refusal is. What the operator must mend is logged, and is not the caller's to read."""
        status, code, headers = response.status_code, error_code(response), returned_headers(response)
        if status in (401, 403):
            logger.error("Azure OpenAI refused the app's credentials (%d %s). %s", status, code, self.auth_advice())
            return UpstreamAuthError()
        if status == 404 and code == "DeploymentNotFound":
            logger.error("Azure OpenAI has no deployment %r at this endpoint", call.deployment)
            return DeploymentNotFound()
        if status in CALLERS_STATUSES:
            headers["content-type"] = response.headers.get("content-type", "application/json")
            return UpstreamRefusal(status, response.content, headers)
        logger.error("Azure OpenAI answered %d %s", status, code)
        # Other 4xx and 3xx are about how this app calls, such as an API version that does not exist.
        return UpstreamFailure(status if status >= 500 or status == 408 else 502, headers)

    def auth_advice(self) -> str:
        if not self.settings.use_identity:
            return "Check AZURE_OPENAI_KEY, and whether the resource allows keys (otherwise set AUTHENTICATION=AZURE)."
        return (
            "Give the identity %s the role 'Cognitive Services OpenAI User' on the resource; it takes up to five minutes "
            "to apply. Check the resource's firewall as well."
        ) % (self.settings.identity_client_id or "(system-assigned)")


def returned_headers(response: httpx2.Response) -> dict[str, str]:
    return {
        name: value
        for name, value in response.headers.items()
        if name in RETURNED_HEADERS or name.startswith(RETURNED_PREFIX)
    }


def error_code(response: httpx2.Response) -> str:
    """The code in an error of Azure's, cut to what can go into a log; empty where there is none."""
    try:
        code = msgspec.json.decode(response.content, type=ErrorBody).error.code
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return "".join(c for c in str(code or "") if c.isalnum() or c in "._-")[:64]


class ErrorDetail(msgspec.Struct):
    code: str | int | None = None


class ErrorBody(msgspec.Struct):
    error: ErrorDetail


def nothing() -> None:
    pass


@functools.cache
def shared_failover() -> Failover:
    """The one of this process, built on first use. Raises `SettingsError`."""
    return Failover(shared_clients())
