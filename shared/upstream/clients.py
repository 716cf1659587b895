"""Build the Azure OpenAI clients that every function of a process shares."""

import logging
from typing import TYPE_CHECKING

from openai import AsyncAzureOpenAI, AsyncOpenAI, Omit

from shared.operations import V1
from shared.settings import Endpoint, Settings
from shared.upstream.endpoint import EndpointClient
from shared.upstream.transport import HttpClient

if TYPE_CHECKING:
    from shared.upstream.token_provider import TokenProvider

logger = logging.getLogger(__name__)

USER_AGENT = "azure-functions-openai"


class FixedHeaders:
    """Replace the headers and the query that the SDK sends with every request, some of them from the environment."""

    @property
    def default_headers(self) -> dict[str, str | Omit]:
        """Leave out what OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_CUSTOM_HEADERS would add."""
        return {"user-agent": USER_AGENT, "accept-encoding": "identity"}

    @property
    def default_query(self) -> dict[str, object]:
        """Leave out the API version: `EndpointClient` puts it into the URL, which is then parsed once and not per call."""
        return {}


class DatedClient(FixedHeaders, AsyncAzureOpenAI):
    """Call the API of a dated version: `/openai/deployments/NAME/...?api-version=DATE`."""


class V1Client(FixedHeaders, AsyncOpenAI):
    """Call the v1 API, `/openai/v1/...`, which AsyncAzureOpenAI does not support."""


class Clients:
    """Hold one client for each endpoint, in the order of the settings. They share a connection pool and a token."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.tokens = token_provider(settings)
        # More connections than calls in flight, because a full pool looks like an endpoint that is down.
        # A single endpoint gets a second attempt to connect, since there is no other endpoint to try.
        self.http = HttpClient(settings.max_concurrent_calls + 100, connects=2 if len(settings.endpoints) == 1 else 1)
        self.endpoints = tuple(
            EndpointClient(position, endpoint.group, self.client(endpoint), settings.api_version, self.tokens)
            for position, endpoint in enumerate(settings.endpoints, start=1)
        )
        logger.info(
            "Built the clients: %d endpoint(s), API version %s, %s",
            len(self.endpoints),
            settings.api_version,
            f"managed identity {settings.identity}" if settings.use_identity else "API key",
        )

    def client(self, endpoint: Endpoint) -> AsyncOpenAI:
        # The SDK's own retries would sleep, and hide error responses from failover.
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
    """Return the token provider for all clients, None where an API key is used."""
    if not settings.use_identity:
        return None
    # azure-identity is slow to import, and unused with an API key.
    from shared.upstream.token_provider import TokenProvider, default_credential

    return TokenProvider(default_credential(settings.identity_client_id), settings.token_scope)
