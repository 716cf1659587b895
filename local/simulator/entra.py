"""Simulate what Entra ID publishes for those who verify its tokens.

https://learn.microsoft.com/entra/identity-platform/access-tokens#validate-tokens
"""

from typing import Any

from aiohttp import web

from local.serving import Servers
from local.simulator.journal import Journal
from local.simulator.tokens import TokenIssuer


class EntraSimulator:
    """Publish the keys of `issuer`.

    `POST /control/rotate` makes a new signing key; with `{"drop": true}`, the old ones leave the set.
    `POST /control/tokens` returns `{"token": ...}`. The JSON object in the body can have `version` (1 or 2, the default),
    `claims`, `headers` and `lifetime`: see `TokenIssuer.mint`.

    A script (see `Journal`) can have these fields:
    `status`: respond with this status;
    `content`: respond with this text;
    `delay`: wait this many seconds before the response;
    `hang`: if true, wait for `/control/next` before the response;
    `times`: use the script for this many requests.
    """

    def __init__(self, issuer: TokenIssuer) -> None:
        self.issuer = issuer
        self.journal = Journal()

    async def start(self, servers: Servers) -> str:
        """Serve the simulator, make its URL the authority of the issuer, and return it."""
        self.issuer.authority = await servers.start(self.application())
        return self.issuer.authority

    def application(self) -> web.Application:
        application = web.Application()
        application.add_routes(
            [
                web.post("/control/rotate", self.rotate),
                web.post("/control/tokens", self.mint),
                *self.journal.routes(),
                web.get("/{tenant}/discovery/v2.0/keys", self.handle),
                web.get("/{tenant}/v2.0/.well-known/openid-configuration", self.handle),
            ]
        )
        return application

    async def handle(self, request: web.Request) -> web.Response:
        async with self.journal.recording(request) as entry:
            response = self.respond(request, await self.journal.next_script())
            # As many servers do, compress the response if the client accepts that.
            response.enable_compression()
            entry.status = response.status
            return response

    def respond(self, request: web.Request, script: dict[str, Any]) -> web.Response:
        if "status" in script or "content" in script:
            text = script.get("content", "Scripted by a test.")
            return web.Response(status=script.get("status", 200), text=text, content_type="application/json")
        tenant = request.match_info["tenant"]
        if tenant != self.issuer.tenant_id:
            description = f"AADSTS90002: Tenant '{tenant}' not found."
            return web.json_response({"error": "invalid_tenant", "error_description": description}, status=400)
        if request.path.endswith("/keys"):
            return web.json_response(self.issuer.key_set())
        base = f"{self.issuer.authority}/{tenant}"
        return web.json_response(
            {
                "issuer": f"{base}/v2.0",
                "jwks_uri": f"{base}/discovery/v2.0/keys",
                "id_token_signing_alg_values_supported": ["RS256"],
            }
        )

    async def rotate(self, request: web.Request) -> web.Response:
        options = await request.json() if request.can_read_body else {}
        return web.json_response({"kid": self.issuer.rotate(**options)})

    async def mint(self, request: web.Request) -> web.Response:
        options = await request.json() if request.can_read_body else {}
        return web.json_response({"token": self.issuer.mint(**options)})
