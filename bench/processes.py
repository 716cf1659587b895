"""Start each target in a process of its own, and read its CPU time and memory from the operating system."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from local.serving import free_port

PROJECT = Path(__file__).parent.parent
# The unit of CPU time in /proc/PID/stat.
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
START_TIMEOUT = 60.0


@dataclass
class Target:
    """Describe a running server that responds to chats, and keep what has been measured of it."""

    name: str
    url: str
    process: "subprocess.Popen[bytes]"
    in_query: bool = False
    """Whether it reads its input from the query string instead of the body."""
    results: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    def cpu_seconds(self) -> float:
        """Return the user and system CPU time of all its threads since its start."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / TICKS_PER_SECOND

    def rss_mib(self) -> float:
        """Return its peak resident memory since its start."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@contextmanager
def running(command: list[str], folder: Path, environ: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `python COMMAND` until the context ends. The process also ends if this one is killed."""
    environ = {"PATH": os.environ["PATH"], **environ}
    # It exits when its standard input closes, and only this process holds the other end.
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.exit_with_parent", *command],
        cwd=folder,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdin
        process.stdin.close()


def wait_until_ready(url: str, in_query: bool = False) -> None:
    """Send chats until one succeeds. Raise TimeoutError if none does in time."""
    started = time.perf_counter()
    while time.perf_counter() - started < START_TIMEOUT:
        try:
            content = b"{}" if in_query else b'{"prompt":"Hello"}'
            if httpx2.post(url, content=content, timeout=START_TIMEOUT).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.005)
    raise TimeoutError(f"{url} did not respond with 200 within {START_TIMEOUT:.0f} s")


def settings(upstream: str) -> dict[str, str]:
    """Return app settings that make an app call `upstream`."""
    return {
        "AZURE_OPENAI_ENDPOINT": upstream,
        "AZURE_OPENAI_KEY": "key-of-the-bench",
        "AZURE_OPENAI_API_VERSION": "2024-10-21",
        "AZURE_OPENAI_CHATGPT_DEPLOYMENT": "bench",
    }


@contextmanager
def function_app(name: str, source: Path | None, upstream: str, folder: Path, **environ: str) -> Iterator[Target]:
    """Run a function app on the local host: this project's, or the one in the file `source`."""
    folder = folder / name
    for part in ("shared", "local", "bench"):
        if not (folder / part).exists():
            shutil.copytree(PROJECT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "host.json", folder)
    shutil.copy(source or PROJECT / "function_app.py", folder / "function_app.py")
    port = free_port()
    environ = {
        **settings(upstream),
        # Log as little as in Azure. The local host, like `func start`, would log more.
        "PYTHON_ENABLE_DEBUG_LOGGING": "0",
        "AzureFunctionsJobHost__logging__logLevel__default": "Warning",
        **environ,
    }
    with running(["-m", "local", "--no-simulator", "--port", str(port)], folder, environ) as process:
        yield Target(name, f"http://127.0.0.1:{port}/api/chat", process, in_query=bool(source and source.stem == "sample"))


@contextmanager
def program(name: str, module: str, path: str, *arguments: str) -> Iterator[Target]:
    """Run a module of this folder that listens on the port in its first argument."""
    port = free_port()
    with running(["-m", module, str(port), *arguments], PROJECT, {}) as process:
        yield Target(name, f"http://127.0.0.1:{port}{path}", process)
