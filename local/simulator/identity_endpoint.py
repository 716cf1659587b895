"""Simulate the identity endpoint, where a function app in Azure gets the tokens of its managed identity.

The protocol: https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
"""

import secrets
from collections.abc import Collection
from typing import Any

from aiohttp import web

from local.simulator.journal import Journal
from local.simulator.tokens import TokenIssuer

API_VERSION = "2019-08-01"
# The client id of the system-assigned identity.
SYSTEM_ASSIGNED = "33334444-dddd-5555-eeee-6666ffff7777"


class IdentityEndpointSimulator:
    """Return tokens of `issuer` for the system-assigned identity, and for the user-assigned ones in `client_ids`.

    The tokens are for any `resource`, and have the app role of `issuer`.

    A script (see `Journal`) can have these fields:
    `status`: respond with an error of this status (400 is what an app without an identity gets);
    `content`: respond with this text;
    `lifetime`: the lifetime of the token in seconds;
    `delay`: wait this many seconds before the response;
    `hang`: if true, wait for `/control/next` before the response;
    `times`: use the script for this many requests.
    """

    def __init__(self, issuer: TokenIssuer, client_ids: Collection[str] = ()) -> None:
        self.issuer = issuer
        self.identities = {None: SYSTEM_ASSIGNED} | {client_id: client_id for client_id in client_ids}
        self.header = secrets.token_hex(16)
        self.journal = Journal()

    def application(self) -> web.Application:
        application = web.Application()
        application.add_routes([web.get("/msi/token", self.handle), *self.journal.routes()])
        return application

    async def handle(self, request: web.Request) -> web.Response:
        async with self.journal.recording(request) as entry:
            response = self.respond(request, await self.journal.next_script())
            entry.status = response.status
            return response

    def respond(self, request: web.Request, script: dict[str, Any]) -> web.Response:
        resource, client_id = request.query.get("resource"), request.query.get("client_id")
        if request.headers.get("x-identity-header") != self.header:
            return error(401, "The X-IDENTITY-HEADER is missing or wrong.")
        if "content" in script:
            return web.Response(text=script["content"], content_type="application/json")
        if "status" in script:
            return error(script["status"], "Scripted by a test.")
        if request.query.get("api-version") != API_VERSION:
            return error(400, "The api-version is missing or unsupported.")
        if not resource:
            return error(400, "The resource is missing.")
        if client_id not in self.identities:
            return error(400, f"No User Assigned or Delegated Managed Identity found for specified ClientId {client_id}.")
        token, expires_on = self.issuer.issue(resource, self.identities[client_id], script.get("lifetime", 86400))
        return web.json_response(
            {"access_token": token, "expires_on": str(expires_on), "resource": resource, "token_type": "Bearer"}
        )


def error(status: int, message: str) -> web.Response:
    return web.json_response({"statusCode": status, "message": message}, status=status)
