"""Test that docs/operations.md lists every error and every log message in the code, and that its queries are valid."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared import errors
from shared.errors import GatewayError
from shared.upstream.retry_policy import Kind
from tests.support.javascript import errors_in, needs_node
from tests.support.processes import PROJECT

PAGE = (PROJECT / "docs" / "operations.md").read_text()
QUERIES = re.findall(r"```kusto\n(.+?)```", PAGE, re.DOTALL)
LEVELS = {"debug", "info", "warning", "error", "critical"}


def table(heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its header row."""
    section = PAGE.partition(f"\n## {heading}\n")[2]
    (rows,) = re.findall(r"(?:^\|.+\n)+", section, re.MULTILINE)[:1]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows.splitlines()[2:]]


def known_errors() -> list[type[GatewayError]]:
    """Return the errors that have a code of the app's own."""
    found = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, GatewayError)]
    return [item for item in found if getattr(item, "code", None)]


def test_the_page_lists_every_error_with_its_status_and_no_other_error() -> None:
    documented = {code.strip("`"): status for status, code, _, _ in table("Errors")}
    assert set(documented) == {item.code for item in known_errors()}
    for item in known_errors():
        # An error class without a status takes it from Azure's response.
        assert str(getattr(item, "status", "Azure's own")) in documented[str(item.code)], item


def test_all_errors_are_defined_in_one_module() -> None:
    names = {"GatewayError", "UpstreamErrorResponse", *(item.__name__ for item in known_errors())}
    for path in PROJECT.glob("shared/**/*.py"):
        classes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]
        bases = {ast.unparse(base).rpartition(".")[2] for item in classes for base in item.bases}
        assert path.stem == "errors" or not bases & names, path


def test_the_page_says_what_each_error_response_of_azure_means() -> None:
    templates = {kind.azure: kind.advice.format(deployment="DEPLOYMENT", auth_advice="ADVICE") for kind in Kind}
    nothing = "nothing: the caller gets Azure's response"
    assert table("Error responses of Azure") == [[azure, text or nothing] for azure, text in templates.items()]


@dataclass(frozen=True)
class LogMessage:
    """Describe a message that the app writes: the module, the level, and the template of the text."""

    module: str
    level: str
    template: str

    def matches(self, text: str) -> bool:
        # The text after a line break is a traceback.
        fixed = re.split(r"%[a-z]", self.template.partition("\n")[0])
        return bool(re.fullmatch(".+".join(map(re.escape, fixed)), text))


def messages_in(code: str, module: str) -> Iterator[LogMessage]:
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Call(ast.Attribute(ast.Name("logger"), "log"), [level, ast.Constant(str(template)), *_]):
                levels = {name.attr.lower() for name in ast.walk(level) if isinstance(name, ast.Attribute)} & LEVELS
                assert levels, ast.unparse(node)
                yield from (LogMessage(module, name, template) for name in levels)
            case ast.Call(ast.Attribute(ast.Name("logger"), level), [ast.Constant(str(template)), *_]) if level in LEVELS:
                yield LogMessage(module, level, template)
            case ast.Call(ast.Name("print")):
                yield LogMessage(module, "output", "%s")
            case ast.Attribute(ast.Name("logger"), name):
                assert name in LEVELS | {"log"}, f"{module}: {name}"


def module_name(path: Path) -> str:
    return path.parent.name if path.stem == "__init__" else path.stem


def messages() -> list[LogMessage]:
    paths = [PROJECT / "function_app.py", *PROJECT.glob("shared/**/*.py")]
    return [message for path in paths for message in messages_in(path.read_text(), module_name(path))]


@pytest.fixture(scope="module")
def documented() -> list[LogMessage]:
    """Return the messages that the page lists, with their texts as templates."""
    return [
        LogMessage(module, level, text.strip("`"))
        for level, text, modules, _ in table("The log")
        for module in re.findall(r"`(\w+)`", modules)
    ]


def is_same(message: LogMessage, row: LogMessage) -> bool:
    return (message.module, message.level) == (row.module, row.level) and message.matches(row.template)


def test_the_page_lists_every_log_message(documented: list[LogMessage]) -> None:
    found = messages()
    assert len(found) > 15
    for message in found:
        assert any(is_same(message, row) for row in documented), message


def test_the_app_writes_every_message_that_the_page_lists(documented: list[LogMessage]) -> None:
    found = messages()
    for row in documented:
        assert any(is_same(message, row) for message in found), row


def test_log_messages_are_found_in_code_and_matched_with_texts() -> None:
    code = 'logger.log(INFO if x else logging.ERROR, "a %s (b)", x)\nif x:\n    logger.warning("c: %d\\nd", 1)\nprint(x)'
    assert set(messages_in(code, "m")) == {
        LogMessage("m", "error", "a %s (b)"),
        LogMessage("m", "warning", "c: %d\nd"),
        LogMessage("m", "output", "%s"),
    }
    assert LogMessage("m", "error", "a %s (b)").matches("a X (b)")
    assert not LogMessage("m", "error", "a %s (b)").matches("a X (c)")
    assert LogMessage("m", "warning", "c: %d\nd").matches("c: N")


@needs_node
def test_the_queries_are_valid_kusto() -> None:
    invalid = "requests | where nosuch == 1"
    *found, errors_of_invalid = errors_in([*QUERIES, invalid])
    assert found == [[]] * len(QUERIES) == [[], [], []]
    assert errors_of_invalid
