"""Test that the requirements files list what the code imports, pinned, and that CONTRIBUTING.md has the licences."""

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
# The package of a module, where several packages share a namespace. The first match counts.
PACKAGES_IN_NAMESPACES = {
    "azure.core": "azure-core",
    "azure.functions": "azure-functions",
    "azure.identity": "azure-identity",
    "azurefunctions.extensions.http.fastapi": "azurefunctions-extensions-http-fastapi",
    "opentelemetry.exporter": "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry.sdk": "opentelemetry-sdk",
    "opentelemetry": "opentelemetry-api",
}
# Only needed to send telemetry; docs/telemetry.md says how to install them.
OPTIONAL = {"opentelemetry-exporter-otlp-proto-http", "opentelemetry-sdk"}


def pinned(text: str) -> set[str]:
    return {found.lower() for found in re.findall(r"^([\w-]+)==[\w.]+$", text, re.MULTILINE)}


def imported_packages(paths: Iterable[Path]) -> set[str]:
    """Return the names on PyPI of the packages that the modules at `paths` import."""
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
            package = next((name for prefix, name in PACKAGES_IN_NAMESPACES.items() if module.startswith(prefix)), None)
            found.add(package or known[top][0].lower())
    return found


def test_every_requirement_is_imported_or_gives_a_reason() -> None:
    by_name, _, others = TEXT.partition(NOT_BY_NAME)
    assert pinned(by_name) == imported_packages(APP) - OPTIONAL
    assert pinned(others) == {"uvicorn", "httptools"}


def test_the_local_host_imports_exactly_its_requirements() -> None:
    required = pinned((PROJECT / "requirements-local.txt").read_text())
    needed = imported_packages((PROJECT / "local").rglob("*.py"))
    # aiohttp depends on these two, and their types are part of its API.
    assert needed - pinned(TEXT) - {"multidict", "yarl"} == required


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-local.txt", "requirements-dev.txt"])
def test_every_requirement_is_pinned(name: str) -> None:
    text = (PROJECT / name).read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", "-r "))]
    assert len(pinned(text)) == len(lines)


def with_dependencies(name: str, extra: str = "") -> Iterator[str]:
    """Yield the package and, recursively, all packages that it requires on this platform."""
    yield canonicalize_name(name)
    for text in distribution(name).requires or []:
        required = Requirement(text)
        if required.marker is None or required.marker.evaluate({"extra": extra}):
            for required_extra in required.extras or {""}:
                yield from with_dependencies(required.name, required_extra)


def licence_of(name: str) -> str:
    metadata = distribution(name).metadata
    text = str(metadata.get("License-Expression") or metadata.get("License"))
    return text.replace("MIT License", "MIT").replace("Apache 2.0", "Apache-2.0").replace(" AND ", " and ")


def test_contributing_lists_the_licences_of_requirements_and_dependencies() -> None:
    section = (PROJECT / "CONTRIBUTING.md").read_text().partition("## Licences")[2]
    direct, indirect = section.split("\n\nTheir own dependencies", 1)
    documented = dict(re.findall(r"^\| ([a-z][\w-]+) \| (.+) \|$", direct, re.MULTILINE)[1:])
    assert documented == {name: licence_of(name) for name in pinned(TEXT)}
    others = {
        other: licence_of(other) for name in documented for other in with_dependencies(name) if other not in documented
    }
    usual = {*documented.values(), "MIT OR Apache-2.0", "Apache-2.0 OR BSD-3-Clause"}
    unusual = {name: licence for name, licence in others.items() if licence not in usual}
    assert unusual == dict(re.findall(r"^\| ([a-z][\w-]+) \| (.+) \|$", indirect, re.MULTILINE)[1:])
