"""One Azure OpenAI endpoint: how to send to it, and what calls have shown of it."""

import math
import time
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import httpx2
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, AsyncStream, Omit, RequestOptions

from shared.call import V1, InferenceCall, is_in_address
from shared.wire import error_of

if TYPE_CHECKING:
    from shared.token_provider import TokenProvider

# All that says that no answer, or not the whole of it, has come: neither the SDK nor its transport wraps all of these.
TRANSPORT_ERRORS = (APIConnectionError, httpx2.HTTPError, aiohttp.ClientError)
NEVER = (-math.inf, -math.inf)
# Set per request by the SDK, about itself.
SDK_HEADERS = {"x-stainless-retry-count": Omit(), "x-stainless-read-timeout": Omit()}


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
        # When trouble was noted, and until when to rest; by deployment, None standing for all of them.
        self.trouble: dict[str | None, tuple[float, float]] = {}
        # The same for throttling alone.
        self.throttled: dict[str, tuple[float, float]] = {}

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
        return cast(httpx2.Response, response)

    async def has_fresh_token(self, refused: httpx2.Response) -> bool:
        """Whether another try with another token makes sense: not when it is the role that is missing."""
        if self.tokens is None or error_of(refused.content).code == "PermissionDenied":
            return False
        return await self.tokens.replace(refused.request.headers["authorization"].removeprefix("Bearer "))

    def cool(self, seconds: float, deployment: str | None = None) -> None:
        """Notes trouble: the endpoint, or only `deployment` on it, should rest for that long."""
        now = time.monotonic()
        self.trouble[deployment] = (now, now + seconds)

    def throttle(self, seconds: float, deployment: str) -> None:
        """Notes that Azure wants `deployment` to be left alone for that long, and that nothing is broken."""
        self.cool(seconds, deployment)
        self.throttled[deployment] = self.trouble[deployment]

    def served(self, deployment: str) -> None:
        """Notes that `deployment` has just answered a call."""
        self.served_at[deployment] = time.monotonic()

    def troubled_at(self, deployment: str) -> float:
        """When trouble with `deployment` here was noted last; in the past for never."""
        return max(self.trouble.get(None, NEVER)[0], self.trouble.get(deployment, NEVER)[0])

    def rests_until(self, deployment: str) -> float:
        """Until when `deployment` here should rest; in the past for not at all."""
        return max(self.trouble.get(None, NEVER)[1], self.trouble.get(deployment, NEVER)[1])
