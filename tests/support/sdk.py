"""Give the OpenAI SDK's four clients one interface, so that a test can run with each of them."""

import asyncio
import inspect
from typing import Any

from openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, OpenAI

from tests.support.processes import LocalApp
from tests.support.upstreams import CALLER_KEY

DATED = "2025-04-01-preview"
# Each client with one version of the API of the app's endpoints, so that sync, async, and each URL meet both versions.
CLIENTS_AND_VERSIONS: list[tuple[type[Any], str]] = [
    (OpenAI, "v1"),
    (AsyncOpenAI, DATED),
    (AzureOpenAI, DATED),
    (AsyncAzureOpenAI, "v1"),
]


class SDK:
    """Wrap one of the SDK's clients, so that sync and async clients are used in the same way."""

    def __init__(self, app: LocalApp, kind: type[Any], **options: Any) -> None:
        self.app = app
        self.runner = asyncio.Runner()
        if issubclass(kind, AzureOpenAI | AsyncAzureOpenAI):
            options = {"azure_endpoint": f"{app.url}/api", "api_version": DATED, **options}
        else:
            options = {"base_url": f"{app.url}/api/v1", **options}
        self.client = kind(**{"api_key": CALLER_KEY, "max_retries": 0, **options})

    def result(self, call: Any) -> Any:
        return self.runner.run(self.wait_for(call)) if inspect.isawaitable(call) else call

    async def wait_for(self, call: Any) -> Any:
        return await call

    def events(self, call: Any) -> list[Any]:
        """Return all events of a stream."""
        stream = self.result(call)
        return [*stream] if hasattr(stream, "__iter__") else self.runner.run(self.collect(stream))

    def content(self, manager: Any) -> bytes:
        """Return the whole content of a response that the SDK streams, whose context is `manager`."""
        if not hasattr(manager, "__enter__"):
            return self.runner.run(self.content_async(manager))
        with manager as response:
            return b"".join(response.iter_bytes())

    async def content_async(self, manager: Any) -> bytes:
        async with manager as response:
            return b"".join([chunk async for chunk in response.iter_bytes()])

    def events_and_completion(self, manager: Any) -> tuple[list[Any], Any]:
        """Return all events of the SDK's stream helper, and the completion that it builds from them."""
        if not hasattr(manager, "__enter__"):
            return self.runner.run(self.events_and_completion_async(manager))
        with manager as stream:
            events = [*stream]
            return events, stream.get_final_completion()

    async def events_and_completion_async(self, manager: Any) -> tuple[list[Any], Any]:
        async with manager as stream:
            events = [event async for event in stream]
            return events, await stream.get_final_completion()

    async def collect(self, stream: Any) -> list[Any]:
        return [event async for event in stream]

    def close(self) -> None:
        self.result(self.client.close())
        self.runner.close()
