"""Send calls to one Azure OpenAI endpoint, and remember what they showed about its state."""

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import aiohttp
import httpx2
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, AsyncStream, Omit, RequestOptions

from shared.errors import error_detail
from shared.operations import V1
from shared.telemetry.call_record import CallRecord
from shared.upstream.request import InferenceCall

if TYPE_CHECKING:
    from shared.upstream.token_provider import TokenProvider

# Raised when no response, or only a part of it, has arrived: neither the SDK nor its transport wraps all of these.
TRANSPORT_ERRORS = (APIConnectionError, httpx2.HTTPError, aiohttp.ClientError)
# Omit these headers, in which the SDK describes itself.
SDK_HEADERS = {"x-stainless-retry-count": Omit(), "x-stainless-read-timeout": Omit()}


@dataclass(frozen=True)
class Cooldown:
    """A period in which an endpoint, or one deployment on it, is tried last because a call failed there."""

    seconds: float
    """The length of the period."""
    deployment: str | None = None
    """None: the whole endpoint."""
    is_throttling: bool = False
    """Whether the cause is throttling and not a failure."""
    started: float = field(default_factory=time.monotonic)

    @property
    def until(self) -> float:
        return self.started + self.seconds


class EndpointClient:
    """Send calls to one endpoint, and keep what calls of this process have shown about it.

    `position` and `group` count from 1, in the order of the settings. Times are those of the monotonic clock.
    """

    def __init__(
        self, position: int, group: int, client: AsyncOpenAI, api_version: str, tokens: "TokenProvider | None"
    ) -> None:
        self.position = position
        self.group = group
        self.client = client
        self.host = client.base_url.host
        self.port = client.base_url.port or 443
        self.base_url = str(client.base_url)
        self.query = "" if api_version == V1 else f"?api-version={api_version}"
        self.tokens = tokens
        self.calls: set[CallRecord] = set()
        """The calls in flight."""
        self.last_call = -math.inf
        """When the latest call was sent."""
        self.served_at: dict[str, float] = {}
        self.cooldowns: dict[str | None, Cooldown] = {}

    async def post(self, call: InferenceCall) -> httpx2.Response:
        """Return the response to `call`, with its body unread. If Azure rejects the token, try once more with a new one.

        Raise the SDK's `APIStatusError`, whose response has been read, `TRANSPORT_ERRORS`, and `UpstreamAuthError`
        if no token is available.
        """
        try:
            return await self.send(call)
        except APIStatusError as exc:
            if not (exc.status_code == 401 and await self.has_new_token(exc.response)):
                raise
            return await self.send(call)

    async def send(self, call: InferenceCall) -> httpx2.Response:
        # A whole URL: the SDK would assemble it from parts, and parse each. It would also send all lists as `name[]`.
        url = f"{self.base_url}{call.path}{self.query}"
        if call.query:
            url += f"{'&' if self.query else '?'}{urlencode(call.query, doseq=True)}"
        options: RequestOptions = {"headers": {**call.headers, **SDK_HEADERS}}
        if call.method == "DELETE":
            return await self.client.delete(url, cast_to=httpx2.Response, options=options)
        raw: dict[str, Any] = {"cast_to": httpx2.Response, "stream": True, "stream_cls": AsyncStream[bytes]}
        if call.method == "GET":
            response = await self.client.get(url, options=options, **raw)
        else:
            response = await self.client.post(url, content=call.body, options=options, **raw)
        # The SDK's types promise a stream, but it returns what `cast_to` asks for.
        assert isinstance(response, httpx2.Response)
        return response

    async def has_new_token(self, rejected: httpx2.Response) -> bool:
        """Return whether another attempt with another token makes sense. It does not if the identity lacks the role."""
        if self.tokens is None or error_detail(rejected.content).code == "PermissionDenied":
            return False
        return await self.tokens.replace(rejected.request.headers["authorization"].removeprefix("Bearer "))

    def call_started(self, record: CallRecord) -> None:
        """Count a call among those in flight."""
        self.calls.add(record)
        self.last_call = time.monotonic()

    def call_ended(self, record: CallRecord) -> None:
        """Count a call no longer. Repeating is harmless."""
        self.calls.discard(record)

    def cool_down(self, cooldown: Cooldown) -> None:
        """Remember `cooldown`."""
        self.cooldowns[cooldown.deployment] = cooldown

    def served(self, deployment: str) -> None:
        """Remember that `deployment` has just served a call."""
        self.served_at[deployment] = time.monotonic()

    def cooldowns_of(self, deployment: str) -> list[Cooldown]:
        """Return the latest cooldowns of the whole endpoint and of `deployment` on it, including expired ones."""
        return [self.cooldowns[name] for name in (None, deployment) if name in self.cooldowns]
