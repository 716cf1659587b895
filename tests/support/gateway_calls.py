"""Call Azure through the gateway, and count the requests that each resource has received."""

import httpx2

from tests.support.processes import Json, Simulator
from tests.support.upstreams import CALLER_KEY, Gateway

CALLER = {"api-key": CALLER_KEY}
CHAT = "/api/v1/chat/completions"
MESSAGES: Json = {"messages": [{"role": "user", "content": "Hello"}]}


def call(gateway: Gateway, path: str = CHAT, **fields: object) -> httpx2.Response:
    return gateway.http.post(path, json={**MESSAGES, **fields}, headers=CALLER)


def attempts(models: list[Simulator]) -> list[int]:
    return [len(model.journal()) for model in models]
