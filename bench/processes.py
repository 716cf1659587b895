"""Starts what is measured, each in a process of its own, and reads what the system charged it with."""

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
TICKS = os.sysconf("SC_CLK_TCK")
PATIENCE = 60.0


@dataclass
class Target:
    """Something that answers chats: where, in which process, and how its input is passed."""

    name: str
    url: str
    process: "subprocess.Popen[bytes]"
    in_query: bool = False
    """Whether it takes its input from the query string."""
    results: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    def cpu_seconds(self) -> float:
        """CPU time of all its threads so far, user and system."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / TICKS

    def rss_mib(self) -> float:
        """The most memory it has held so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@contextmanager
def running(command: list[str], folder: Path, environ: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is gone when the context ends, and when this one is killed."""
    environ = {"PATH": os.environ["PATH"], **environ}
    # The leash ends it when its standard input, whose other end this process holds, is closed.
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.leash", *command],
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


def wait_until_it_answers(url: str, in_query: bool = False) -> None:
    """Sends chats until one is answered."""
    started = time.perf_counter()
    while time.perf_counter() - started < PATIENCE:
        try:
            content = b"{}" if in_query else b'{"prompt":"Hello"}'
            if httpx2.post(url, content=content, timeout=PATIENCE).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.005)
    raise TimeoutError(url)


def settings(upstream: str) -> dict[str, str]:
    """What leads an app to `upstream`."""
    return {
        "AZURE_OPENAI_ENDPOINT": upstream,
        "AZURE_OPENAI_KEY": "key-of-the-bench",
        "AZURE_OPENAI_API_VERSION": "2024-10-21",
        "AZURE_OPENAI_CHATGPT_DEPLOYMENT": "bench",
    }


@contextmanager
def function_app(name: str, source: Path | None, upstream: str, folder: Path, **environ: str) -> Iterator[Target]:
    """This project's app, or with `source` another one, on the local host."""
    folder = folder / name
    for part in ("shared", "local", "bench"):
        if not (folder / part).exists():
            shutil.copytree(PROJECT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "host.json", folder)
    shutil.copy(source or PROJECT / "function_app.py", folder / "function_app.py")
    port = free_port()
    environ = {
        **settings(upstream),
        # What Azure has, and `func start` has not.
        "PYTHON_ENABLE_DEBUG_LOGGING": "0",
        "AzureFunctionsJobHost__logging__logLevel__default": "Warning",
        **environ,
    }
    with running(["-m", "local", "--no-simulator", "--port", str(port)], folder, environ) as process:
        yield Target(name, f"http://127.0.0.1:{port}/api/chat", process, in_query=bool(source and source.stem == "sample"))


@contextmanager
def program(name: str, module: str, path: str, *arguments: str) -> Iterator[Target]:
    """A program of this folder that listens on a port."""
    port = free_port()
    with running(["-m", module, str(port), *arguments], PROJECT, {}) as process:
        yield Target(name, f"http://127.0.0.1:{port}{path}", process)
