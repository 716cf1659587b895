"""Check the simulator against descriptions of Azure's API: `python -m tests.contract FOLDER`.

FOLDER has descriptions in JSON, such as azure-v1-v1-generated.json or inference.json of
https://github.com/Azure/azure-rest-api-specs. The exit status is 1 if a response differs from one of them.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2

from local.serving import Servers
from local.simulator.azure_openai import AzureOpenAISimulator
from shared.streaming.sse import EventParser
from tests.contract.calls import CALLS, Call
from tests.contract.description import Description, template
from tests.support.processes import Json

KEY = "key-of-the-simulator"
# That of the only deployment.
MODEL = "chat-2026-11-01"
BY_DEPLOYMENT = ("chat/", "completions", "embeddings", "images/", "audio/")
# What Azure itself sends, although its descriptions say otherwise.
KNOWN = (
    # https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter: the first chunk of a stream.
    "/object: '' is not one of ['chat.completion.chunk']",
    # OpenAI's errors, which Azure passes on: https://github.com/openai/openai-dotnet/issues/55.
    "/error/type: ",
    "/error/code: None is not of type",
    "/error/param: None is not of type",
    # https://platform.openai.com/docs/api-reference/responses-streaming.
    "/usage: None is not of type",
    "/user: None is not of type",
)


async def mismatches(description: Description, calls: list[Call] = CALLS) -> AsyncIterator[tuple[Call, list[str] | None]]:
    """Yield each call with what differs in its response, or with None if the description does not have the operation."""
    async with Servers() as servers, httpx2.AsyncClient(headers={"api-key": KEY}, timeout=60) as http:
        http.base_url = await servers.start(AzureOpenAISimulator(["chat"], keys=[KEY]).application())
        stored = ""
        for call in calls:
            path = call.path
            if not description.is_v1 and path.startswith(BY_DEPLOYMENT):
                path = f"deployments/{{deployment}}/{path}"
            if not description.has(call.method, template(path)):
                yield call, None
                continue
            if call.script:
                await http.post("/control/scripts", json=[call.script])
            url = f"/openai/{'v1/' if description.is_v1 else ''}{path}".format(deployment="chat", model=MODEL, id=stored)
            response = await send(http, url, call, {} if description.is_v1 else {"api-version": description.version})
            content_type = response.headers["content-type"].partition(";")[0]
            values = contents(response, content_type)
            if call.path == "responses" and content_type == "application/json" and "id" in values[0]:
                stored = values[0]["id"]
            found = description.errors(call.method, template(path), response.status_code, content_type, values)
            yield call, [error for error in dict.fromkeys(found) if not any(known in error for known in KNOWN)]


async def send(http: httpx2.AsyncClient, url: str, call: Call, query: dict[str, str]) -> httpx2.Response:
    fields = {"model": "chat", **call.body} if call.body is not None else None
    body: Json = {"data": fields, "files": call.files} if call.files else {"json": fields}
    return await http.request(call.method, url, params=query | call.query, **body)


def contents(response: httpx2.Response, content_type: str) -> list[Json]:
    """Return the JSON objects in a response: its body, or the data of its events."""
    if content_type == "text/event-stream":
        return [json.loads(data) for data in EventParser().feed(response.content) if data != b"[DONE]"]
    return [response.json()] if content_type == "application/json" else []


async def compared(description: Description) -> list[tuple[Call, list[str] | None]]:
    return [pair async for pair in mismatches(description)]


def main(folder: Path) -> int:
    paths = sorted(folder.glob("*.json"))
    if not paths:
        sys.stderr.write(f"There is no description in {folder}: see CONTRIBUTING.md.\n")
        return 2
    differ = False
    for path in paths:
        found = asyncio.run(compared(Description(json.loads(path.read_text()))))
        known = [(call, errors) for call, errors in found if errors is not None]
        sys.stdout.write(f"{path.name} describes {len(known)} of {len(found)} calls.\n")
        for call, errors in known:
            if errors:
                differ = True
                sys.stdout.write("\n".join([f"  {call}", *(f"    {error}" for error in errors), ""]))
    return int(differ)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
