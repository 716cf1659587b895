"""Run the app under `func start`, where Core Tools are installed."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import LocalApp, copy_app, local_app, settings_for

CORE_TOOLS = shutil.which("func")


class CoreToolsApp(LocalApp):
    """Control this project's app under `func start`."""

    ready_message = "For detailed output, run func with --verbose flag."


@contextmanager
def core_tools_app(folder: Path, **environ: str) -> Iterator[LocalApp]:
    """Run the app under `func start`, on a free port, with the simulator of Azure OpenAI that another app has started."""
    with local_app(folder / "simulator", **environ) as other, socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
        probe.close()
        process = subprocess.Popen(
            ["func", "start", "--port", port],
            cwd=copy_app(folder / "app"),
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
