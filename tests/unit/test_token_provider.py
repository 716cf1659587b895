"""Test TokenProvider with the real azure-identity, a simulated identity endpoint, and a clock that the tests move."""

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
    """Return the seconds since the epoch, as azure-identity sees them, plus those in `ahead`."""

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
        url = await servers.start(endpoint.application())
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{url}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", endpoint.header)
        yield endpoint


@pytest.fixture
def provider(endpoint: IdentityEndpointSimulator, clock: Clock) -> TokenProvider:
    endpoint.journal.scripts += [{"lifetime": LIFETIME} for _ in range(9)]
    return TokenProvider(default_credential(None), f"{AUDIENCE}/.default", clock)


async def wait_for_request(provider: TokenProvider) -> None:
    """Wait until the request in progress has ended, with a token or not."""
    if provider.request:
        await asyncio.wait([provider.request])


async def test_a_token_is_used_until_shortly_before_it_expires(provider: TokenProvider, clock: Clock) -> None:
    first = await provider()
    assert await provider() == first
    clock.ahead = LIFETIME - EXPIRY_MARGIN - 5
    assert await provider() == first
    assert provider.request is not None, "the refresh continues in the background"
    await wait_for_request(provider)


async def test_an_expired_token_is_never_returned(
    provider: TokenProvider, clock: Clock, endpoint: IdentityEndpointSimulator
) -> None:
    endpoint.journal.scripts.insert(0, {"lifetime": 20})
    first = await provider()
    clock.ahead = 20
    assert await provider() != first


async def test_a_refresh_that_returns_the_same_token_is_not_repeated_at_every_call(
    provider: TokenProvider, clock: Clock, endpoint: IdentityEndpointSimulator
) -> None:
    endpoint.journal.scripts.insert(0, {"lifetime": 400})
    first = await provider()
    # The provider would refresh it now. azure-identity would not yet, and returns the same one.
    clock.ahead = 150
    for number in range(5):
        assert await provider() == first
        assert (provider.request is not None) == (number == 0)
        await wait_for_request(provider)
    assert len(endpoint.journal.entries) == 1


async def test_a_request_past_its_deadline_fails_and_the_next_call_starts_a_new_one(
    provider: TokenProvider, endpoint: IdentityEndpointSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_provider, "TOKEN_DEADLINE", 0.3)
    endpoint.journal.scripts.insert(0, {"hang": True})
    with pytest.raises(UpstreamAuthError):
        await provider()
    monkeypatch.setattr(token_provider, "TOKEN_DEADLINE", 30)
    assert await provider()


