"""Measure the app against its baselines: `python -m bench` prints tables, and writes all figures to bench/results.json."""

import asyncio
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import httpx2

from bench.load import Case, run
from bench.processes import PROJECT, Target, function_app, program, settings, wait_until_ready

ROUNDS = 5
TARGETS = Path(__file__).parent / "targets"
RESULTS = Path(__file__).parent / "results.json"

AT_1, AT_16, AT_64 = Case("1 at a time", 300, 1), Case("16 at a time", 480, 16), Case("64 at a time", 640, 64)
STREAM = Case("stream of 50, 16 at a time", 96, 16, "chunks=50")
PACED = Case("stream of 50, paced 20 ms, 32 at a time", 64, 32, "chunks=50 pace=0.02")
LARGE = Case("1 MB prompt, 1 at a time", 30, 1, prompt_length=1_000_000)
SLOW = Case("300 calls of 1 s at once", 300, 300, "latency=1")
SOAK = Case("10,000 calls", 10_000, 16)
SHORT_STREAMS = Case("streams of 100", 100, 1, "chunks=100")
LONG_STREAM = Case("a stream of 10,000", 1, 1, "chunks=10000")
EACH_ROUND = (AT_1, AT_16, AT_64, STREAM, PACED, LARGE)
# The share of the calls that slow targets get.
SHARES = {"client per request": 0.12, "shared client": 0.4}
COLD_STARTS = 3
IMPORT_RUNS = 7
SLOW_RUNS = 3
IMPORTS = {
    "function_app": "import function_app",
    "function_app, and a first call": "from bench.first_call import call; call()",
    "its three packages": "import azure.functions, azurefunctions.extensions.http.fastapi, openai",
}


class Bench:
    """Hold the targets, each in its own process, and the figures."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.stack = stack
        self.folder = folder
        self.upstream = stack.enter_context(program("direct", "bench.upstream", "/chat"))
        self.origin = self.upstream.url.removesuffix("/chat")
        wait_until_ready(self.upstream.url)
        self.targets = [self.upstream]
        self.once: dict[str, dict[str, float]] = {}
        """Figures that belong to no case, by label and target."""

    def start(self) -> None:
        """Start the targets. Start the function apps several times in turn, to measure their cold starts."""
        cold_starts: dict[str, list[float]] = {}
        for last in [False] * (COLD_STARTS - 1) + [True]:
            for name, source, environ in (
                ("bare runtime", TARGETS / "bare.py", {}),
                ("this app", None, {}),
                ("shared client", TARGETS / "sample.py", {"SHARED": "1"}),
                ("client per request", TARGETS / "sample.py", {}),
            ):
                with ExitStack() as stack:
                    started = time.perf_counter()
                    target = stack.enter_context(function_app(name, source, self.origin, self.folder, **environ))
                    wait_until_ready(target.url, target.in_query)
                    cold_starts.setdefault(name, []).append(time.perf_counter() - started)
                    if last:
                        self.stack.push(stack.pop_all())
                        self.targets.append(target)
        passthrough = program("pass-through", "bench.targets.passthrough", "/api/chat", self.origin)
        self.targets.insert(1, self.stack.enter_context(passthrough))
        wait_until_ready(self.targets[1].url)
        app = next(target for target in self.targets if target.name == "this app")
        v1 = Target("this app, /v1", app.url.replace("chat", "v1/chat/completions"), app.process)
        self.targets.insert(self.targets.index(app) + 1, v1)
        self.once["cold start, s"] = {name: statistics.median(values) for name, values in cold_starts.items()}

    def round(self) -> None:
        """Run each case once on each target, one target after another, so that noise affects all of them alike."""
        for case in EACH_ROUND:
            for target in self.targets:
                if target.in_query and case is LARGE:
                    continue
                result = asyncio.run(run(case, target, SHARES.get(target.name, 1)))
                target.results.setdefault(case.name, []).append(result)

    def run_slow_cases(self) -> None:
        """Run the cases that take long, and at last the one that raises the targets' memory."""
        for _ in range(SLOW_RUNS):
            for target in self.targets:
                httpx2.get(f"{self.origin}/peak")
                result = asyncio.run(run(SLOW, target))
                result["in_flight"] = httpx2.get(f"{self.origin}/peak").json()["peak"]
                target.results.setdefault(SLOW.name, []).append(result)
        for target in self.targets:
            if target.name in ("bare runtime", "this app", "this app, /v1"):
                for case in (SHORT_STREAMS, LONG_STREAM) * SLOW_RUNS:
                    target.results.setdefault(case.name, []).append(asyncio.run(run(case, target)))
        for target in self.targets:
            if target.name in ("pass-through", "bare runtime", "this app"):
                before = target.rss_mib()
                target.results[SOAK.name] = [asyncio.run(run(SOAK, target))]
                self.once.setdefault("RSS before 10,000 calls, MiB", {})[target.name] = before
                self.once.setdefault("RSS after 10,000 calls, MiB", {})[target.name] = target.rss_mib()

    def measure_imports(self) -> None:
        """Measure the imports in fresh interpreters, in turn."""
        for cached in (True, False):
            seconds: dict[str, list[float]] = {}
            for _ in range(IMPORT_RUNS if cached else 2):
                for name, statement in IMPORTS.items():
                    seconds.setdefault(name, []).append(import_seconds(statement, cached, self.origin))
            for name, values in seconds.items():
                label = f"import of {name}, {'with' if cached else 'without'} bytecode, s"
                self.once[label] = {"this app": min(values)}


