"""The OpenAI SDK's four clients behind one face, so that a test has all of them do the same."""

import asyncio
import inspect
from typing import Any

from openai import AsyncAzureOpenAI, AzureOpenAI

from tests.support.processes import LocalApp
from tests.support.upstreams import CALLER_KEY


class SDK:
    """One of the SDK's classes, sync or async, used in the same way."""

    def __init__(self, app: LocalApp, kind: type[Any], **options: Any) -> None:
        self.app = app
        self.runner = asyncio.Runner()
        if issubclass(kind, AzureOpenAI | AsyncAzureOpenAI):
            options |= {"azure_endpoint": f"{app.url}/api", "api_version": "2024-10-21"}
        else:
            options["base_url"] = f"{app.url}/api/v1"
        self.client = kind(**{"api_key": CALLER_KEY, "max_retries": 0, **options})

    def result(self, call: Any) -> Any:
        return self.runner.run(self.resolved(call)) if inspect.isawaitable(call) else call

    async def resolved(self, call: Any) -> Any:
        return await call

    def events(self, call: Any) -> list[Any]:
        """All that a stream brings."""
        stream = self.result(call)
        return [*stream] if hasattr(stream, "__iter__") else self.runner.run(self.collected(stream))

    def managed(self, manager: Any) -> tuple[list[Any], Any]:
        """All that the SDK's own stream helper brings, and what it makes of it."""
        if not hasattr(manager, "__enter__"):
            return self.runner.run(self.managed_async(manager))
        with manager as stream:
            events = [*stream]
            return events, stream.get_final_completion()

    async def managed_async(self, manager: Any) -> tuple[list[Any], Any]:
        async with manager as stream:
            events = [event async for event in stream]
            return events, await stream.get_final_completion()

    async def collected(self, stream: Any) -> list[Any]:
        return [event async for event in stream]

    def close(self) -> None:
        self.result(self.client.close())
        self.runner.close()