async def test_unreadable_responses_of_the_identity_endpoint_are_logged_as_failures(
    provider: TokenProvider, clock: Clock, endpoint: IdentityEndpointSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    first = await provider()
    for content in ("<html>", "", "[]"):
        endpoint.journal.scripts[:] = [{"content": content, "times": 9}]
        clock.ahead += REPLACEMENT_INTERVAL + 1
        caplog.clear()
        assert await provider.replace(first) is False
        assert "No token for the app's identity" in caplog.text


TRUNCATED = '{\n "access_token": "a-secret\n'
UNPRINTABLE_TOKEN = '{"access_token": "a-secret\u00e9", "expires_on": "4102444800"}'


@pytest.mark.parametrize("content", [TRUNCATED, UNPRINTABLE_TOKEN])
async def test_a_response_of_the_identity_endpoint_is_never_logged(
    content: str,
    endpoint: IdentityEndpointSimulator,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def respond(_: web.Request) -> web.Response:
        return web.Response(text=content, content_type="application/json")

    application = web.Application()
    application.router.add_get("/msi/token", respond)
    async with Servers() as servers:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{await servers.start(application)}/msi/token")
        with pytest.raises(UpstreamAuthError):
            await TokenProvider(default_credential(None), f"{AUDIENCE}/.default", clock)()
    assert "No token for the app's identity" in caplog.text
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("shared")]
    assert not any("a-secret" in text for text in messages)


async def test_a_rejection_at_the_moment_a_refresh_fails_does_not_block_the_event_loop(
    endpoint: IdentityEndpointSimulator,
) -> None:
    # A blocked loop could not run a time-out either, so the test sets none.
    provider = TokenProvider(default_credential(None), f"{AUDIENCE}/.default")
    provider.token = AccessTokenInfo("rejected", int(time.time()) + LIFETIME)
    endpoint.journal.scripts.append({"status": 400, "times": 9})
    failed = asyncio.Event()

    class FailureHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # Logging the failure is the last step of the refresh.
            failed.set()

    async def replace_after_failure() -> bool:
        await failed.wait()
        return await provider.replace("rejected")

    replacement = asyncio.create_task(replace_after_failure())
    logger, handler = logging.getLogger("shared.upstream.token_provider"), FailureHandler()
    logger.addHandler(handler)
    try:
        provider.current_request()
        assert await replacement is False
    finally:
        logger.removeHandler(handler)


async def test_a_rejection_during_a_refresh_that_returns_the_same_token_bypasses_the_cache(
    provider: TokenProvider, clock: Clock, endpoint: IdentityEndpointSimulator
) -> None:
    endpoint.journal.scripts.insert(0, {"lifetime": 400})
    rejected = await provider()
    clock.ahead = 150
    assert await provider() == rejected
    assert provider.request is not None
    assert all(await asyncio.gather(provider.replace(rejected), provider.replace(rejected)))
    assert await provider() != rejected
    assert len(endpoint.journal.entries) == 2


async def test_replacing_a_rejected_token_bypasses_the_cache_of_azure_identity(
    provider: TokenProvider, endpoint: IdentityEndpointSimulator
) -> None:
    rejected = await provider()
    assert await provider.replace(rejected)
    assert await provider() != rejected
    assert len(endpoint.journal.entries) == 2


async def test_concurrent_replacements_of_a_token_share_one_request(
    provider: TokenProvider, endpoint: IdentityEndpointSimulator
) -> None:
    rejected = await provider()
    assert all(await asyncio.gather(*(provider.replace(rejected) for _ in range(100))))
    assert await provider.replace(rejected), "a later call finds the new token"
    assert len(endpoint.journal.entries) == 2


async def test_a_failed_replacement_keeps_the_rejected_token(
    provider: TokenProvider, endpoint: IdentityEndpointSimulator
) -> None:
    rejected = await provider()
    endpoint.journal.scripts.insert(0, {"status": 400})
    assert not any(await asyncio.gather(provider.replace(rejected), provider.replace(rejected)))
    assert await provider() == rejected
    assert len(endpoint.journal.entries) == 2


async def test_tokens_are_replaced_at_most_once_a_minute(
    provider: TokenProvider, clock: Clock, endpoint: IdentityEndpointSimulator
) -> None:
    assert await provider.replace(await provider())
    assert not await provider.replace(await provider())
    assert len(endpoint.journal.entries) == 2
    clock.ahead = REPLACEMENT_INTERVAL
    assert await provider.replace(await provider())
    assert len(endpoint.journal.entries) == 3


async def test_a_cancelled_call_does_not_cancel_the_request_that_others_wait_for(
    provider: TokenProvider, endpoint: IdentityEndpointSimulator
) -> None:
    endpoint.journal.scripts.insert(0, {"hang": True})
    cancelled, waiting = asyncio.create_task(provider()), asyncio.create_task(provider())
    async with endpoint.journal.changed:
        await endpoint.journal.changed.wait_for(lambda: endpoint.journal.entries)
    cancelled.cancel()
    endpoint.journal.permits.release()
    assert await waiting
    assert cancelled.cancelled()
    assert len(endpoint.journal.entries) == 1


async def test_a_failure_reaches_all_waiting_calls_and_the_next_call_tries_again(
    provider: TokenProvider, endpoint: IdentityEndpointSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.journal.scripts.insert(0, {"status": 400})
    with caplog.at_level(logging.ERROR):
        results = await asyncio.gather(*(provider() for _ in range(10)), return_exceptions=True)
    assert all(isinstance(result, UpstreamAuthError) for result in results)
    assert sum("No token for the app's identity" in record.getMessage() for record in caplog.records) == 1
    assert await provider()
