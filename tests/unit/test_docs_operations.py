"""docs/operations.md: every error that callers can get, and all that the app writes, by the code."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared import errors
from shared.errors import GatewayError
from tests.support.javascript import errors_in, needs_node
from tests.support.processes import PROJECT

PAGE = (PROJECT / "docs" / "operations.md").read_text()
QUERIES = re.findall(r"```kusto\n(.+?)```", PAGE, re.DOTALL)
LEVELS = {"debug", "info", "warning", "error", "critical"}


def table(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    section = PAGE.partition(f"\n## {heading}\n")[2]
    (rows,) = re.findall(r"(?:^\|.+\n)+", section, re.MULTILINE)[:1]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows.splitlines()[2:]]


def known_errors() -> list[type[GatewayError]]:
    """Those whose code is the app's own."""
    found = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, GatewayError)]
    return [item for item in found if getattr(item, "code", None)]


def test_every_error_is_there_with_its_status_and_no_other() -> None:
    told = {code.strip("`"): status for status, code, _, _ in table("Errors")}
    assert set(told) == {item.code for item in known_errors()}
    for item in known_errors():
        # Where an error has none, each instance has its own.
        assert str(getattr(item, "status", "Azure's own")) in told[str(item.code)], item


def test_no_error_is_defined_elsewhere() -> None:
    names = {"GatewayError", "UpstreamErrorResponse", *(item.__name__ for item in known_errors())}
    for path in PROJECT.glob("shared/**/*.py"):
        classes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]
        bases = {ast.unparse(base).rpartition(".")[2] for item in classes for base in item.bases}
        assert path.stem == "errors" or not bases & names, path


@dataclass(frozen=True)
class Event:
    """Something that the app writes: by which module, at which level, and a template of its text."""

    module: str
    level: str
    template: str

    def matches(self, text: str) -> bool:
        # What follows a line break, a traceback, stands for itself.
        fixed = re.split(r"%[a-z]", self.template.partition("\n")[0])
        return bool(re.fullmatch(".+".join(map(re.escape, fixed)), text))


def events_in(code: str, module: str) -> Iterator[Event]:
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Call(ast.Attribute(ast.Name("logger"), "log"), [level, ast.Constant(str(template)), *_]):
                levels = {name.attr.lower() for name in ast.walk(level) if isinstance(name, ast.Attribute)} & LEVELS
                assert levels, ast.unparse(node)
                yield from (Event(module, name, template) for name in levels)
            case ast.Call(ast.Attribute(ast.Name("logger"), level), [ast.Constant(str(template)), *_]) if level in LEVELS:
                yield Event(module, level, template)
            case ast.Call(ast.Name("print")):
                yield Event(module, "output", "%s")
            case ast.Attribute(ast.Name("logger"), name):
                assert name in LEVELS | {"log"}, f"{module}: {name}"


def module_name(path: Path) -> str:
    return path.parent.name if path.stem == "__init__" else path.stem


def events() -> list[Event]:
    paths = [PROJECT / "function_app.py", *PROJECT.glob("shared/**/*.py")]
    return [event for path in paths for event in events_in(path.read_text(), module_name(path))]


@pytest.fixture(scope="module")
def told() -> list[Event]:
    """The events of the page, with their texts for templates."""
    return [
        Event(module, level, text.strip("`"))
        for level, text, modules, _ in table("The log")
        for module in re.findall(r"`(\w+)`", modules)
    ]


def is_told(event: Event, row: Event) -> bool:
    return (event.module, event.level) == (row.module, row.level) and event.matches(row.template)


def test_all_that_the_app_writes_is_there(told: list[Event]) -> None:
    found = events()
    assert len(found) > 15
    for event in found:
        assert any(is_told(event, row) for row in told), event


def test_the_app_writes_all_that_is_there(told: list[Event]) -> None:
    found = events()
    for row in told:
        assert any(is_told(event, row) for event in found), row


def test_templates_are_found_and_matched() -> None:
    code = 'logger.log(INFO if x else logging.ERROR, "a %s (b)", x)\nif x:\n    logger.warning("c: %d\\nd", 1)\nprint(x)'
    assert set(events_in(code, "m")) == {
        Event("m", "error", "a %s (b)"),
        Event("m", "warning", "c: %d\nd"),
        Event("m", "output", "%s"),
    }
    assert Event("m", "error", "a %s (b)").matches("a X (b)")
    assert not Event("m", "error", "a %s (b)").matches("a X (c)")
    assert Event("m", "warning", "c: %d\nd").matches("c: N")


@needs_node
def test_the_queries_are_kusto() -> None:
    wrong = "requests | where nosuch == 1"
    *found, found_wrong = errors_in([*QUERIES, wrong])
    assert found == [[]] * len(QUERIES) == [[], [], []]
    assert found_wrong
