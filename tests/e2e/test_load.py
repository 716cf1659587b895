"""Test many concurrent calls by counting their results, and look for leaks with a soak test."""

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
REPLY = "one and two and three"
# The soak test: its calls, the calls that warm the app up, its concurrent clients, and the share of calls with a fault.
REQUESTS = 30_000
WARM_UP = 3_000
CLIENTS = 32
FAULT_RATE = 0.05
# The runtime never frees what it keeps of each invocation. The slack is for all other growth.
BYTES_PER_CALL = 1_900
SLACK = 10_000_000


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=110)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as client:
        yield client


async def post(client: aiohttp.ClientSession, url: str, body: Json) -> tuple[int, str]:
    async with client.post(url, json=body, headers=CALLER) as response:
        return response.status, await response.text()


@pytest.mark.parametrize("path", ["/api/chat", CHAT])
async def test_300_slow_calls_are_in_flight_at_once_and_none_fails(
    gateway: Gateway, model: Simulator, client: aiohttp.ClientSession, path: str
) -> None:
    model.script({"hang": True, "times": 300})
    calls = [asyncio.create_task(post(client, gateway.app.url + path, BODY)) for _ in range(300)]
    # The simulator holds its responses back until the test permits them, so all calls are in flight at once.
    journal = await asyncio.to_thread(model.journal, requests=300)
    assert [request.ended for request in journal] == [None] * 300
    model.permit(300)
    assert Counter(status for status, _ in await asyncio.gather(*calls)) == {200: 300}
    assert len(model.journal()) == 300


async def test_1000_slow_streams_are_open_at_once_and_none_fails(
    gateway: Gateway, model: Simulator, client: aiohttp.ClientSession
) -> None:
    model.script({"reply": REPLY, "step": True, "times": 1000})
    body = {**BODY, "stream": True}
    calls = [asyncio.create_task(post(client, gateway.app.url + CHAT, body)) for _ in range(1000)]
    journal = await asyncio.to_thread(model.journal, requests=1000)
    assert [request.ended for request in journal] == [None] * 1000
    model.permit(3000)
    responses = await asyncio.gather(*calls)
    assert Counter(status for status, _ in responses) == {200: 1000}
    assert all(reply_of(text) == REPLY and text.endswith("data: [DONE]\n\n") for _, text in responses)
    state = gateway.wait_for_state(lambda state: not state["calls_in_flight"])
    assert (state["calls_in_flight"], state["connections"], state["cooldowns"]) == (0, 0, [0])


def reply_of(stream: str) -> str:
    events = (line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: {"))
    choices = (choice for event in events for choice in json.loads(event)["choices"])
    return "".join(choice["delta"].get("content") or "" for choice in choices)


FAULTS: list[Json] = [
    {"status": 429, "headers": {"retry-after-ms": "1"}},
    {"status": 500, "headers": {"retry-after-ms": "1"}},
    {"status": 400},
    {"reset": True},
    {"cut": 1, "reply": REPLY},
]


@pytest.mark.timeout(3600)
async def test_30000_calls_leak_nothing(shared_model: Simulator, folder: Path, client: aiohttp.ClientSession) -> None:
    """Send 30,000 calls, one in twenty with a fault, and measure the app's process. The simulator runs in the test's."""
    shared_model.clear()
    statuses: Counter[int] = Counter()
    with gateway_app(folder, PYTHONDEVMODE="") as gateway:
        gateway.configure(shared_model.url)
        await soak(gateway, shared_model, client, WARM_UP, Counter())
        before, memory_before = await wait_until_idle(gateway)
        await soak(gateway, shared_model, client, REQUESTS, statuses)
        after, memory_after = await wait_until_idle(gateway)
    growth = memory_after - memory_before
    print(f"{dict(statuses)}; {growth / 1e6:.1f} MB more, {growth / REQUESTS:.0f} bytes a call; {before} -> {after}")
    assert sum(statuses.values()) == REQUESTS
    assert statuses[200] >= REQUESTS * (1 - 2 * FAULT_RATE)
    assert (after["calls_in_flight"], after["connections"]) == (0, 0)
    assert after["tasks"] <= before["tasks"]
    # Idle connections of the host's and of the clients may still be open. A leak would keep one for each of 1,500 faults.
    assert after["sockets"] <= before["sockets"] + CLIENTS
    assert growth <= BYTES_PER_CALL * REQUESTS + SLACK


async def soak(
    gateway: Gateway, model: Simulator, client: aiohttp.ClientSession, count: int, statuses: "Counter[int]"
) -> None:
    numbers = iter(range(count))
    rng = random.Random(count)

    async def send_calls() -> None:
        for number in numbers:
            if rng.random() < FAULT_RATE:
                await asyncio.to_thread(model.script, rng.choice(FAULTS))
            body = {**BODY, "stream": number % 2 == 0, "max_tokens": number}
            try:
                status, _ = await post(client, gateway.app.url + (CHAT if number % 3 else "/api/chat"), body)
            except aiohttp.ClientPayloadError:
                # A stream that was cut off.
                status = 200
            statuses[status] += 1
            if number % 1000 == 0:
                await asyncio.to_thread(model.clear)

    await asyncio.gather(*(send_calls() for _ in range(CLIENTS)))


async def wait_until_idle(gateway: Gateway) -> tuple[Json, int]:
    """Wait until all idle connections are closed. Return the app's state, and the size of its memory in bytes."""
    await asyncio.sleep(KEEPALIVE_EXPIRY + 5)
    state = gateway.wait_for_state(lambda state: not state["calls_in_flight"])
    return state, resident_set(gateway.app.process.pid)


def resident_set(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
