"""Read the pages of the documentation: their tables and code blocks."""

import re

from tests.support.processes import PROJECT


def page(name: str) -> str:
    """Return the text of a page, `name` being its path in the project."""
    return (PROJECT / name).read_text()


def table(head: str, text: str) -> list[list[str]]:
    """Return the rows of the table in `text` whose head begins with `head`, each a list of cells."""
    _, _, rest = text.partition(f"| {head}")
    lines = rest.partition("\n\n")[0].splitlines()[2:]
    assert lines, head
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def blocks(language: str, text: str) -> list[str]:
    """Return the contents of the code blocks in `text` that are in `language`."""
    return re.findall(rf"^```{language}\n(.+?)^```", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[str]:
    """Return every shell command in `text`, those that continue in a second line whole."""
    shown = [line for block in blocks("sh", text) for line in block.replace("\\\n", " ").splitlines()]
    shown += [line for block in blocks("console", text) for line in re.findall(r"^\$ (.+)$", block, re.MULTILINE)]
    return [re.sub(r"\s+# .*", "", line) for line in shown if line]
