"""Read the JSON files of a function app as Core Tools and the host do, which use Newtonsoft.Json."""

import json
import re
from pathlib import Path
from typing import Any

from shared.surrogates import whole_characters

# Match what Newtonsoft.Json accepts beyond JSON. One pattern is simpler than a package such as json5, to pin and to update.
TOKEN = re.compile(
    r"""
    "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*'                       # a string
    | //[^\r\n]* | /\*(?:.*?\*/|(?P<unterminated>.*))           # a comment
    | ,(?=(?>\s+|//[^\r\n]*|/\*.*?\*/)*+[}\]])                  # a trailing comma
    | [\w$]+(?=\s*:)                                            # a name without quotes
    """,
    re.DOTALL | re.VERBOSE,
)


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in the file `path`. Raise ValueError with the reason, a clause, if there is none."""
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise ValueError(f"it cannot be read: {exc.strerror}") from exc
    try:
        # Like .NET, detect the encoding from a byte order mark: PowerShell writes UTF-16. Replace invalid bytes.
        text = TOKEN.sub(strict, content.decode(json.detect_encoding(content), "replace"))
        found = json.loads(text, strict=False, object_pairs_hook=to_object) if text.strip() else None
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc
    except ValueError as exc:
        raise ValueError(f"it is not valid JSON: {exc}") from exc
    if not isinstance(found, dict):
        raise ValueError("it holds no JSON object")
    return found


def strict(found: re.Match[str]) -> str:
    """Return strict JSON for a match of TOKEN."""
    token = found[0]
    if found["unterminated"] is not None:
        raise json.JSONDecodeError("Unterminated comment", found.string, found.start())
    if token[0] in "/,":
        # Blanks keep the line and column of what follows.
        return re.sub(r"[^\r\n]", " ", token)
    if token[0] in "\"'":
        token = re.sub(r'\\.|"', lambda part: {"\\'": "'", '"': '\\"'}.get(part[0], part[0]), token[1:-1], flags=re.DOTALL)
    return f'"{token}"'


def to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object, with U+FFFD in place of each half of a surrogate pair, which no terminal or variable can hold."""
    return {whole_characters(name): whole_characters(value) if isinstance(value, str) else value for name, value in pairs}


def section(content: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return the object at the path `names`, empty if it is missing or null. Raise ValueError if it is no object."""
    for depth, name in enumerate(names, start=1):
        found = member(content, name)
        content = {} if found is None else found
        if not isinstance(content, dict):
            raise ValueError(f"{'.'.join(names[:depth])} is not an object")
    return content


def member(content: dict[str, Any], name: str, default: Any = None) -> Any:
    """Return the value of `name` in upper or lower case, or `default` if it is missing."""
    return next((value for key, value in content.items() if key.lower() == name.lower()), default)


def as_text(value: Any, name: str) -> str:
    """Return `value` as .NET converts it to text, empty if it is null. Raise ValueError if it is an object or a list."""
    if isinstance(value, dict | list):
        raise ValueError(f"{name} is not a string, number or boolean")
    if isinstance(value, float):
        return str(value).removesuffix(".0").upper()
    return "" if value is None else str(value)


def as_boolean(value: Any, name: str, *, default: bool) -> bool:
    """Return `value` as .NET converts it to a boolean, `default` if it is null. Raise ValueError if it is neither."""
    if value is None:
        return default
    if isinstance(value, int | float):
        return bool(value)
    text = as_text(value, name).strip().lower()
    if text not in ("true", "false"):
        raise ValueError(f"{name} is not true or false")
    return text == "true"
