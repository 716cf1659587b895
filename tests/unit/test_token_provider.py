"""TokenProvider with real azure-identity, its clock in the test's hand."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from azure.core.credentials import AccessTokenInfo

from local.serving import Servers
from local.simulator.identity_endpoint import IdentityEndpointSimulator
from local.simulator.tokens import AUDIENCE, TokenIssuer
from shared.errors import UpstreamAuthError
from shared.upstream import token_provider
from shared.upstream.token_provider import EXPIRY_MARGIN, REPLACEMENT_INTERVAL, TokenProvider, default_credential

pytestmark = pytest.mark.anyio

LIFETIME = 3600


class Clock:
    """Seconds since the epoch, as azure-identity sees them, and as many later as the test says."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def endpoint(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[IdentityEndpointSimulator]:
    endpoint = IdentityEndpointSimulator(TokenIssuer())
    async with Servers() as servers:
        address = await servers.start(endpoint.application())
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{address}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", endpoint.header)
        yield endpoint


@pytest.fixture
def provider(endpoint: IdentityEndpointSimulator, clock: Clock) -> TokenProvider:
    endpoint.journal.scripts += [{"lifetime": LIFETIME} for _ in range(9)]
    return TokenProvider(default_credential(None), f"{AUDIENCE}/.default", clock)


async def settled(provider: TokenProvider) -> None:
    """Waits for the request under way, however it ends."""
    if provider.request:
        await asyncio.wait([provider.request])


async def test_a_token_is_used_until_shortly_before_its_expiry(provider: TokenProvider, clock: Clock) -> None:
    first = await provider()
    assert await provider() == first
    clock.ahead = LIFETIME - EXPIRY_MARGIN - 5
    assert await provider() == first
    assert provider.request is not None, "the renewal goes on in the background"
    await settled(provider)


async def test_an_expired_token_is_never_handed_out(
    provider: TokenProvider, clock: Clock, endpoint: IdentityEndpointSimulator
) -> None:
    endpoint.journal.scripts.insert(0, {"lifetime": 20})
    first = await provider()
    clock.ahead = 20
    assert await provider() != first


async def test_a_renewal_that_brings_no_newer_token_is_not_repeated_at_every_call(
    provider: TokenProvider, clock: Clock, endpoint: IdentityEndpointSimulator
) -> None:
    endpoint.journal.scripts.insert(0, {"lifetime": 400})
    first = await provider()
    # The provider finds it old, azure-identity does not yet, and hands out the same one.
    clock.ahead = 150
    for _ in range(5):
        assert await provider() == first
        assert (provider.request is not None) == (_ == 0)
        await settled(provider)
    assert len(endpoint.journal.entries) == 1


async def test_an_endpoint_that_answers_without_end_is_left_for_a_new_request(
    provider: TokenProvider, endpoint: IdentityEndpointSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_provider, "TOKEN_DEADLINE", 0.3)
    endpoint.journal.scripts.insert(0, {"hang": True})
    with pytest.raises(UpstreamAuthError):
        await provider()
    monkeypatch.setattr(token_provider, "TOKEN_DEADLINE", 30)
    assert await provider()