def import_seconds(statement: str, cached: bool, origin: str) -> float:
    """Return the CPU seconds that `statement` takes in a fresh interpreter, with or without cached bytecode."""
    code = f"import time; before = time.process_time(); {statement}; print(time.process_time() - before)"
    with tempfile.TemporaryDirectory() as empty:
        environ = settings(origin) | ({} if cached else {"PYTHONPYCACHEPREFIX": empty, "PYTHONDONTWRITEBYTECODE": "1"})
        command = [sys.executable, "-c", code]
        process = subprocess.run(command, cwd=PROJECT, env=environ, capture_output=True, text=True, check=True)
    return float(process.stdout)


def median(target: Target, case: Case, figure: str) -> float:
    """Return the median of one of the figures that `run` returns, NaN if the target has not run the case."""
    if case.name not in target.results:
        return float("nan")
    return statistics.median(result[figure] for result in target.results[case.name])


COLUMNS = (
    ("calls/s at 16", AT_16, "per_second", "{:,.0f}"),
    ("CPU ms per call at 1", AT_1, "cpu_ms", "{:.2f}"),
    ("at 16", AT_16, "cpu_ms", "{:.2f}"),
    ("at 64", AT_64, "cpu_ms", "{:.2f}"),
    ("CPU ms per stream", STREAM, "cpu_ms", "{:.1f}"),
    ("per paced stream", PACED, "cpu_ms", "{:.1f}"),
    ("first chunk of a paced stream, ms", PACED, "first_ms", "{:.0f}"),
    ("1 MB prompt, CPU ms", LARGE, "cpu_ms", "{:.1f}"),
    ("300 calls of 1 s, s", SLOW, "seconds", "{:.2f}"),
)


