"""Run the local host with the functions of host_app.py, in place of this project's app.

Each test in test_host_*.py is named after a fact about the real host. local/README.md lists where the local host differs.
"""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx2

from tests.support.processes import PROJECT, HostProcess, Json, copy_app, set_route_prefix, start_local

TIMESTAMP = r"\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\] "
SETTINGS = {"SCHEDULE": "0 0 9 * * *", "AzureWebJobs.switched_off.Disabled": "true"}


class HostApp(HostProcess):
    """Run the functions of host_app.py."""

    folder: Path

    def key(self, scope: str) -> str:
        """Return the key for `scope` that --enable-auth prints."""
        found = re.search(rf"x-functions-key: (\S+) \({re.escape(scope)}\)", self.output)
        assert found, self.output
        return found[1]

    def exchange(self, sent: bytes) -> tuple[bytes, bytes]:
        """Send a request, and return all headers and the body that arrive until the host closes the connection."""
        with self.connection() as client, client.makefile("rb") as received:
            client.sendall(sent)
            headers, _, body = received.read().partition(b"\r\n\r\n")
        return headers, body

    def get(self, path: str, key: str) -> httpx2.Response:
        return self.http.get(path, headers={"x-functions-key": key})


@contextmanager
def host_app(
    folder: Path,
    *options: str,
    port: int | None = 0,
    prefix: str | None = None,
    local_settings: Json | None = None,
    environ: Mapping[str, str],
) -> Iterator[HostApp]:
    """Run the local host with the functions of host_app.py, on a free port by default.

    With `port=None`, leave the port to the settings.
    """
    copy_app(folder)
    shutil.copy(PROJECT / "tests" / "support" / "host_app.py", folder / "function_app.py")
    if prefix is not None:
        set_route_prefix(folder, prefix)
    if local_settings:
        (folder / "local.settings.json").write_text(json.dumps(local_settings))
    port_option = [] if port is None else ["--port", str(port)]
    host = HostApp(start_local(folder, "--no-simulator", *port_option, *options, **environ))
    host.folder = folder
    try:
        yield host
    finally:
        assert host.stop() == 0, host.output
