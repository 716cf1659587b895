"""`python docs/scale.py`: how many instances a load needs and what they cost, as the tables of docs/scale.md."""

import argparse
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any

DAY = 86_400
DAYS_A_MONTH = 30


def number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number greater than 0")
    return value


def count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number greater than 0")
    return int(text)


def size(text: str) -> tuple[int, float]:
    memory, _, cores = text.partition("=")
    return count(memory), number(cores)


def given(default: Any, parse: Callable[[str], object], meaning: str) -> Any:
    return field(default=default, metadata={"parse": parse, "meaning": meaning})


@dataclass(frozen=True)
class Measured:
    """Of bench/README.md, on one core."""

    cpu_ms_per_call: float = given(1.58, number, "CPU of a call, at 16 at once")
    cpu_ms_per_stream: float = given(7.5, number, "CPU of a paced stream")
    chunks_measured: int = given(50, count, "chunks of that stream")
    process_mib: int = given(167, count, "memory of the process after 10,000 calls")


@dataclass(frozen=True)
class Plan:
    """Flex Consumption's limits, as Microsoft documents them, and what is ours to choose within them."""

    cores: tuple[tuple[int, float], ...] = given(((512, 0.25), (2048, 1.0), (4096, 2.0)), size, "MB=CORES of each size")
    memory_mb: int = given(2048, count, "the instances' size")
    processes: int = given(1, count, "worker processes of an instance; each can use one core")
    default_instances: int = given(100, count, "limit of an app's instances unless raised")
    quota_cores: float = given(250, number, "cores of a subscription in a region unless raised")
    max_instances: int = given(1000, count, "limit of an app's instances at most")
    concurrency: tuple[int, ...] = given((1, 100), count, "calls at once of an instance; 1 is the platform's default")
    utilisation: float = given(0.7, number, "share of its concurrency and cores that an instance is meant to use")


@dataclass(frozen=True)
class Load:
    """What callers do: an example."""

    calls_a_day: tuple[int, ...] = given((10_000, 1_000_000, 100_000_000), count, "all calls of a day")
    seconds_per_call: float = given(2.0, number, "duration of a call that is not streamed")
    seconds_per_stream: float = given(20.0, number, "duration of a stream")
    chunks_per_stream: int = given(500, count, "chunks of a stream")
    peak: float = given(3.0, number, "the busiest hour against the average")
    tokens_per_call: int = given(1000, count, "tokens of prompt and answer")


@dataclass(frozen=True)
class Prices:
    """Examples, to be replaced by those of one's own region and day."""

    price_per_gb_second: float = given(0.000026, number, "of execution on demand")
    price_per_million_calls: float = given(0.40, number, "of executions on demand")
    price_per_ready_gb_second: float = given(0.000004, number, "of an always-ready instance, idle or not")


@dataclass(frozen=True)
class Inputs(Measured, Plan, Load, Prices):
    """All of them."""

    def usable_cores(self, memory_mb: int) -> float:
        return min(dict(self.cores)[memory_mb], self.processes)

    def kinds(self) -> list[tuple[str, float, float]]:
        """Name, seconds and CPU seconds of each kind of call. A stream is a call, and so much more for each chunk."""
        per_chunk = (self.cpu_ms_per_stream - self.cpu_ms_per_call) / self.chunks_measured
        stream = self.cpu_ms_per_call + per_chunk * self.chunks_per_stream
        return [
            ("call", self.seconds_per_call, self.cpu_ms_per_call / 1000),
            ("stream", self.seconds_per_stream, stream / 1000),
        ]

    def instances(self, calls_a_second: float, seconds: float, cpu: float, concurrency: int) -> int:
        by_calls = calls_a_second * seconds / concurrency
        by_cpu = calls_a_second * cpu / self.usable_cores(self.memory_mb)
        # Without the last digits, in which 3.0 may be 3.0000000000000004.
        return max(1, math.ceil(round(max(by_calls, by_cpu) / self.utilisation, 9)))

    def active_instances(self, calls_a_second: float, seconds: float, cpu: float, concurrency: int) -> float:
        """How many execute at least one call, on average, when calls come by chance and spread evenly."""
        # Less than a second is billed as one.
        in_flight = calls_a_second * max(seconds, 1)
        instances = self.instances(calls_a_second, max(seconds, 1), cpu, concurrency)
        return max(in_flight / concurrency, instances * -math.expm1(-in_flight / instances))

    def with_limit(self, instances: int) -> str:
        """The number, and the highest limit that it exceeds."""
        quota = int(self.quota_cores / dict(self.cores)[self.memory_mb])
        exceeded = [limit for limit in (self.default_instances, quota, self.max_instances) if instances > limit]
        return f"{instances:,} (> {max(exceeded):,})" if exceeded else f"{instances:,}"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def capacities(inputs: Inputs) -> str:
    (_, _, call), (_, seconds, stream) = inputs.kinds()
    rows = []
    for memory, cores in inputs.cores:
        busy = inputs.usable_cores(memory) * inputs.utilisation
        carried = f"{busy / call:,.0f}", f"{busy / stream:,.1f}", f"{busy / stream * seconds:,.0f}"
        rows.append((f"{memory:,}", f"{cores:g}", *carried, f"{memory - inputs.process_mib:,}"))
    return table(("instance, MB", "cores", "calls/s", "streams/s", "streams at once", "MB beside the process"), rows)


