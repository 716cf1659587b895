"""Runs the app as a user would, in a process of its own, and controls the simulators it talks to."""

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
# Seconds for anything that should take a moment, on a machine that is busy with other things.
PATIENCE = 60.0

type Json = dict[str, Any]


def eventually[T](look: Callable[[], T], holds: Callable[[T], object]) -> T:
    """What `look` finds, as soon as it `holds`."""
    ends = time.monotonic() + PATIENCE
    while not holds(found := look()):
        assert time.monotonic() < ends, found
        time.sleep(0.02)
    return found


@dataclass(frozen=True)
class Seen:
    """A request, as a simulator's journal records it."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    status: int | None
    chunks: int
    ended: float | None
    disconnected: bool
    usage: Json

    @property
    def token(self) -> str:
        return self.headers["authorization"].removeprefix("Bearer ")


class Simulator:
    """Control a simulator over HTTP."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx2.Client(base_url=url, timeout=PATIENCE)

    def script(self, *scripts: Json) -> None:
        """Says what the next requests get, one script for each."""
        self.http.post("/control/scripts", json=scripts).raise_for_status()

    def permit(self, chunks: int = 1) -> None:
        self.http.post("/control/next", params={"chunks": chunks}).raise_for_status()

    def journal(self, *, requests: int = 0, ended: int = 0) -> list[Seen]:
        """What has come so far, as soon as at least `requests` have come and `ended` are over."""
        entries = self.http.get("/control/journal", params={"requests": requests, "ended": ended}).json()
        return [
            Seen(
                path=entry["path"],
                query=entry["query"],
                headers=dict(entry["headers"]),
                body=base64.b64decode(entry["body"]),
                status=entry["status"],
                chunks=entry["chunks"],
                ended=entry["ended"],
                disconnected=entry["disconnected"],
                usage=entry.get("usage") or {},
            )
            for entry in entries
        ]

    def clear(self) -> None:
        self.http.delete("/control/journal").raise_for_status()


class Running:
    """A running host: what it prints, and a client for its address."""

    started = "Ctrl-C stops."

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []
        self.printed = threading.Condition()
        self.reader = threading.Thread(target=self.read)
        self.reader.start()
        self.wait_for(self.started)
        url = re.search(r"http://localhost:(\d+)/", self.output)
        assert url, self.output
        self.port = int(url[1])
        # Not localhost: resolving it may try another address first.
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx2.Client(base_url=self.url, timeout=PATIENCE)

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

    def wait_for(self, text: str) -> None:
        """Waits until `text` has been printed; fails when the process ends without it."""
        with self.printed:
            found = self.printed.wait_for(lambda: text in self.output or "(end of output)" in self.output, PATIENCE)
        assert found, f"{text!r} was not printed in time:\n{self.output}"
        assert text in self.output, self.output

    def wait_for_more(self) -> None:
        """Waits until another line has been printed."""
        with self.printed:
            seen = len(self.lines)
            assert self.printed.wait_for(lambda: len(self.lines) > seen, PATIENCE), self.output
            assert "(end of output)" not in self.output, self.output

    def connection(self) -> socket.socket:
        """A plain connection to it, for what an HTTP client would not send."""
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE)

    def sent(self, method: str, path: str, body: bytes = b"", *, length: int | None = None, **headers: str) -> socket.socket:
        """A connection on which a request has been sent as it stands here; HTTP clients tidy up paths."""
        length = len(body) if length is None else length
        lines = [f"{method} {path} HTTP/1.1", "host: a", "connection: close", f"content-length: {length}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        connection = self.connection()
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        return connection

    def stop(self, number: int = signal.SIGINT) -> int:
        """Ends the process as Ctrl-C does; returns its exit status."""
        self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.reader.join()
            assert self.process.stdout
            self.process.stdout.close()
            self.http.close()


class LocalApp(Running):
    """This project's app."""

    def __init__(self, process: "subprocess.Popen[str]", model: Simulator | None = None) -> None:
        super().__init__(process)
        self.model = model or self.simulator("Azure OpenAI")
        self.identity = self.simulator("the identity endpoint")

    def simulator(self, name: str) -> Simulator:
        url = re.search(rf"simulator of {name} at (http://[\d.:]+)", self.output)
        return Simulator(url[1] if url else "http://127.0.0.1:9")

    def chat(self, body: Json | bytes, **options: Any) -> httpx2.Response:
        if isinstance(body, dict):
            return self.http.post("/api/chat", json=body, **options)
        return self.http.post("/api/chat", content=body, **options)

    @contextmanager
    def streamed(self, **body: Any) -> Iterator[Iterator[str]]:
        """A streamed chat: the data of its events, as they come."""
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


def app_folder(folder: Path) -> Path:
    """A copy of the app, so that settings files of whoever runs the tests are not in the way."""
    folder.mkdir(exist_ok=True)
    for name in APP_FILES:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


def set_prefix(folder: Path, prefix: str) -> None:
    host_json = json.loads((folder / "host.json").read_text())
    host_json["extensions"]["http"]["routePrefix"] = prefix
    (folder / "host.json").write_text(json.dumps(host_json))


def start_local(folder: Path, *options: str, **environ: str) -> "subprocess.Popen[str]":
    """Starts `python -m local` in `folder` with nothing in its environment but `environ`."""
    return subprocess.Popen(
        [sys.executable, "-m", "local", *options],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            # Where coverage is measured, here too.
            **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_PROCESS")},
            "PYTHONUNBUFFERED": "1",
            "PYTHONDEVMODE": "1",
            "PYTHONWARNINGS": "ignore",
            # Not every five minutes: its probe would stand in journals among what tests have caused.
            "HEALTH_CHECK_SCHEDULE": "0 0 0 1 1 *",
            **environ,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def local_app(folder: Path, *options: str, more: str = "", prefix: str | None = None, **environ: str) -> Iterator[LocalApp]:
    """A running app in a copy of its own, on a free port; `more` is appended to its function_app.py.

    `prefix` is another route prefix than the app's own.
    """
    with (app_folder(folder) / "function_app.py").open("a") as file:
        file.write(more)
    if prefix is not None:
        set_prefix(folder, prefix)
    app = LocalApp(start_local(folder, "--port", "0", *options, **environ))
    try:
        yield app
    finally:
        status = app.stop()
        assert status == 0, app.output


def settings_for(app: LocalApp) -> dict[str, str]:
    """Settings that lead another app to the simulator of `app`, as if it were in Azure."""
    app.model.clear()
    app.chat({"prompt": "Hello"})
    (seen,) = app.model.journal()
    app.model.clear()
    return {
        "AZURE_OPENAI_ENDPOINT": app.model.url,
        "AZURE_OPENAI_KEY": seen.headers["api-key"],
        "AZURE_OPENAI_API_VERSION": "2024-10-21",
        "AZURE_OPENAI_CHATGPT_DEPLOYMENT": "gpt-4o-mini",
    }