async def test_an_endpoint_that_stops_making_sense_is_told_of(
    provider: TokenProvider, clock: Clock, endpoint: IdentityEndpointSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    first = await provider()
    for content in ("<html>", "", "[]"):
        endpoint.journal.scripts[:] = [{"content": content, "times": 9}]
        clock.ahead += REPLACEMENT_INTERVAL + 1
        caplog.clear()
        assert await provider.replace(first) is False
        assert "No token for the app's identity" in caplog.text


CUT_OFF = '{\n "access_token": "a-secret\n'
NO_TOKEN = f'{{"access_token": "a-secret\u00e9", "expires_on": "{time.time() + 99:.0f}"}}'


@pytest.mark.parametrize("content", [CUT_OFF, NO_TOKEN])
async def test_what_the_endpoint_answers_is_in_no_log(
    content: str,
    endpoint: IdentityEndpointSimulator,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=content, content_type="application/json")

    application = web.Application()
    application.router.add_get("/msi/token", answer)
    async with Servers() as servers:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{await servers.start(application)}/msi/token")
        with pytest.raises(UpstreamAuthError):
            await TokenProvider(default_credential(None), f"{AUDIENCE}/.default", clock)()
    assert "No token for the app's identity" in caplog.text
    told = [record.getMessage() for record in caplog.records if record.name.startswith("shared")]
    assert not any("a-secret" in text for text in told)


async def test_a_refusal_in_the_moment_in_which_a_renewal_fails_does_not_hold_up_the_loop(
    endpoint: IdentityEndpointSimulator,
) -> None:
    """The loop would never get to what follows the renewal's end, so no time-out on it would help."""
    provider = TokenProvider(default_credential(None), f"{AUDIENCE}/.default")
    provider.token = AccessTokenInfo("refused", int(time.time()) + LIFETIME)
    endpoint.journal.scripts.append({"status": 400, "times": 9})
    ended = asyncio.Event()

    class Telling(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # In the renewal's last step.
            ended.set()

    async def refused() -> bool:
        await ended.wait()
        return await provider.replace("refused")

    replacing = asyncio.create_task(refused())
    logger, handler = logging.getLogger("shared.upstream.token_provider"), Telling()
    logger.addHandler(handler)
    try:
        provider.current_request()
        assert await replacing is False
    finally:
        logger.removeHandler(handler)


async def test_a_refusal_during_a_renewal_that_brings_nothing_new_asks_past_the_cache(
    provider: TokenProvider, clock: Clock, endpoint: IdentityEndpointSimulator
) -> None:
    endpoint.journal.scripts.insert(0, {"lifetime": 400})
    refused = await provider()
    clock.ahead = 150
    assert await provider() == refused
    assert provider.request is not None
    assert all(await asyncio.gather(provider.replace(refused), provider.replace(refused)))
    assert await provider() != refused
    assert len(endpoint.journal.entries) == 2


async def test_a_refused_token_is_replaced_past_azure_identitys_cache(
    provider: TokenProvider, endpoint: IdentityEndpointSimulator
) -> None:
    refused = await provider()
    assert await provider.replace(refused)
    assert await provider() != refused
    assert len(endpoint.journal.entries) == 2


async def test_all_who_saw_a_token_refused_share_its_replacement(
    provider: TokenProvider, endpoint: IdentityEndpointSimulator
) -> None:
    refused = await provider()
    assert all(await asyncio.gather(*(provider.replace(refused) for _ in range(100))))
    assert await provider.replace(refused), "one who comes late finds the new token"
    assert len(endpoint.journal.entries) == 2


async def test_without_a_replacement_the_refusal_stands(
    provider: TokenProvider, endpoint: IdentityEndpointSimulator
) -> None:
    refused = await provider()
    endpoint.journal.scripts.insert(0, {"status": 400})
    assert not any(await asyncio.gather(provider.replace(refused), provider.replace(refused)))
    assert await provider() == refused
    assert len(endpoint.journal.entries) == 2


async def test_tokens_are_replaced_once_a_minute_at_most(
    provider: TokenProvider, clock: Clock, endpoint: IdentityEndpointSimulator
) -> None:
    assert await provider.replace(await provider())
    assert not await provider.replace(await provider())
    assert len(endpoint.journal.entries) == 2
    clock.ahead = REPLACEMENT_INTERVAL
    assert await provider.replace(await provider())
    assert len(endpoint.journal.entries) == 3


async def test_a_caller_who_leaves_does_not_end_the_request_that_others_wait_for(
    provider: TokenProvider, endpoint: IdentityEndpointSimulator
) -> None:
    endpoint.journal.scripts.insert(0, {"hang": True})
    leaving, staying = asyncio.create_task(provider()), asyncio.create_task(provider())
    async with endpoint.journal.changed:
        await endpoint.journal.changed.wait_for(lambda: endpoint.journal.entries)
    leaving.cancel()
    endpoint.journal.permits.release()
    assert await staying
    assert leaving.cancelled()
    assert len(endpoint.journal.entries) == 1


async def test_a_failure_is_told_to_all_who_wait_and_the_next_one_tries_anew(
    provider: TokenProvider, endpoint: IdentityEndpointSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.journal.scripts.insert(0, {"status": 400})
    with caplog.at_level(logging.ERROR):
        results = await asyncio.gather(*(provider() for _ in range(10)), return_exceptions=True)
    assert all(isinstance(result, UpstreamAuthError) for result in results)
    assert sum("No token for the app's identity" in record.getMessage() for record in caplog.records) == 1
    assert await provider()
