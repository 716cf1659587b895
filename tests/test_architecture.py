"""docs/architecture.md: who imports whom, and what must not."""

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import PROJECT

# The page says that any module may import these.
OF_ALL = {"errors", "settings"}
APP = [PROJECT / "function_app.py", *sorted((PROJECT / "shared").glob("[!_]*.py"))]


def imported(node: ast.AST) -> Iterator[str]:
    """The full names of the modules that a piece of code imports, or may. Not those for a type checker alone."""
    match node:
        case ast.If(test=ast.Name("TYPE_CHECKING")):
            children: list[ast.stmt] | Iterator[ast.AST] = node.orelse
        case ast.Import():
            yield from (alias.name for alias in node.names)
            return
        case ast.ImportFrom():
            assert node.level == 0, "imports name the whole module"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
            return
        case _:
            children = ast.iter_child_nodes(node)
    for child in children:
        yield from imported(child)


def imports_of(path: Path) -> set[str]:
    """The full names of what a module imports: of modules, and of what is taken out of them."""
    return set(imported(ast.parse(path.read_text())))


def modules_of(names: set[str]) -> set[str]:
    """The app's own modules among full names."""
    return {name.split(".")[1] for name in names if name.startswith("shared.")}


GRAPH = {path.stem: modules_of(imports_of(path)) for path in APP}


def reached_from(module: str) -> set[str]:
    """What a module imports, itself or through others."""
    found: set[str] = set()
    new = {module}
    while new:
        found |= new
        new = set().union(*(GRAPH[name] for name in new)) - found
    return found - {module}


@pytest.fixture(scope="module")
def diagram() -> str:
    (found,) = re.findall(r"```mermaid\n(.+?)```", (PROJECT / "docs" / "architecture.md").read_text(), re.DOTALL)
    return str(found)


def test_the_diagram_has_exactly_the_imports(diagram: str) -> None:
    drawn = {
        (importer, module)
        for importer, modules in re.findall(r"^ *(\w+) --> (\w+(?: & \w+)*)$", diagram, re.MULTILINE)
        for module in modules.split(" & ")
    }
    assert len(drawn) == len(re.findall(r"-->|&", diagram)), "there is an arrow that cannot be read"
    assert drawn == {(importer, module) for importer, modules in GRAPH.items() for module in modules - OF_ALL}


def test_the_diagram_has_every_module(diagram: str) -> None:
    grouped = re.findall(r"^        (\w+)$", diagram, re.MULTILINE)
    assert sorted([*grouped, "function_app"]) == sorted(GRAPH)


def test_what_is_deployed_imports_nothing_of_what_is_not() -> None:
    not_deployed = {path.name for path in PROJECT.iterdir() if path.is_dir() and list(path.glob("*.py"))} - {"shared"}
    assert {"bench", "local", "tests"} <= not_deployed
    for path in APP:
        assert not {name.split(".")[0] for name in imports_of(path)} & (not_deployed | {"function_app"}), path


def test_nothing_is_imported_in_a_circle() -> None:
    graphlib.TopologicalSorter(GRAPH).prepare()


def test_the_ground_stands_on_nothing() -> None:
    assert all(GRAPH[module] == set() for module in ("call", "errors", "sse"))
    assert GRAPH["wire"] == {"sse"}
    assert GRAPH["telemetry"] == {"call", "errors", "sse", "wire"}


def test_a_probe_takes_no_way_round() -> None:
    assert "failover" not in reached_from("health")
    assert "failover" in reached_from("relay")


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import a, b.c", {"a", "b.c"}),
        ("from shared import x as y, z", {"shared.x", "shared.z"}),
        ("def f():\n    if g():\n        from shared.x import Y", {"shared.x.Y"}),
        ("if TYPE_CHECKING:\n    import a\nelse:\n    import b", {"b"}),
        ("try:\n    import a\nexcept ImportError:\n    import b", {"a", "b"}),
    ],
)
def test_imports_are_found_wherever_they_stand(code: str, found: set[str]) -> None:
    assert set(imported(ast.parse(code))) == found