def tables(bench: Bench) -> str:
    """Return the results as Markdown."""
    head = ["", "p50 ms", *(name for name, *_ in COLUMNS)]
    rows = [head, ["---"] * len(head)]
    for target in bench.targets:
        cells = [format_number(median(target, case, figure), form) for _, case, figure, form in COLUMNS]
        rows.append([target.name, format_number(median(target, AT_1, "p50_ms"), "{:.2f}"), *cells])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    names = [target.name for target in bench.targets if target.name != "direct"]
    lines += ["", "| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for label, values in bench.once.items():
        lines.append(f"| {label} | " + " | ".join(f"{values[name]:.2f}" if name in values else "" for name in names) + " |")
    return "\n".join([*lines, "", *ratios(bench), ""])


def format_number(value: float, form: str) -> str:
    """Return `value` in this format, an empty string for NaN."""
    return "" if math.isnan(value) else form.format(value)


def ratio(target: Target, base: Target, case: Case, figure: str) -> float:
    """Return the median of the ratios in each round, since noise in a round affects both targets."""
    pairs = zip(target.results[case.name], base.results[case.name], strict=True)
    return statistics.median(one[figure] / other[figure] for one, other in pairs)


def ratios(bench: Bench) -> list[str]:
    """Return figures to compare between runs and between machines, as a Markdown list."""
    by_name = {target.name: target for target in bench.targets}
    app, v1, bare = by_name["this app"], by_name["this app, /v1"], by_name["bare runtime"]
    lines = [
        f"- calls/s at 16, this app to {name}: {ratio(app, by_name[name], AT_16, 'per_second'):.2f}"
        for name in ("bare runtime", "shared client", "client per request", "pass-through")
    ]
    for case in (AT_1, AT_16, AT_64, STREAM, PACED):
        for target in (app, v1):
            above = median(target, case, "cpu_ms") - median(bare, case, "cpu_ms")
            share = ratio(target, bare, case, "cpu_ms")
            lines.append(f"- CPU, {case.name}, {target.name} to bare runtime: {share:.2f} ({above:.2f} ms above it)")
    for target in (app, v1, bare):
        short, long = median(target, SHORT_STREAMS, "cpu_ms") * 10, median(target, LONG_STREAM, "cpu_ms") / 10
        per_chunk = f"{long:.0f} µs in {LONG_STREAM.name}, {short:.0f} in {SHORT_STREAMS.name}"
        lines.append(f"- CPU per chunk, {target.name}: {per_chunk}")
    more = median(app, LARGE, "cpu_ms") - median(app, AT_1, "cpu_ms")
    lines.append(f"- CPU, 1 MB prompt to 1 KB prompt: {ratio_of_cases(app, LARGE, AT_1):.2f} ({more:.1f} ms more)")
    lines.append(f"- first chunk of a paced stream, this app to bare runtime: {ratio(app, bare, PACED, 'first_ms'):.2f}")
    sample = ratio(by_name["client per request"], bare, SLOW, "seconds")
    lines.append(f"- {SLOW.name}, client per request to bare runtime: {sample:.2f}")
    in_flight = f"{median(app, SLOW, 'in_flight'):.0f} in flight upstream"
    lines.append(f"- {SLOW.name}, this app to bare runtime: {ratio(app, bare, SLOW, 'seconds'):.2f} ({in_flight})")
    imports = [bench.once[f"import of {name}, with bytecode, s"]["this app"] for name in IMPORTS]
    lines.append(f"- import of function_app to its three packages: {imports[0] / imports[2]:.2f}")
    lines.append(f"- the same with a first call: {imports[1] / imports[2]:.2f}")
    return lines


def ratio_of_cases(target: Target, case: Case, base: Case) -> float:
    pairs = zip(target.results[case.name], target.results[base.name], strict=True)
    return statistics.median(one["cpu_ms"] / other["cpu_ms"] for one, other in pairs)


def main() -> None:
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        bench = Bench(stack, Path(folder))
        bench.start()
        for number in range(ROUNDS):
            elapsed = time.perf_counter() - started
            print(f"round {number + 1} of {ROUNDS}, after {elapsed:.0f} s", file=sys.stderr, flush=True)
            bench.round()
        bench.run_slow_cases()
        bench.measure_imports()
    RESULTS.write_text(json.dumps({"once": bench.once, "cases": {t.name: t.results for t in bench.targets}}, indent=1))
    print(tables(bench))
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
