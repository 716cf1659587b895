"""One Azure OpenAI endpoint: how to send to it, and what calls have shown of it."""

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx2
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, AsyncStream, Omit, RequestOptions

from shared.upstream.request import V1, InferenceCall, is_in_address
from shared.wire import error_of

if TYPE_CHECKING:
    from shared.upstream.token_provider import TokenProvider

# All that says that no answer, or not the whole of it, has come: neither the SDK nor its transport wraps all of these.
TRANSPORT_ERRORS = (APIConnectionError, httpx2.HTTPError, aiohttp.ClientError)
# Set per request by the SDK, about itself.
SDK_HEADERS = {"x-stainless-retry-count": Omit(), "x-stainless-read-timeout": Omit()}


@dataclass(frozen=True)
class Rest:
    """Something to be left alone for so many seconds, because of trouble there: an endpoint, or one deployment on it."""

    seconds: float
    deployment: str | None = None
    """None: the whole endpoint."""
    is_throttling: bool = False
    """Whether Azure asks for it, and nothing is broken."""
    noted: float = field(default_factory=time.monotonic)

    @property
    def until(self) -> float:
        return self.noted + self.seconds


class EndpointClient:
    """Sends to one endpoint, and keeps what calls in this process have shown of it.

    Its `position` counts from 1, as operators do. Moments are those of the monotonic clock.
    """

    def __init__(self, position: int, client: AsyncOpenAI, api_version: str, tokens: "TokenProvider | None") -> None:
        self.position = position
        self.client = client
        self.address = client.base_url.host
        self.port = client.base_url.port or 443
        self.base_url = str(client.base_url)
        self.api_version = api_version
        self.query = "" if api_version == V1 else f"?api-version={api_version}"
        self.tokens = tokens
        self.served_at: dict[str, float] = {}
        self.rests: dict[str | None, Rest] = {}

    async def post(self, call: InferenceCall) -> httpx2.Response:
        """The answer to `call`, its body still to be read.

        Where Azure refuses the token, a fresh one gets one more try. Raises the SDK's `APIStatusError`, whose
        response has been read, `TRANSPORT_ERRORS`, and `UpstreamAuthError` when there is no token.
        """
        try:
            return await self.send(call)
        except APIStatusError as exc:
            if not (exc.status_code == 401 and await self.has_fresh_token(exc.response)):
                raise
            return await self.send(call)

    async def send(self, call: InferenceCall) -> httpx2.Response:
        in_address = is_in_address(call.operation, self.api_version)
        deployment = f"deployments/{call.deployment}/" if in_address else ""
        # The whole address: the SDK would put it together out of parts, and parse each.
        path = f"{self.base_url}{deployment}{call.operation}{self.query}"
        options: RequestOptions = {"headers": {**call.headers, **SDK_HEADERS}, "params": call.query}
        if call.method == "DELETE":
            return await self.client.delete(path, cast_to=httpx2.Response, options=options)
        raw: dict[str, Any] = {"cast_to": httpx2.Response, "stream": True, "stream_cls": AsyncStream[bytes]}
        if call.method == "GET":
            response = await self.client.get(path, options=options, **raw)
        else:
            response = await self.client.post(path, content=call.body, options=options, **raw)
        # The SDK's types know only of the stream; what it returns is what `cast_to` asks for.
        assert isinstance(response, httpx2.Response)
        return response

    async def has_fresh_token(self, refused: httpx2.Response) -> bool:
        """Whether another try with another token makes sense: not when it is the role that is missing."""
        if self.tokens is None or error_of(refused.content).code == "PermissionDenied":
            return False
        return await self.tokens.replace(refused.request.headers["authorization"].removeprefix("Bearer "))

    def leave_alone(self, rest: Rest) -> None:
        """Takes note of `rest`."""
        self.rests[rest.deployment] = rest

    def served(self, deployment: str) -> None:
        """Takes note that `deployment` has just answered a call."""
        self.served_at[deployment] = time.monotonic()

    def rests_of(self, deployment: str) -> list[Rest]:
        """What was noted last of `deployment` here, and of the endpoint as a whole; over or not."""
        return [self.rests[name] for name in (None, deployment) if name in self.rests]
