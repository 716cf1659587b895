"""Test that the bench measures what it claims to measure, and leaves no process behind. Its figures are not tested."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bench.load import Case, run
from bench.processes import function_app, program, wait_until_ready
from tests.support.processes import PROJECT, TIMEOUT

pytestmark = pytest.mark.deep

BENCH_THAT_WAITS = """
import signal, sys, time
from pathlib import Path
from bench.processes import program, function_app, wait_until_ready
# In the background of a shell, the tests ignore SIGINT, and their child processes inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
with program("direct", "bench.upstream", "/chat") as upstream:
    wait_until_ready(upstream.url)
    with function_app("this app", None, upstream.url.removesuffix("/chat"), Path(sys.argv[1])) as app:
        wait_until_ready(app.url)
        print(upstream.url, app.url, flush=True)
        time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killing_the_bench_leaves_no_process_behind(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", BENCH_THAT_WAITS, str(tmp_path)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as bench:
        assert bench.stdout
        urls = bench.stdout.readline().split()
        assert len(urls) == 2
        bench.send_signal(number)
        bench.wait(TIMEOUT)
    for url in urls:
        port = int(url.rpartition(":")[2].partition("/")[0])
        # The child processes notice that their parent has exited, and exit too.
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
            except ConnectionRefusedError:
                break
            except ConnectionResetError:
                # The socket was just closing.
                continue


def test_the_upstream_follows_the_options_in_a_request(tmp_path: Path) -> None:
    with program("direct", "bench.upstream", "/chat") as upstream:
        wait_until_ready(upstream.url)
        slow = asyncio.run(run(Case("slow", 20, 10, "latency=0.1"), upstream))
        assert slow["seconds"] >= 0.2
        assert slow["p50_ms"] >= 100
        paced = asyncio.run(run(Case("paced", 4, 4, "chunks=5 pace=0.05"), upstream))
        assert paced["p50_ms"] >= 250
        assert paced["first_ms"] < paced["p50_ms"]
        with function_app("this app", None, upstream.url.removesuffix("/chat"), tmp_path) as app:
            wait_until_ready(app.url)
            result = asyncio.run(run(Case("some", 20, 4), app))
            assert result["cpu_ms"] > 0
            assert app.rss_mib() > 10
            json.dumps(result)
