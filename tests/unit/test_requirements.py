"""requirements.txt: all that the app imports, and nothing else that has no reason."""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.processes import PROJECT

TEXT = (PROJECT / "requirements.txt").read_text()
APP = (PROJECT / "function_app.py", *(PROJECT / "shared").rglob("*.py"))
NOT_BY_NAME = "# Not imported by name"
# Of which package a module is, where several share a namespace; the first that fits.
IN_NAMESPACES = {
    "azure.core": "azure-core",
    "azure.functions": "azure-functions",
    "azure.identity": "azure-identity",
    "azurefunctions.extensions.http.fastapi": "azurefunctions-extensions-http-fastapi",
    "opentelemetry.exporter": "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry.sdk": "opentelemetry-sdk",
    "opentelemetry": "opentelemetry-api",
}
# What sends telemetry is for those who want it; docs/telemetry.md says what to install.
OPTIONAL = {"opentelemetry-exporter-otlp-proto-http", "opentelemetry-sdk"}


def names(text: str) -> set[str]:
    return {found.lower() for found in re.findall(r"^([\w-]+)==[\w.]+$", text, re.MULTILINE)}


def imported(paths: Iterable[Path]) -> set[str]:
    """The packages, as they are called where they are published, that modules import."""
    modules: set[str] = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add(str(node.module))
    known = packages_distributions()
    found = set()
    for module in modules:
        top = module.split(".")[0]
        if top not in sys.stdlib_module_names and top not in ("shared", "local"):
            package = next((name for prefix, name in IN_NAMESPACES.items() if module.startswith(prefix)), None)
            found.add(package or known[top][0].lower())
    return found


def test_every_requirement_is_imported_or_says_why_not() -> None:
    by_name, _, others = TEXT.partition(NOT_BY_NAME)
    assert names(by_name) == imported(APP) - OPTIONAL
    assert names(others) == {"fastapi", "uvicorn", "httptools"}


def test_the_local_host_needs_no_more_than_its_requirements() -> None:
    required = names((PROJECT / "requirements-local.txt").read_text())
    needed = imported((PROJECT / "local").rglob("*.py"))
    # aiohttp's own, whose types it hands out.
    assert needed - names(TEXT) - {"multidict", "yarl"} == required


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-local.txt", "requirements-dev.txt"])
def test_every_requirement_is_pinned(name: str) -> None:
    text = (PROJECT / name).read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", "-r "))]
    assert len(names(text)) == len(lines)


def brought_by(name: str, extra: str = "") -> Iterator[str]:
    """The package and all that it requires on this platform, in turn."""
    yield canonicalize_name(name)
    for text in distribution(name).requires or []:
        needed = Requirement(text)
        if needed.marker is None or needed.marker.evaluate({"extra": extra}):
            for wanted in needed.extras or {""}:
                yield from brought_by(needed.name, wanted)


def licence_of(name: str) -> str:
    about = distribution(name).metadata
    text = str(about.get("License-Expression") or about.get("License"))
    return text.replace("MIT License", "MIT").replace("Apache 2.0", "Apache-2.0").replace(" AND ", " and ")


def test_every_requirement_and_what_it_brings_has_its_licence_in_contributing() -> None:
    section = (PROJECT / "CONTRIBUTING.md").read_text().partition("## Licences")[2]
    required, brought = section.split("\n\nWhat these bring", 1)
    told = dict(re.findall(r"^\| ([a-z][\w-]+) \| (.+) \|$", required, re.MULTILINE)[1:])
    assert told == {name: licence_of(name) for name in names(TEXT)}
    others = {other: licence_of(other) for name in told for other in brought_by(name) if other not in told}
    usual = {*told.values(), "MIT OR Apache-2.0", "Apache-2.0 OR BSD-3-Clause"}
    unusual = {name: licence for name, licence in others.items() if licence not in usual}
    assert unusual == dict(re.findall(r"^\| ([a-z][\w-]+) \| (.+) \|$", brought, re.MULTILINE)[1:])
