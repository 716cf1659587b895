"""Start the simulators in the test's own process, and call them. Control the one of Entra ID in any process."""

import asyncio
import json
from typing import Any

import httpx2
import openai

from local.serving import Servers
from local.simulator.azure_openai import AzureOpenAISimulator
from local.simulator.entra import EntraSimulator
from local.simulator.identity_endpoint import IdentityEndpointSimulator
from local.simulator.tokens import AUDIENCE, TokenIssuer
from tests.support.processes import Json, Simulator

KEY = "key-of-the-simulator"
CHAT: Any = {"messages": [{"role": "user", "content": "Hello"}]}
DATED = "/openai/deployments/chat/chat/completions?api-version=2024-10-21"
V1 = "/openai/v1/chat/completions"


class Entra(Simulator):
    """Control a simulator of Entra ID over HTTP."""

    def mint(self, version: int = 2, claims: Json | None = None, headers: Json | None = None, lifetime: float = 3600) -> str:
        """Return a token: see `TokenIssuer.mint`."""
        options = {"version": version, "claims": claims, "headers": headers, "lifetime": lifetime}
        token: str = self.http.post("/control/tokens", json=options).raise_for_status().json()["token"]
        return token

    def rotate(self, *, drop: bool = False) -> str:
        """Make a new signing key, and return its id. With `drop`, the old keys leave the set."""
        key_id: str = self.http.post("/control/rotate", json={"drop": drop}).raise_for_status().json()["kid"]
        return key_id


class Simulators:
    """Hold simulators: of Azure OpenAI with keys, of Azure OpenAI with tokens, of the identity endpoint, and of Entra ID."""

    def __init__(self) -> None:
        self.issuer = TokenIssuer()
        self.keyed = AzureOpenAISimulator(["chat"], keys=[KEY])
        self.keyless = AzureOpenAISimulator(["chat"], issuer=self.issuer)
        self.identity = IdentityEndpointSimulator(self.issuer, ["user-assigned"])
        self.entra = EntraSimulator(self.issuer)

    async def start(self, servers: Servers, http: httpx2.AsyncClient) -> None:
        self.http = http
        self.keyed_url = await servers.start(self.keyed.application())
        self.keyless_url = await servers.start(self.keyless.application())
        self.identity_url = await servers.start(self.identity.application())
        self.entra_url = await self.entra.start(servers)

    async def chat(self, path: str = DATED, body: Any = CHAT, **headers: str) -> httpx2.Response:
        headers = headers or {"api-key": KEY}
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.http.post(self.keyed_url + path, content=content, headers=headers)

    def client(self, version: str) -> openai.AsyncOpenAI:
        """Return the SDK for this API version, v1 or a dated one. The deployment is the model of each call."""
        if version == "v1":
            return openai.AsyncOpenAI(base_url=f"{self.keyed_url}/openai/v1", api_key=KEY, max_retries=0)
        return openai.AsyncAzureOpenAI(azure_endpoint=self.keyed_url, api_version=version, api_key=KEY, max_retries=0)

    async def keyless_chat(self, path: str = DATED, **headers: str) -> httpx2.Response:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(self.keyless_url + path, json=CHAT, headers=headers)

    async def token(self, headers: dict[str, str] | None = None, query: dict[str, str] | None = None) -> httpx2.Response:
        query = {"api-version": "2019-08-01", "resource": AUDIENCE} | (query or {})
        headers = {"x-identity-header": self.identity.header} if headers is None else headers
        return await self.http.get(f"{self.identity_url}/msi/token", params=query, headers=headers)

    async def script(self, **script: Any) -> None:
        await self.http.post(f"{self.keyed_url}/control/scripts", json=[script])

    async def raw_chat(self, stream: bool = False) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Send a chat on a plain socket, and return its streams."""
        host, port = self.keyed_url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        body = json.dumps({**CHAT, "stream": stream}).encode()
        head = (
            f"POST {DATED} HTTP/1.1\r\nhost: a\r\nconnection: close\r\napi-key: {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        return reader, writer
