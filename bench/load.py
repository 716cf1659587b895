"""A load client: so many chats, so many at once, and what they took."""

import asyncio
import json
import statistics
import time
from dataclasses import dataclass

import aiohttp

from bench.processes import Target


@dataclass(frozen=True)
class Case:
    """What is sent: `calls` chats, `at_once` at a time, each asking the upstream for `asked`."""

    name: str
    calls: int
    at_once: int
    asked: str = ""
    prompt: int = 1000
    """The prompt's length in characters."""

    @property
    def streams(self) -> bool:
        return "chunks" in self.asked

    def body(self) -> bytes:
        return json.dumps({"user": self.asked, "stream": self.streams, "prompt": "a" * self.prompt}).encode()


async def run(case: Case, target: Target, share: float = 1.0) -> dict[str, float]:
    """Runs `case` against `target` (a slow one: a `share` of its calls) and returns milliseconds and calls per second."""
    calls = max(int(case.calls * share), case.at_once)
    times: list[float] = []
    firsts: list[float] = []
    body = case.body()
    query = {"user": case.asked} if target.in_query else {}
    left = iter(range(calls))

    async def caller(session: aiohttp.ClientSession) -> None:
        for _ in left:
            started = time.perf_counter()
            async with session.post(target.url, data=body, params=query) as response:
                assert response.status == 200, await response.text()
                await response.content.readany()
                first = time.perf_counter()
                await response.read()
            firsts.append(first - started)
            times.append(time.perf_counter() - started)

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=300)) as session:
        cpu, started = target.cpu_seconds(), time.perf_counter()
        await asyncio.gather(*(caller(session) for _ in range(case.at_once)))
        elapsed, cpu = time.perf_counter() - started, target.cpu_seconds() - cpu
    return {
        "p50_ms": 1000 * statistics.median(times),
        "first_ms": 1000 * statistics.median(firsts),
        "per_second": calls / elapsed,
        "cpu_ms": 1000 * cpu / calls,
        "seconds": elapsed,
    }
