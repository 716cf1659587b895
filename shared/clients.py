"""The Azure OpenAI clients that every function in a process shares."""

import functools
import logging
import math
import os
import time
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import httpx2
from openai import (
    APIConnectionError,
    APIStatusError,
    AsyncAzureOpenAI,
    AsyncOpenAI,
    AsyncStream,
    Omit,
    RequestOptions,
)

from shared.answers import error_of
from shared.call import V1, InferenceCall, is_in_address
from shared.http_client import HttpClient
from shared.settings import Endpoint, Settings

if TYPE_CHECKING:
    from shared.token_provider import TokenProvider

logger = logging.getLogger(__name__)

USER_AGENT = "azure-functions-openai"
# All that says that no answer, or not the whole of it, has come: neither the SDK nor its transport wraps all of these.
TRANSPORT_ERRORS = (APIConnectionError, httpx2.HTTPError, aiohttp.ClientError)
NEVER = (-math.inf, -math.inf)
# Set per request by the SDK, about itself.
SDK_HEADERS = {"x-stainless-retry-count": Omit(), "x-stainless-read-timeout": Omit()}


class OwnHeaders:
    """Replaces what the SDK sends with every request, part of which it takes from the environment."""

    @property
    def default_headers(self) -> dict[str, str | Omit]:
        """Without what OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_CUSTOM_HEADERS would add."""
        return {"user-agent": USER_AGENT, "accept-encoding": "identity"}

    @property
    def default_query(self) -> dict[str, object]:
        """Without the API version: it is part of the addresses, so that none has to be put together for a call."""
        return {}


class DatedClient(OwnHeaders, AsyncAzureOpenAI):
    """Speaks the API of a dated version: `/openai/deployments/NAME/...?api-version=DATE`."""


class V1Client(OwnHeaders, AsyncOpenAI):
    """Speaks the versionless API, `/openai/v1/...`, which AsyncAzureOpenAI cannot."""


class EndpointClient:
    """One endpoint: how to send to it, and what calls have shown of it in this process.

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


class Clients:
    """A client for each endpoint, in the order of the settings; they share a connection pool and a token."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.tokens = token_provider(settings)
        # More connections than calls that may be in flight: a full pool looks like an endpoint that is down.
        self.http = HttpClient(settings.max_concurrent_calls + 100)
        self.endpoints = tuple(
            EndpointClient(position, self.client(endpoint), settings.api_version, self.tokens)
            for position, endpoint in enumerate(settings.endpoints, start=1)
        )
        logger.info(
            "Built the clients: %d endpoint(s), API version %s, %s",
            len(self.endpoints),
            settings.api_version,
            f"managed identity {settings.identity}" if settings.use_identity else "API key",
        )

    def client(self, endpoint: Endpoint) -> AsyncOpenAI:
        # The SDK's own retries would hide a refusal from failover, and sleep.
        if self.settings.api_version == V1:
            return V1Client(
                base_url=f"{endpoint.origin}/openai/v1/",
                api_key=self.tokens or endpoint.key,
                http_client=self.http,
                max_retries=0,
            )
        return DatedClient(
            azure_endpoint=endpoint.origin,
            api_version=self.settings.api_version,
            api_key=endpoint.key,
            azure_ad_token_provider=self.tokens,
            http_client=self.http,
            max_retries=0,
        )


def token_provider(settings: Settings) -> "TokenProvider | None":
    """The token for all clients, None where a key is used."""
    if not settings.use_identity:
        return None
    # Imported here because it is slow to import, and unneeded with a key.
    from shared.token_provider import TokenProvider, default_credential

    return TokenProvider(default_credential(settings.identity_client_id), settings.token_scope)


def auth_advice(settings: Settings) -> str:
    """What an operator can do when Azure refuses the app's credentials."""
    if not settings.use_identity:
        return "Check AZURE_OPENAI_KEY, and whether the resource allows keys (otherwise set AUTHENTICATION=AZURE)."
    return (
        f"Give the identity {settings.identity} the role 'Cognitive Services OpenAI User' on the resource; it takes up "
        "to five minutes to apply. Check the resource's firewall as well."
    )


@functools.cache
def shared_clients() -> Clients:
    """The clients of this process, built on first use. Raises `SettingsError`, and tries anew at the next call."""
    settings = Settings.from_env(os.environ)
    for warning in settings.warnings:
        logger.warning("%s", warning)
    return Clients(settings)
