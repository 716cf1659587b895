"""Read the texts of settings, and collect what is wrong with them."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from dotenv import dotenv_values

from shared.settings.parsers import entry, positive_integer, positive_number, whole

DOTENV_FILE = Path(__file__).parents[2] / "azureopenai.env"


class SettingsReader:
    """Look settings up by name, in `environ` and then in the file `dotenv`, and parse them.

    It raises nothing: `problems` collects what is wrong, by the setting's name, so that all of it is reported at once.
    """

    def __init__(self, environ: Mapping[str, str], dotenv: Path = DOTENV_FILE) -> None:
        self.environ = environ
        self.dotenv = dotenv
        self.problems: dict[str, str] = {}
        self.warnings: list[str] = []
        self.known: set[str] = set()
        self.file: Mapping[str, str | None] = {}
        if dotenv.exists():
            try:
                # Windows editors write byte order marks.
                self.file = dotenv_values(dotenv, interpolate=False, encoding="utf-8-sig")
            except (OSError, UnicodeDecodeError) as exc:
                self.problems[dotenv.name] = f"cannot be read ({type(exc).__name__}); make it a readable UTF-8 text file"

    def unknown(self) -> list[str]:
        """Return a warning for each name in the file that is not `known`, such as a misspelt one."""
        names = (name for name in self.file if name not in self.known)
        return [f"{self.dotenv.name} has {name}, which this app does not know; correct or remove it" for name in names]

    def text(self, name: str, default: str = "") -> str:
        """Return the setting's text without surrounding blanks, or `default` where it is missing, empty or unreadable."""
        self.known.add(name)
        text = (self.environ.get(name) or "").strip() or (self.file.get(name) or "").strip()
        try:
            return whole(text) or default
        except ValueError as exc:
            self.problems[name] = str(exc)
            return default

    def parsed[T](self, name: str, parse: Callable[[str], T], default: str = "") -> T | None:
        """Return the setting's value, parsed by `parse`, or None if it is missing or invalid."""
        values = self.items(name, parse, default, separators="")
        return values[0] if values else None

    def items[T](
        self, name: str, parse: Callable[[str], T], default: str = "", *, separators: str = ",", required: bool = True
    ) -> list[T]:
        """Return the setting's entries, each parsed by `parse`, or an empty list if any is missing or invalid.

        Any of the characters in `separators` ends an entry. Without any, the setting is one entry.
        """
        text = self.text(name, default)
        if not text:
            if required:
                self.problems.setdefault(name, "is missing")
            return []
        entries = [part.strip() for part in re.split(f"[{separators}]", text)] if separators else [text]
        if not all(entries):
            self.problems[name] = "has an empty entry; remove the extra separator"
            return []
        values: list[T] = []
        for number, part in enumerate(entries, start=1):
            try:
                values.append(parse(entry(part)))
            except ValueError as exc:
                self.problems[name] = f"{exc} (entry {number} of {len(entries)})" if len(entries) > 1 else str(exc)
                return []
        return values

    def seconds(self, name: str, default: float) -> float:
        """Return the setting's number of seconds, or `default` where it is missing or invalid."""
        return self.parsed(name, positive_number, str(default)) or default

    def count(self, name: str, default: int) -> int:
        """Return the setting's whole number, or `default` where it is missing or invalid."""
        return self.parsed(name, positive_integer, str(default)) or default
