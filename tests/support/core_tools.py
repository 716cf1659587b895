"""Runs the app under `func start`, where Core Tools are."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import LocalApp, app_folder, local_app, settings_for

CORE_TOOLS = shutil.which("func")


class CoreToolsApp(LocalApp):
    """This project's app under `func start`, with the simulator of another app."""

    started = "For detailed output, run func with --verbose flag."


@contextmanager
def core_tools_app(folder: Path, **environ: str) -> Iterator[LocalApp]:
    """The app under `func start`, on a free port, with the simulator that belongs to another app."""
    with local_app(folder / "simulator", **environ) as other, socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
        probe.close()
        process = subprocess.Popen(
            ["func", "start", "--port", port],
            cwd=app_folder(folder / "app"),
            env={**os.environ, "FUNCTIONS_WORKER_RUNTIME": "python", **environ, **settings_for(other)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        app = CoreToolsApp(process, other.model)
        try:
            yield app
        finally:
            app.stop()
