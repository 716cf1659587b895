"""Print the tables of docs/scale.md: the instances and the model capacity that a load needs at its peak."""

import argparse
import math
from dataclasses import dataclass

# Measured CPU time. A call: host and worker, on the real host. A chunk: bench/README.md, a paced stream of 50 less a call.
MS_A_CALL, MS_A_CHUNK = 4.0, (7.5 - 1.58) / 50
# Assumed: how fast a model streams, and the share of its concurrency and its CPU that an instance is planned to use.
CHUNKS_A_SECOND, HEADROOM = 25, 0.7
# Documented: the cores of an instance of 2,048 MB, and what a unit of capacity of the mini models admits in a minute.
CORES, REQUESTS_A_UNIT, TOKENS_A_UNIT = 1, 1, 1000


@dataclass(frozen=True)
class Load:
    """Calls of one kind. The tokens of each are its prompt and the output it asks for at most."""

    calls_a_day: float
    seconds: float
    tokens: float
    streamed: bool = False
    peak: float = 3

    @property
    def calls_a_second(self) -> float:
        return self.calls_a_day / 86_400 * self.peak

    @property
    def cpu_seconds(self) -> float:
        return (MS_A_CALL + self.streamed * self.seconds * CHUNKS_A_SECOND * MS_A_CHUNK) / 1000


def ceil(value: float) -> int:
    """Return the next whole number, at least 1; 3.0000000000000004 is still 3."""
    return max(1, math.ceil(round(value, 6)))


def instances(load: Load, concurrency: int = 100) -> dict[str, float]:
    in_flight = load.calls_a_second * load.seconds
    return {
        "calls/s at peak": round(load.calls_a_second, 2),
        "in flight at peak": round(in_flight, 1),
        "instances by concurrency 1": ceil(in_flight / HEADROOM),
        f"by concurrency {concurrency}": ceil(in_flight / (concurrency * HEADROOM)),
        "by CPU": ceil(load.calls_a_second * load.cpu_seconds / (CORES * HEADROOM)),
    }


def capacity(load: Load) -> dict[str, float]:
    requests, tokens = load.calls_a_second * 60, load.calls_a_second * 60 * load.tokens
    units = ceil(max(requests / REQUESTS_A_UNIT, tokens / TOKENS_A_UNIT))
    return {"requests/min at peak": round(requests), "tokens/min at peak": round(tokens), "units of capacity": units}


def table(loads: list[Load], rows: list[dict[str, float]]) -> str:
    lines = [f"| calls a day | each | {' | '.join(rows[0])} |", "| --- " * (len(rows[0]) + 2) + "|"]
    for load, row in zip(loads, rows, strict=True):
        each = f"{'stream' if load.streamed else 'call'}, {load.seconds:g} s, {load.tokens:,.0f} tokens"
        lines.append(f"| {load.calls_a_day:,.0f} | {each} | {' | '.join(f'{cell:,}' for cell in row.values())} |")
    return "\n".join(lines)


def text(arguments: list[str] | None = None) -> str:
    """Return the tables for these options, by default for those of the command line."""
    parser = argparse.ArgumentParser(prog="python docs/scale.py", description=__doc__)
    parser.add_argument("--calls-a-day", type=float, nargs="+", default=[1e4, 1e6, 1e8], metavar="N")
    parser.add_argument("--seconds", type=float, nargs=2, default=[2, 20], metavar=("CALL", "STREAM"), help="of each")
    tokens = "of each: its prompt and the output it asks for at most"
    parser.add_argument("--tokens", type=float, nargs=2, default=[500, 2000], metavar=("CALL", "STREAM"), help=tokens)
    parser.add_argument("--peak", type=float, default=Load.peak, help="times the average")
    parser.add_argument("--concurrency", type=int, default=100, help="concurrent calls per instance")
    given = parser.parse_args(arguments)
    kinds = list(zip(given.seconds, given.tokens, (False, True), strict=True))
    loads = [Load(calls, *kind, given.peak) for calls in given.calls_a_day for kind in kinds]
    both = [instances(load, given.concurrency) for load in loads], [capacity(load) for load in loads]
    return "\n\n".join(table(loads, rows) for rows in both)


if __name__ == "__main__":
    print(text())
