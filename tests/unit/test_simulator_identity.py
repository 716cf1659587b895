"""Test the simulator of the identity endpoint."""

import asyncio
import time

import jwt
import pytest

from local.simulator.identity_endpoint import SYSTEM_ASSIGNED
from local.simulator.tokens import AUDIENCE
from tests.support.simulators import Simulators

pytestmark = pytest.mark.anyio


class TestIdentityEndpoint:
    """Compare the endpoint with Azure's.

    https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
    """

    async def test_it_issues_tokens_for_the_system_assigned_identity(self, simulators: Simulators) -> None:
        fields = (await simulators.token()).json()
        assert set(fields) == {"access_token", "expires_on", "resource", "token_type"}
        assert (fields["resource"], fields["token_type"]) == (AUDIENCE, "Bearer")
        assert 86_000 < int(fields["expires_on"]) - time.time() <= 86_400
        assert simulators.issuer.is_valid(fields["access_token"])
        assert jwt.decode(fields["access_token"], options={"verify_signature": False})["appid"] == SYSTEM_ASSIGNED

    async def test_it_issues_tokens_for_a_user_assigned_identity(self, simulators: Simulators) -> None:
        fields = (await simulators.token(query={"client_id": "user-assigned"})).json()
        assert jwt.decode(fields["access_token"], options={"verify_signature": False})["appid"] == "user-assigned"

    async def test_an_unknown_identity_is_400(self, simulators: Simulators) -> None:
        response = await simulators.token(query={"client_id": "somebody-else"})
        assert response.status_code == 400
        assert response.json()["statusCode"] == 400

    @pytest.mark.parametrize("query", [{"api-version": "2017-09-01"}, {"resource": ""}])
    async def test_an_invalid_query_is_400(self, simulators: Simulators, query: dict[str, str]) -> None:
        assert (await simulators.token(query=query)).status_code == 400

    @pytest.mark.parametrize("header", [{}, {"x-identity-header": "wrong"}])
    async def test_a_missing_or_wrong_secret_header_is_401(self, simulators: Simulators, header: dict[str, str]) -> None:
        assert (await simulators.token(header)).status_code == 401

    @pytest.mark.parametrize("status", [400, 500])
    async def test_an_error_status_can_be_scripted(self, simulators: Simulators, status: int) -> None:
        await simulators.http.post(f"{simulators.identity_url}/control/scripts", json=[{"status": status}])
        assert (await simulators.token()).status_code == status
        assert (await simulators.token()).status_code == 200

    async def test_the_lifetime_of_a_token_can_be_scripted(self, simulators: Simulators) -> None:
        await simulators.http.post(f"{simulators.identity_url}/control/scripts", json=[{"lifetime": 5}])
        assert int((await simulators.token()).json()["expires_on"]) <= time.time() + 5

    async def test_a_delay_can_be_scripted(self, simulators: Simulators) -> None:
        await simulators.http.post(f"{simulators.identity_url}/control/scripts", json=[{"delay": 0.3}])
        started = time.monotonic()
        await simulators.token()
        assert time.monotonic() - started >= 0.3

    async def test_a_hang_lasts_until_it_is_released(self, simulators: Simulators) -> None:
        await simulators.http.post(f"{simulators.identity_url}/control/scripts", json=[{"hang": True}])
        request = asyncio.create_task(simulators.token())
        await simulators.http.get(f"{simulators.identity_url}/control/journal", params={"requests": 1})
        await asyncio.sleep(0.1)
        assert not request.done()
        await simulators.http.post(f"{simulators.identity_url}/control/next")
        assert (await request).status_code == 200
