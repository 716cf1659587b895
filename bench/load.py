"""Load a target with chats, and measure its speed and CPU time."""

import asyncio
import json
import statistics
import time
from dataclasses import dataclass

import aiohttp

from bench.processes import Target

# What the chunks of all targets contain.
OUTPUT = b" chunk"


@dataclass(frozen=True)
class Case:
    """Describe a load: `calls` chats, `concurrency` of them at a time."""

    name: str
    calls: int
    concurrency: int
    options: str = ""
    """How the upstream should respond; see bench/upstream.py."""
    prompt_length: int = 1000
    """In characters."""

    @property
    def streams(self) -> bool:
        return "chunks" in self.options

    def body(self) -> bytes:
        return json.dumps({"user": self.options, "stream": self.streams, "prompt": "a" * self.prompt_length}).encode()


async def run(case: Case, target: Target, share: float = 1.0) -> dict[str, float]:
    """Run `case` against `target` with a `share` of its calls. Return medians and totals; the keys name their units."""
    calls = max(int(case.calls * share), case.concurrency)
    totals: list[float] = []
    firsts: list[float] = []
    body = case.body()
    query = {"user": case.options} if target.in_query else {}
    remaining = iter(range(calls))

    async def send_calls(session: aiohttp.ClientSession) -> None:
        for _ in remaining:
            started = time.perf_counter()
            async with session.post(target.url, data=body, params=query) as response:
                assert response.status == 200, await response.text()
                received = await response.content.readany()
                while case.streams and OUTPUT not in received and not response.content.at_eof():
                    received = await response.content.readany()
                first = time.perf_counter()
                await response.read()
            firsts.append(first - started)
            totals.append(time.perf_counter() - started)

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=300)) as session:
        cpu, started = target.cpu_seconds(), time.perf_counter()
        await asyncio.gather(*(send_calls(session) for _ in range(case.concurrency)))
        elapsed, cpu = time.perf_counter() - started, target.cpu_seconds() - cpu
    return {
        "p50_ms": 1000 * statistics.median(totals),
        "first_ms": 1000 * statistics.median(firsts),
        "per_second": calls / elapsed,
        "cpu_ms": 1000 * cpu / calls,
        "seconds": elapsed,
    }
