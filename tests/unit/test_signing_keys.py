"""Test when the signing keys of Entra ID are fetched, and what a failure of the fetch does."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from jwt.algorithms import RSAAlgorithm
from jwt.utils import base64url_encode

from local.serving import Servers
from local.simulator.entra import EntraSimulator
from local.simulator.tokens import API_CLIENT_ID, TokenIssuer
from shared.callers.entra import TokenCheck
from shared.callers.identify import header_of
from shared.callers.signing_keys import COLD_RETRY_INTERVAL, MAX_AGE, REFRESH_INTERVAL, RETRY_INTERVAL, public_keys
from shared.errors import InvalidToken, SigningKeysUnavailable
from shared.settings.entra import EntraSettings
from shared.upstream.transport import HttpClient

pytestmark = pytest.mark.anyio


class Entra:
    """Hold a check of tokens, with a clock that tests set, and the simulator from which it fetches keys."""

    def __init__(self, http: HttpClient) -> None:
        self.issuer = TokenIssuer()
        self.simulator = EntraSimulator(self.issuer)
        self.http = http
        self.time = 1000.0

    async def start(self, servers: Servers) -> None:
        authority = await self.simulator.start(servers)
        settings = EntraSettings(self.issuer.tenant_id, (API_CLIENT_ID,), self.issuer.role, {}, authority)
        self.check = TokenCheck(settings, self.http)
        self.check.keys.clock = lambda: self.time

    @property
    def fetches(self) -> int:
        return len(self.simulator.journal.entries)

    async def call(self, token: str = "") -> str:
        token = token or self.issuer.mint()
        return await self.check.caller_of(token, header_of(token) or {})

    def script(self, **script: object) -> None:
        self.simulator.journal.scripts.append(script)


@pytest.fixture
async def entra() -> AsyncIterator[Entra]:
    async with Servers() as servers, aclosing(HttpClient(10)) as http:
        entra = Entra(http)
        await entra.start(servers)
        yield entra


async def test_100_cold_callers_cost_one_fetch(entra: Entra) -> None:
    entra.script(delay=0.2)
    await asyncio.gather(*(entra.call() for _ in range(100)))
    assert entra.fetches == 1


async def test_nothing_is_fetched_before_the_first_token(entra: Entra) -> None:
    await asyncio.sleep(0.1)
    assert entra.fetches == 0


@pytest.mark.parametrize("drop", [False, True])
async def test_a_new_key_is_fetched_when_a_token_has_it(entra: Entra, drop: bool) -> None:
    old = entra.issuer.mint()
    await entra.call(old)
    entra.issuer.rotate(drop=drop)
    entra.time += RETRY_INTERVAL
    await asyncio.gather(*(entra.call() for _ in range(10)))
    assert entra.fetches == 2
    if drop:
        with pytest.raises(InvalidToken):
            await entra.call(old)
    else:
        await entra.call(old)


async def test_1000_unknown_keys_cost_one_fetch_a_minute(entra: Entra) -> None:
    await entra.call()
    entra.time += RETRY_INTERVAL
    for minute in (1, 2):
        results = await asyncio.gather(
            *(entra.call(unknown(entra, number)) for number in range(1000)), return_exceptions=True
        )
        assert {type(result) for result in results} == {InvalidToken}
        for number in range(10):
            with pytest.raises(InvalidToken):
                await entra.call(unknown(entra, number))
        assert entra.fetches == 1 + minute
        entra.time += RETRY_INTERVAL


def unknown(entra: Entra, number: int) -> str:
    return entra.issuer.mint(headers={"kid": f"unknown-{number}"})


async def test_keys_are_refreshed_in_the_background(entra: Entra) -> None:
    await entra.call()
    seen = entra.issuer.mint()
    await entra.call(seen)
    entra.time += REFRESH_INTERVAL
    # The refresh waits until the test permits it, and nobody else does.
    entra.script(hang=True)
    await entra.call(seen)
    await asyncio.gather(*(entra.call() for _ in range(10)))
    assert entra.check.keys.request
    entra.simulator.journal.permits.release()
    await entra.check.keys.request
    assert entra.fetches == 2
    assert not entra.check.keys.has_failed


GARBAGE = [
    {"content": "not JSON"},
    {"content": "[]"},
    {"content": "{}"},
    {"content": '{"keys": []}'},
    {"content": '{"keys": {"a": 1}}'},
    {"content": '{"keys": [1, null, {"kty": "RSA"}, {"kty": "oct", "k": "c2VjcmV0", "kid": "a"}]}'},
    {"content": "[" * 100_000},
    {"content": '{"keys": "\\ud800"}'},
    {"content": json.dumps({"keys": ["a" * 1000] * 2000})},
    {"status": 500},
    {"status": 404},
    {"status": 302},
]


@pytest.mark.parametrize("script", GARBAGE, ids=lambda script: json.dumps(script)[:50])
async def test_garbage_keeps_the_last_good_keys(
    entra: Entra, script: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    seen = entra.issuer.mint()
    await entra.call(seen)
    entra.time += REFRESH_INTERVAL
    entra.script(**script)
    await entra.call()
    assert entra.check.keys.request
    await entra.check.keys.request
    assert entra.fetches == 2
    assert "The signing keys of Entra ID could not be fetched. Check CALLER_TENANT_ID" in caplog.text
    await entra.call()
    await entra.call(seen)
    # It is tried again after a minute, and not before.
    assert entra.fetches == 2
    entra.time += RETRY_INTERVAL
    await entra.call()
    assert entra.check.keys.request
    await entra.check.keys.request
    assert entra.fetches == 3
    assert not entra.check.keys.has_failed


@pytest.mark.parametrize("remembered", [True, False])
async def test_keys_that_are_older_than_a_day_wait_for_a_fetch(entra: Entra, remembered: bool) -> None:
    seen, token = entra.issuer.mint(), entra.issuer.mint()
    await entra.call(seen)
    entra.issuer.rotate(drop=True)
    entra.time += MAX_AGE
    with pytest.raises(InvalidToken):
        await entra.call(seen if remembered else token)
    assert entra.fetches == 2


async def test_keys_that_are_older_than_a_day_still_count_if_no_others_can_be_fetched(entra: Entra) -> None:
    seen = entra.issuer.mint()
    await entra.call(seen)
    entra.time += MAX_AGE
    entra.script(status=500)
    await entra.call(seen)
    await entra.call()
    assert entra.fetches == 2
    # The next fetch, a minute later, delays nobody.
    entra.time += RETRY_INTERVAL
    entra.script(hang=True)
    await entra.call(seen)
    await entra.call()
    assert entra.check.keys.request
    entra.simulator.journal.permits.release()
    await entra.check.keys.request


async def test_another_key_of_the_same_id_ends_the_tokens_of_the_first(entra: Entra) -> None:
    seen = entra.issuer.mint()
    await entra.call(seen)
    (key_id,) = entra.issuer.keys
    entra.issuer.keys[key_id] = generate_private_key(65537, 2048)
    entra.time += MAX_AGE
    with pytest.raises(InvalidToken):
        await entra.call(seen)
    await entra.call()


async def test_a_token_with_an_unknown_key_gets_503_while_no_keys_can_be_fetched(entra: Entra) -> None:
    await entra.call()
    entra.time += RETRY_INTERVAL
    entra.script(status=500)
    # The key may be a new one.
    with pytest.raises(SigningKeysUnavailable):
        await entra.call(unknown(entra, 1))
    await entra.call()


async def test_without_any_keys_callers_get_503_until_a_fetch_succeeds(entra: Entra) -> None:
    entra.script(status=500, times=2)
    for attempt in (1, 2):
        results = await asyncio.gather(*(entra.call() for _ in range(10)), return_exceptions=True)
        assert {type(result) for result in results} == {SigningKeysUnavailable}
        assert entra.fetches == attempt
        entra.time += COLD_RETRY_INTERVAL
    await entra.call()


async def test_a_server_that_cannot_be_reached_gives_503(entra: Entra) -> None:
    entra.check.keys.url = "http://127.0.0.1:9/keys"
    with pytest.raises(SigningKeysUnavailable):
        await entra.call()


async def test_a_slow_server_gives_503_after_the_deadline(entra: Entra, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.callers.signing_keys.DEADLINE", 0.2)
    entra.script(hang=True)
    with pytest.raises(SigningKeysUnavailable):
        await entra.call()
    # For a while, the next callers do not wait again.
    entra.time += COLD_RETRY_INTERVAL - 1
    with pytest.raises(SigningKeysUnavailable):
        await entra.call()
    assert entra.fetches == 1
    entra.simulator.journal.permits.release()


async def test_a_pause_begins_when_a_fetch_ends(entra: Entra) -> None:
    entra.script(hang=True, status=500)
    call = asyncio.create_task(entra.call())
    journal = entra.simulator.journal
    async with journal.changed:
        await journal.changed.wait_for(lambda: entra.fetches)
    entra.time += COLD_RETRY_INTERVAL
    journal.permits.release()
    for waiting in (call, entra.call()):
        with pytest.raises(SigningKeysUnavailable):
            await waiting
    assert entra.fetches == 1


async def test_a_caller_who_disconnects_does_not_end_the_fetch_of_the_others(entra: Entra) -> None:
    entra.script(hang=True)
    first, second = (asyncio.create_task(entra.call()) for _ in range(2))
    journal = entra.simulator.journal
    async with journal.changed:
        await journal.changed.wait_for(lambda: entra.fetches)
    first.cancel()
    journal.permits.release()
    assert await second
    assert entra.fetches == 1


async def test_only_keys_for_signatures_count() -> None:
    def entry(bits: int = 2048, **fields: str) -> dict[str, object]:
        key = RSAAlgorithm.to_jwk(generate_private_key(65537, bits).public_key(), as_dict=True)
        return {"kty": "RSA", "n": key["n"], "e": key["e"], "use": "sig", "kid": "a"} | fields

    huge = base64url_encode((2**8191 + 1).to_bytes(1024)).decode()
    good = [entry(), entry(kid="d", alg="RS256"), entry(kid="e", x5t="f"), entry(kid="g", d="AQAB", p="AQAB")]
    bad = [
        entry(kid="b", use="enc"),
        entry(1024, kid="c"),
        entry(kid="h", n=huge),
        entry(kid="i", kty="EC"),
        entry(kid="j", e="AQ"),
    ]
    assert set(public_keys(json.dumps({"keys": good + bad}).encode())) == {"a", "d", "e", "g"}
