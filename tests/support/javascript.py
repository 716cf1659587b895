"""Run the programs in tests/node, and skip tests where Node.js or their packages are missing."""

import json
import shutil
import subprocess

import pytest

from tests.support.processes import PROJECT

NODE_FOLDER = PROJECT / "tests" / "node"
needs_node = pytest.mark.skipif(
    not (shutil.which("node") and (NODE_FOLDER / "node_modules").is_dir()),
    reason="needs Node.js and the packages of tests/node: npm ci --prefix tests/node",
)


def errors_in(queries: list[str]) -> list[list[str]]:
    """Return the errors that Microsoft's own parser finds in each of the Kusto queries."""
    command = ["node", "kql.js"]
    run = subprocess.run(command, cwd=NODE_FOLDER, input=json.dumps(queries), capture_output=True, text=True, check=True)
    errors: list[list[str]] = json.loads(run.stdout)
    return errors
