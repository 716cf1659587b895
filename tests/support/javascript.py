"""The programs in tests/node, and what they need."""

import json
import shutil
import subprocess

import pytest

from tests.support.processes import PROJECT

NODE_FOLDER = PROJECT / "tests" / "node"
needs_node = pytest.mark.skipif(
    not (shutil.which("node") and (NODE_FOLDER / "node_modules").is_dir()),
    reason="needs Node.js, and its packages: npm ci --prefix tests/node",
)


def errors_in(queries: list[str]) -> list[list[str]]:
    """What Microsoft's own parser finds wrong in each of some Kusto queries."""
    command = ["node", "kql.js"]
    run = subprocess.run(command, cwd=NODE_FOLDER, input=json.dumps(queries), capture_output=True, text=True, check=True)
    errors: list[list[str]] = json.loads(run.stdout)
    return errors
