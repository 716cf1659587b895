"""Compile and evaluate Bicep files with Microsoft's Bicep CLI, and skip tests where it is missing."""

import functools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import PROJECT, Json

INFRA = PROJECT / "infra"
SUBSCRIPTION = "22222222-2222-2222-2222-222222222222"
TENANT = "33333333-3333-3333-3333-333333333333"
needs_bicep = pytest.mark.skipif(
    not shutil.which("bicep"),
    reason="needs the Bicep CLI on the PATH: https://learn.microsoft.com/azure/azure-resource-manager/bicep/install",
)


def bicep(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bicep", *map(str, arguments)], capture_output=True, text=True, timeout=100)


@functools.cache
def compiled(module: str = "") -> Json:
    """Return the ARM template of infra/main.bicep, or of one of its modules."""
    if module:
        template: Json = compiled()["resources"][module]["properties"]["template"]
    else:
        run = bicep("build", INFRA / "main.bicep", "--stdout")
        assert (run.returncode, run.stderr) == (0, "")
        template = json.loads(run.stdout)
    return template


def parameters(**variables: str) -> Json:
    """Return the parameters that azd makes of its environment's `variables` and infra/main.parameters.json."""
    given = json.loads((INFRA / "main.parameters.json").read_text())["parameters"]
    types = compiled()["parameters"]
    values: Json = {}
    for name, entry in given.items():
        found = re.fullmatch(r"\$\{(\w+)(?:=(.*))?\}", entry["value"])
        assert found, entry
        text = variables.pop(found[1], found[2] or "")
        values[name] = int(text) if types[name]["type"] == "int" else text
    assert not variables, f"infra/main.parameters.json has no {variables}"
    return values


def snapshot(folder: Path, values: Json, template: Path = INFRA / "main.bicep") -> tuple[Json, str]:
    """Return the resources and outputs that a deployment of `template` would have, or the error that stops it."""
    file = folder / "main.bicepparam"
    # The compiler accepts relative paths only.
    lines = [f"using '{template.relative_to(folder, walk_up=True)}'"]
    for name, value in values.items():
        literal = json.dumps(value).replace('"', "'")
        lines.append(f"param {name} = {literal}")
    file.write_text("\n".join(lines))
    scope = ("--tenant-id", TENANT, "--subscription-id", SUBSCRIPTION, "--location", "swedencentral")
    run = bicep("snapshot", file, *scope, "--mode", "overwrite")
    if run.returncode:
        return {}, run.stderr
    found: Json = json.loads((folder / "main.snapshot.json").read_text())
    assert found["diagnostics"] == []
    return found, ""


def copy_of_entra(folder: Path) -> Path:
    """Copy infra/entra to `folder`, add the linter's rules of infra/ to its configuration, and return its template.

    The compiler downloads the Microsoft Graph extension, unless a configuration at BICEP_GRAPH_CONFIG has it as a file.
    """
    shutil.copytree(INFRA / "entra", folder, dirs_exist_ok=True)
    config = folder / "bicepconfig.json"
    extensions = json.loads(config.read_text())["extensions"]
    if given := os.environ.get("BICEP_GRAPH_CONFIG"):
        files = json.loads(Path(given).read_text())["extensions"]
        extensions = {name: str(Path(given).parent / files[name]) for name in extensions}
    config.write_text(json.dumps(json.loads((INFRA / "bicepconfig.json").read_text()) | {"extensions": extensions}))
    return folder / "main.bicep"
