"""Run the app in a process of its own, as a user would, and control the simulators that it talks to."""

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

PROJECT = Path(__file__).parent.parent.parent
APP_FILES = ("function_app.py", "host.json", "shared", "local")
# Seconds. Long enough for anything that should take a moment, even on a busy machine.
TIMEOUT = 60.0

type Json = dict[str, Any]


def eventually[T](look: Callable[[], T], holds: Callable[[T], object]) -> T:
    """Call `look` until its result satisfies `holds`, and return that result. Fail after `TIMEOUT`."""
    deadline = time.monotonic() + TIMEOUT
    while not holds(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


@dataclass(frozen=True)
class RecordedRequest:
    """Describe a request that a simulator has received, as its journal records it."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    status: int | None
    chunks: int
    ended: float | None
    disconnected: bool
    usage: Json
    parts: list[Json]
    """Those of a form, whose `body` is empty."""

    @property
    def token(self) -> str:
        return self.headers["authorization"].removeprefix("Bearer ")


class Simulator:
    """Control a simulator over HTTP."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx2.Client(base_url=url, timeout=TIMEOUT)

    def script(self, *scripts: Json) -> None:
        """Script the responses to the next requests, one script for each."""
        self.http.post("/control/scripts", json=scripts).raise_for_status()

    def permit(self, chunks: int = 1) -> None:
        """Release one response that hangs, or `chunks` chunks of a stream that waits for permits."""
        self.http.post("/control/next", params={"chunks": chunks}).raise_for_status()

    def journal(self, *, requests: int = 0, ended: int = 0) -> list[RecordedRequest]:
        """Wait until at least `requests` have arrived and `ended` are over, and return all requests so far."""
        entries = self.http.get("/control/journal", params={"requests": requests, "ended": ended}).json()
        return [
            RecordedRequest(
                method=entry["method"],
                path=entry["path"],
                query=entry["query"],
                headers=dict(entry["headers"]),
                body=base64.b64decode(entry["body"]),
                status=entry["status"],
                chunks=entry["chunks"],
                ended=entry["ended"],
                disconnected=entry["disconnected"],
                usage=entry.get("usage") or {},
                parts=entry.get("parts") or [],
            )
            for entry in entries
        ]

    def clear(self) -> None:
        """Discard the journal, and all scripts and permits."""
        self.http.delete("/control/journal").raise_for_status()


class HostProcess:
    """Control a running host: read what it prints, and send it requests."""

    ready_message = "Ctrl-C stops."

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []
        self.printed = threading.Condition()
        self.reader = threading.Thread(target=self.read)
        self.reader.start()
        self.wait_for(self.ready_message)
        url = re.search(r"http://localhost:(\d+)/", self.output)
        assert url, self.output
        self.port = int(url[1])
        # Not localhost, which may resolve to another IP address first.
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx2.Client(base_url=self.url, timeout=TIMEOUT)

    def read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            with self.printed:
                self.lines.append(line)
                self.printed.notify_all()
        with self.printed:
            self.lines.append("(end of output)\n")
            self.printed.notify_all()

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def forget_output(self) -> None:
        with self.printed:
            self.lines.clear()

    def wait_for(self, text: str) -> None:
        """Wait until `text` has been printed. Fail after `TIMEOUT`, or when the process ends without printing it."""
        with self.printed:
            found = self.printed.wait_for(lambda: text in self.output or "(end of output)" in self.output, TIMEOUT)
        assert found, f"{text!r} was not printed in time:\n{self.output}"
        assert text in self.output, self.output

    def wait_for_line(self) -> None:
        """Wait until another line has been printed."""
        with self.printed:
            known = len(self.lines)
            assert self.printed.wait_for(lambda: len(self.lines) > known, TIMEOUT), self.output
            assert "(end of output)" not in self.output, self.output

    def connection(self) -> socket.socket:
        """Open a plain connection, for bytes that an HTTP client would not send."""
        return socket.create_connection(("127.0.0.1", self.port), TIMEOUT)

    def send_raw(
        self, method: str, path: str, body: bytes = b"", *, length: int | None = None, **headers: str
    ) -> socket.socket:
        """Send a request exactly as given, and return its connection. HTTP clients would normalize the path."""
        length = len(body) if length is None else length
        lines = [f"{method} {path} HTTP/1.1", "host: a", "connection: close", f"content-length: {length}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        connection = self.connection()
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        return connection

    def stop(self, number: int = signal.SIGINT) -> int:
        """Stop the process, by default as Ctrl-C does, and return its exit status."""
        self.process.send_signal(number)
        try:
            return self.process.wait(TIMEOUT)
        finally:
            self.process.kill()
            self.reader.join()
            assert self.process.stdout
            self.process.stdout.close()
            self.http.close()


class LocalApp(HostProcess):
    """Control this project's app and its simulators."""

    def __init__(self, process: "subprocess.Popen[str]", model: Simulator | None = None) -> None:
        super().__init__(process)
        self.model = model or self.simulator("Azure OpenAI")
        self.identity = self.simulator("the identity endpoint")

    def simulator(self, name: str) -> Simulator:
        """Return the simulator of `name`. If the app has not started it, nothing listens on its URL."""
        url = re.search(rf"simulator of {name} at (http://[\d.:]+)", self.output)
        return Simulator(url[1] if url else "http://127.0.0.1:9")

    def chat(self, body: Json | bytes, **options: Any) -> httpx2.Response:
        if isinstance(body, dict):
            return self.http.post("/api/chat", json=body, **options)
        return self.http.post("/api/chat", content=body, **options)

    @contextmanager
    def stream_chat(self, **body: Any) -> Iterator[Iterator[str]]:
        """Stream a chat. Yield an iterator over the data of its events, as they arrive."""
        with self.http.stream("POST", "/api/chat", json={"prompt": "Hello", **body, "stream": True}) as response:
            assert response.status_code == 200, response.read()
            assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
            yield (line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: "))

    def stop(self, number: int = signal.SIGINT) -> int:
        try:
            return super().stop(number)
        finally:
            self.model.http.close()
            self.identity.http.close()


def copy_app(folder: Path) -> Path:
    """Copy the app into `folder`, away from the settings files of the developer, and return `folder`."""
    folder.mkdir(exist_ok=True)
    for name in APP_FILES:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


def set_route_prefix(folder: Path, prefix: str) -> None:
    host_json = json.loads((folder / "host.json").read_text())
    host_json["extensions"]["http"]["routePrefix"] = prefix
    (folder / "host.json").write_text(json.dumps(host_json))


def start_local(folder: Path, *options: str, **environ: str) -> "subprocess.Popen[str]":
    """Start `python -m local` in `folder`, with the settings in `environ` and none of the developer's."""
    return subprocess.Popen(
        [sys.executable, "-m", "local", *options],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            # When coverage is measured, measure it in this process too.
            **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_PROCESS")},
            "PYTHONUNBUFFERED": "1",
            "PYTHONDEVMODE": "1",
            "PYTHONWARNINGS": "ignore",
            # Once a year, because the timer's probes would appear in the journals among the requests of the tests.
            "HEALTH_CHECK_SCHEDULE": "0 0 0 1 1 *",
            **environ,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def local_app(
    folder: Path, *options: str, extra_code: str = "", prefix: str | None = None, **environ: str
) -> Iterator[LocalApp]:
    """Run a copy of the app on a free port, with `extra_code` appended to its function_app.py.

    `prefix` replaces the app's route prefix.
    """
    with (copy_app(folder) / "function_app.py").open("a") as file:
        file.write(extra_code)
    if prefix is not None:
        set_route_prefix(folder, prefix)
    app = LocalApp(start_local(folder, "--port", "0", *options, **environ))
    try:
        yield app
    finally:
        status = app.stop()
        assert status == 0, app.output


def settings_for(app: LocalApp) -> dict[str, str]:
    """Return settings that point another app at the simulator of `app`, as if it were in Azure."""
    app.model.clear()
    app.chat({"prompt": "Hello"})
    (request,) = app.model.journal()
    app.model.clear()
    return {
        "AZURE_OPENAI_ENDPOINT": app.model.url,
        "AZURE_OPENAI_KEY": request.headers["api-key"],
        "AZURE_OPENAI_API_VERSION": "2024-10-21",
        "AZURE_OPENAI_CHATGPT_DEPLOYMENT": "chat",
    }
