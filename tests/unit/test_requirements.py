"""Test that the requirements files list what the code imports, pinned, and that CONTRIBUTING.md has the licences.

The constraints and the lock, which `make lock` writes, must agree with them.
"""

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


def requirements(name: str) -> dict[str, str]:
    """Return the packages that a file requires, each with its version, or an empty text where it names none."""
    lines = re.findall(r"^([\w-]+)(?:==([\w.]+))?(?: \\)?$", (PROJECT / name).read_text(), re.MULTILINE)
    return {canonicalize_name(package): version for package, version in lines}


REQUIRED, CONSTRAINTS, LOCK = map(requirements, ("requirements.txt", "constraints.txt", "requirements.lock"))


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
    _, _, others = TEXT.partition(NOT_BY_NAME)
    not_imported = {"azure-functions-runtime", "httptools"}
    assert REQUIRED.keys() - not_imported == imported_packages(APP) - OPTIONAL
    assert all(f"\n{name}==" in others for name in not_imported)


def test_the_local_host_imports_exactly_its_requirements() -> None:
    needed = imported_packages((PROJECT / "local").rglob("*.py"))
    # aiohttp depends on these two, and their types are part of its API.
    assert needed - REQUIRED.keys() - {"multidict", "yarl"} == requirements("requirements-local.txt").keys()


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-local.txt", "requirements-dev.txt"])
def test_every_requirement_is_pinned_there_or_in_the_constraints(name: str) -> None:
    lines = [line for line in (PROJECT / name).read_text().splitlines() if line and not line.startswith(("#", "-"))]
    found = requirements(name)
    assert len(found) == len(lines)
    constraints = {} if name == "requirements.txt" else CONSTRAINTS
    # Two versions of one package would contradict each other after the next `make lock`.
    assert {package for package, version in found.items() if not version} == found.keys() & constraints.keys()


def test_the_constraints_apply_wherever_the_requirements_are_installed() -> None:
    assert "-c constraints.txt" in TEXT.splitlines()
    assert "-r requirements.txt" in (PROJECT / "requirements-local.txt").read_text().splitlines()
    assert "-r requirements-local.txt" in (PROJECT / "requirements-dev.txt").read_text().splitlines()


def test_the_requirements_the_lock_and_the_constraints_agree() -> None:
    assert REQUIRED.items() <= LOCK.items() <= CONSTRAINTS.items()


def test_the_tests_run_on_the_versions_of_a_deployment() -> None:
    assert {name: distribution(name).version for name in CONSTRAINTS} == CONSTRAINTS


def test_the_constraints_and_the_lock_have_all_dependencies_and_nothing_else() -> None:
    assert LOCK.keys() == {found for name in REQUIRED for found in with_dependencies(name)}
    exporters = re.findall(r"Add `([\w-]+)` to `requirements.txt`", (PROJECT / "docs" / "telemetry.md").read_text())
    assert len(exporters) == 2
    assert CONSTRAINTS.keys() == LOCK.keys() | {found for name in exporters for found in with_dependencies(name)}


def test_only_the_lock_has_hashes_and_no_file_names_an_index() -> None:
    pin, digest = r"[\w-]+==[\w.]+", r" \\\n    --hash=sha256:[0-9a-f]{64}"
    assert re.fullmatch(rf"(#.*\n)*({pin}\n)+", (PROJECT / "constraints.txt").read_text())
    assert re.fullmatch(rf"(#.*\n)*({pin}({digest})+\n)+", (PROJECT / "requirements.lock").read_text())
    # One hash would make pip demand hashes for all packages, also for those that users add.
    assert "--hash" not in TEXT


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
    classified = [
        text.rpartition(" :: ")[2] for text in metadata.get_all("Classifier", []) if text.startswith("License :: ")
    ]
    text = str(metadata.get("License-Expression") or metadata.get("License") or classified[0])
    return text.replace("MIT License", "MIT").replace("Apache 2.0", "Apache-2.0").replace(" AND ", " and ")


def test_contributing_lists_the_licences_of_requirements_and_dependencies() -> None:
    section = (PROJECT / "CONTRIBUTING.md").read_text().partition("## Licences")[2]
    direct, indirect = section.split("\n\nTheir own dependencies", 1)
    documented = dict(re.findall(r"^\| ([a-z][\w-]+) \| (.+) \|$", direct, re.MULTILINE)[1:])
    assert documented == {name: licence_of(name) for name in REQUIRED}
    others = {
        other: licence_of(other) for name in documented for other in with_dependencies(name) if other not in documented
    }
    usual = {*documented.values(), "MIT OR Apache-2.0"}
    unusual = {name: licence for name, licence in others.items() if licence not in usual}
    assert unusual == dict(re.findall(r"^\| ([a-z][\w-]+) \| (.+) \|$", indirect, re.MULTILINE)[1:])