def needs(inputs: Inputs) -> str:
    rows = []
    for calls in inputs.calls_a_day:
        peak = calls / DAY * inputs.peak
        for name, seconds, cpu in inputs.kinds():
            counts = [inputs.with_limit(inputs.instances(peak, seconds, cpu, each)) for each in inputs.concurrency]
            peaks = f"{peak:,.2f}", f"{peak * seconds:,.1f}", f"{peak * cpu:,.2f}"
            rows.append((f"{calls:,}", f"{name}, {seconds:g} s", *peaks, *counts))
    head = ("calls a day", "each", "calls/s at peak", "in flight at peak", "cores busy at peak")
    return table((*head, *(f"instances, concurrency {each:,}" for each in inputs.concurrency)), rows)


def costs(inputs: Inputs) -> str:
    rows = []
    for calls in inputs.calls_a_day:
        executions = calls * DAYS_A_MONTH / 1e6 * inputs.price_per_million_calls
        for name, seconds, cpu in inputs.kinds():
            active = (inputs.active_instances(calls / DAY, seconds, cpu, each) for each in inputs.concurrency)
            gb_seconds = [each * DAY * DAYS_A_MONTH * inputs.memory_mb / 1024 for each in active]
            sums = (f"{each * inputs.price_per_gb_second + executions:,.2f}" for each in gb_seconds)
            rows.append((f"{calls:,}", f"{name}, {seconds:g} s", *(f"{each:,.0f}" for each in gb_seconds), *sums))
    head = (f"{what}, concurrency {each:,}" for what in ("GB-s a month", "cost a month") for each in inputs.concurrency)
    return table(("calls a day", "each", *head), rows)


def tokens(inputs: Inputs) -> str:
    minutes = ((calls, calls * inputs.tokens_per_call / 1440) for calls in inputs.calls_a_day)
    rows = ((f"{calls:,}", f"{each:,.0f}", f"{each * inputs.peak:,.0f}") for calls, each in minutes)
    return table(("calls a day", "tokens a minute", "tokens a minute at peak"), rows)


def text(inputs: Inputs) -> str:
    ready = inputs.memory_mb / 1024 * DAY * DAYS_A_MONTH * inputs.price_per_ready_gb_second
    return f"""\
What one instance carries at {inputs.utilisation:.0%} of its CPU; streams are {inputs.chunks_per_stream:,} chunks in \
{inputs.seconds_per_stream:g} s:

{capacities(inputs)}

Instances of {inputs.memory_mb:,} MB, at a peak of {inputs.peak:g} times the average:

{needs(inputs)}

Cost of {DAYS_A_MONTH} days on demand, at the example prices of {inputs.price_per_gb_second:f} per GB-second and \
{inputs.price_per_million_calls:.2f} per million executions:

{costs(inputs)}

An always-ready instance costs {ready:,.2f} a month before it executes anything, also at an example price.

Tokens, at {inputs.tokens_per_call:,} per call:

{tokens(inputs)}"""


def arguments() -> Inputs:
    parser = argparse.ArgumentParser(prog="python docs/scale.py", usage="%(prog)s [options]", description=__doc__)
    for part in (Measured, Plan, Load, Prices):
        group = parser.add_argument_group(part.__name__.lower(), part.__doc__)
        for each in fields(part):
            name, several = each.name.replace("_", "-"), "+" if isinstance(each.default, tuple) else None
            note = f"{each.metadata['meaning']} (default %(default)s)"
            group.add_argument(
                f"--{name}", type=each.metadata["parse"], default=each.default, nargs=several, metavar="N", help=note
            )
    options: dict[str, Any] = {}
    for key, value in vars(parser.parse_args()).items():
        options[key] = tuple(value) if isinstance(value, list) else value
    inputs = Inputs(**options)
    for contradiction, message in (
        (inputs.utilisation > 1, "--utilisation: more than 1"),
        (inputs.peak < 1, "--peak: less than 1, but a peak is no less than the average"),
        (inputs.memory_mb not in dict(inputs.cores), f"--memory-mb: --cores names no size of {inputs.memory_mb} MB"),
        (inputs.cpu_ms_per_stream < inputs.cpu_ms_per_call, "--cpu-ms-per-stream: less than --cpu-ms-per-call"),
    ):
        if contradiction:
            parser.error(f"argument {message}")
    return inputs


if __name__ == "__main__":
    print(text(arguments()))
