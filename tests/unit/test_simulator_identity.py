"""Test the simulator of the identity endpoint."""

import asyncio
import time

import jwt
import pytest

from local.simulator.tokens import AUDIENCE
from tests.support.simulators import Simulators

pytestmark = pytest.mark.anyio


class TestIdentityEndpoint:
    """https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference"""

    async def test_a_token_of_the_system_assigned_identity(self, simulators: Simulators) -> None:
        answer = (await simulators.token()).json()
        assert set(answer) == {"access_token", "expires_on", "resource", "token_type"}
        assert (answer["resource"], answer["token_type"]) == (AUDIENCE, "Bearer")
        assert 86_000 < int(answer["expires_on"]) - time.time() <= 86_400
        assert simulators.issuer.is_valid(answer["access_token"])
        assert jwt.decode(answer["access_token"], options={"verify_signature": False})["appid"] == "system-assigned"

    async def test_a_token_of_a_user_assigned_identity(self, simulators: Simulators) -> None:
        answer = (await simulators.token(query={"client_id": "user-assigned"})).json()
        assert jwt.decode(answer["access_token"], options={"verify_signature": False})["appid"] == "user-assigned"

    async def test_an_identity_that_is_not_assigned_is_400(self, simulators: Simulators) -> None:
        response = await simulators.token(query={"client_id": "somebody-else"})
        assert response.status_code == 400
        assert response.json()["statusCode"] == 400

    @pytest.mark.parametrize("query", [{"api-version": "2017-09-01"}, {"resource": ""}])
    async def test_a_query_that_is_not_the_protocols_is_400(self, simulators: Simulators, query: dict[str, str]) -> None:
        assert (await simulators.token(query=query)).status_code == 400

    @pytest.mark.parametrize("header", [{}, {"x-identity-header": "wrong"}])
    async def test_the_header_proves_that_the_app_asks(self, simulators: Simulators, header: dict[str, str]) -> None:
        assert (await simulators.token(header)).status_code == 401

    @pytest.mark.parametrize("status", [400, 500])
    async def test_status(self, simulators: Simulators, status: int) -> None:
        await simulators.http.post(f"{simulators.identity_url}/control/scripts", json=[{"status": status}])
        assert (await simulators.token()).status_code == status
        assert (await simulators.token()).status_code == 200

    async def test_lifetime(self, simulators: Simulators) -> None:
        await simulators.http.post(f"{simulators.identity_url}/control/scripts", json=[{"lifetime": 5}])
        assert int((await simulators.token()).json()["expires_on"]) <= time.time() + 5

    async def test_delay(self, simulators: Simulators) -> None:
        await simulators.http.post(f"{simulators.identity_url}/control/scripts", json=[{"delay": 0.3}])
        started = time.monotonic()
        await simulators.token()
        assert time.monotonic() - started >= 0.3

    async def test_hang_until_next(self, simulators: Simulators) -> None:
        await simulators.http.post(f"{simulators.identity_url}/control/scripts", json=[{"hang": True}])
        asking = asyncio.create_task(simulators.token())
        await simulators.http.get(f"{simulators.identity_url}/control/journal", params={"requests": 1})
        await asyncio.sleep(0.1)
        assert not asking.done()
        await simulators.http.post(f"{simulators.identity_url}/control/next")
        assert (await asking).status_code == 200
