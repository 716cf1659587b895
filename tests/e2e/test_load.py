"""Many concurrent calls, counted and not timed, and a soak test."""

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from shared.upstream.transport import KEEPALIVE_EXPIRY
from tests.support.gateway_calls import CALLER, CHAT
from tests.support.processes import Json, Simulator
from tests.support.upstreams import Gateway, gateway_app

pytestmark = [pytest.mark.anyio, pytest.mark.deep]

BODY: Json = {"messages": [{"role": "user", "content": "Hello"}]}
PIECES = "one and two and three"
# Of the soak.
REQUESTS = 30_000
WARM_UP = 3_000
AT_ONCE = 32
FAULTS = 0.05
# What the runtime itself keeps of every invocation, for ever, and what else may come to it.
BYTES_PER_CALL = 1_900
SLACK = 10_000_000


@pytest.fixture
async def callers() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=110)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        yield session


async def post(callers: aiohttp.ClientSession, url: str, body: Json) -> tuple[int, str]:
    async with callers.post(url, json=body, headers=CALLER) as response:
        return response.status, await response.text()


@pytest.mark.parametrize("path", ["/api/chat", CHAT])
async def test_300_slow_calls_are_in_flight_at_once_and_none_fails(
    gateway: Gateway, model: Simulator, callers: aiohttp.ClientSession, path: str
) -> None:
    model.script({"hang": True, "times": 300})
    calls = [asyncio.create_task(post(callers, gateway.app.url + path, BODY)) for _ in range(300)]
    # None is answered before all have come, so all of them are there together.
    journal = await asyncio.to_thread(model.journal, requests=300)
    assert [seen.ended for seen in journal] == [None] * 300
    model.permit(300)
    assert Counter(status for status, _ in await asyncio.gather(*calls)) == {200: 300}
    assert len(model.journal()) == 300


async def test_1000_slow_streams_are_open_at_once_and_none_fails(
    gateway: Gateway, model: Simulator, callers: aiohttp.ClientSession
) -> None:
    model.script({"reply": PIECES, "step": True, "times": 1000})
    body = {**BODY, "stream": True}
    calls = [asyncio.create_task(post(callers, gateway.app.url + CHAT, body)) for _ in range(1000)]
    journal = await asyncio.to_thread(model.journal, requests=1000)
    assert [seen.ended for seen in journal] == [None] * 1000
    model.permit(3000)
    answers = await asyncio.gather(*calls)
    assert Counter(status for status, _ in answers) == {200: 1000}
    assert all(pieces_of(text) == PIECES and text.endswith("data: [DONE]\n\n") for _, text in answers)
    state = gateway.wait_for_state(lambda state: not state["calls_in_flight"])
    assert (state["calls_in_flight"], state["connections"], state["cooldowns"]) == (0, 0, [0])


def pieces_of(stream: str) -> str:
    events = (line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: {"))
    choices = (choice for event in events for choice in json.loads(event)["choices"])
    return "".join(choice["delta"].get("content") or "" for choice in choices)


TROUBLES: list[Json] = [
    {"status": 429, "headers": {"retry-after-ms": "1"}},
    {"status": 500, "headers": {"retry-after-ms": "1"}},
    {"status": 400},
    {"reset": True},
    {"cut": 1, "reply": PIECES},
]


@pytest.mark.timeout(3600)
async def test_a_soak_leaves_nothing_behind(shared_model: Simulator, folder: Path, callers: aiohttp.ClientSession) -> None:
    """30,000 calls, one in twenty in trouble. The endpoint is in this process, so that the app's memory is its own."""
    shared_model.clear()
    statuses: Counter[int] = Counter()
    with gateway_app(folder, PYTHONDEVMODE="") as gateway:
        gateway.configure(shared_model.url)
        await soak(gateway, shared_model, callers, WARM_UP, Counter())
        before, memory = await at_rest(gateway)
        await soak(gateway, shared_model, callers, REQUESTS, statuses)
        after, grown = await at_rest(gateway)
    growth = grown - memory
    print(f"{dict(statuses)}; {growth / 1e6:.1f} MB more, {growth / REQUESTS:.0f} bytes a call; {before} -> {after}")
    assert sum(statuses.values()) == REQUESTS
    assert statuses[200] >= REQUESTS * (1 - 2 * FAULTS)
    assert (after["calls_in_flight"], after["connections"]) == (0, 0)
    assert after["tasks"] <= before["tasks"]
    assert after["sockets"] <= before["sockets"]
    assert growth <= BYTES_PER_CALL * REQUESTS + SLACK


async def soak(
    gateway: Gateway, model: Simulator, callers: aiohttp.ClientSession, count: int, statuses: "Counter[int]"
) -> None:
    numbers = iter(range(count))
    choose = random.Random(count)

    async def caller() -> None:
        for number in numbers:
            if choose.random() < FAULTS:
                await asyncio.to_thread(model.script, choose.choice(TROUBLES))
            body = {**BODY, "stream": number % 2 == 0, "max_tokens": number}
            status, _ = await post(callers, gateway.app.url + (CHAT if number % 3 else "/api/chat"), body)
            statuses[status] += 1
            if number % 1000 == 0:
                await asyncio.to_thread(model.clear)

    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))


async def at_rest(gateway: Gateway) -> tuple[Json, int]:
    """The app's state and the bytes of its memory, once all idle connections are gone."""
    await asyncio.sleep(KEEPALIVE_EXPIRY + 5)
    state = gateway.wait_for_state(lambda state: not state["calls_in_flight"])
    return state, resident_set(gateway.app.process.pid)


def resident_set(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
