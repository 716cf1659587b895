"""requirements.txt: all that the app imports, and nothing else that has no reason."""

import ast
import re
import sys
from importlib.metadata import packages_distributions

from tests.running import PROJECT

TEXT = (PROJECT / "requirements.txt").read_text()
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


def imported() -> set[str]:
    """The packages, as they are called where they are published, that the app's modules import."""
    modules: set[str] = set()
    for path in (PROJECT / "function_app.py", *(PROJECT / "shared").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add(str(node.module))
    known = packages_distributions()
    found = set()
    for module in modules:
        top = module.split(".")[0]
        if top not in sys.stdlib_module_names and top != "shared":
            package = next((name for prefix, name in IN_NAMESPACES.items() if module.startswith(prefix)), None)
            found.add(package or known[top][0].lower())
    return found


def test_every_requirement_is_imported_or_says_why_not() -> None:
    by_name, _, others = TEXT.partition(NOT_BY_NAME)
    assert names(by_name) == imported() - OPTIONAL
    assert names(others) == {"fastapi", "uvicorn", "httptools"}


def test_every_requirement_is_pinned() -> None:
    lines = [line for line in TEXT.splitlines() if line and not line.startswith("#")]
    assert len(names(TEXT)) == len(lines)


def test_every_requirement_has_its_licence_in_contributing() -> None:
    section = (PROJECT / "CONTRIBUTING.md").read_text().partition("## Licences")[2]
    assert set(re.findall(r"^\| ([\w-]+) \| \S", section, re.MULTILINE)) - {"requirement"} == names(TEXT)
