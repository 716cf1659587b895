"""Where the texts of app settings come from, and what is wrong with them."""

from collections.abc import Callable, Mapping
from pathlib import Path

from dotenv import dotenv_values

from shared.settings.parsers import UNRESOLVED_REFERENCE, positive_integer, positive_number

DOTENV_FILE = Path(__file__).parent.parent.parent / "azureopenai.env"


class SettingsReader:
    """Looks settings up by name and collects what is wrong with them, so that all of it is reported at once."""

    def __init__(self, environ: Mapping[str, str], dotenv: Path = DOTENV_FILE) -> None:
        self.environ = environ
        self.dotenv = dotenv
        self.problems: dict[str, str] = {}
        self.warnings: list[str] = []
        self.asked: set[str] = set()
        self.file: Mapping[str, str | None] = {}
        if dotenv.exists():
            try:
                # Byte order marks come from Windows editors.
                self.file = dotenv_values(dotenv, interpolate=False, encoding="utf-8-sig")
            except (OSError, UnicodeDecodeError) as exc:
                self.problems[dotenv.name] = f"cannot be read as a UTF-8 text file ({type(exc).__name__})"

    def unknown(self) -> list[str]:
        """Warnings about names in the file that nobody has asked for, such as misspelt ones."""
        return [
            f"{self.dotenv.name} has {name}, which is no setting of this app" for name in self.file if name not in self.asked
        ]

    def text(self, name: str, default: str = "") -> str:
        """The setting's value without surrounding blanks; missing, empty and invalid ones give `default`."""
        self.asked.add(name)
        value = (self.environ.get(name) or "").strip() or (self.file.get(name) or "").strip()
        if value.startswith(UNRESOLVED_REFERENCE):
            self.problems[name] = (
                "is a Key Vault reference that did not resolve; check that the secret exists "
                "and that the app's identity may read it"
            )
            return default
        return value or default

    def parsed[T](self, name: str, parse: Callable[[str], T], default: str = "") -> T | None:
        """The setting, made into a `T` by `parse`, which raises ValueError with what is wrong."""
        values = self.items(name, parse, default, separator=None)
        return values[0] if values else None

    def items[T](
        self, name: str, parse: Callable[[str], T], default: str = "", *, separator: str | None = ",", required: bool = True
    ) -> list[T]:
        """The parts of a setting, each made into a `T` by `parse`; empty when any is missing or invalid."""
        text = self.text(name, default)
        if not text:
            if required:
                self.problems.setdefault(name, "is missing")
            return []
        parsed: list[T] = []
        parts = [part.strip() for part in text.split(separator)] if separator else [text]
        if not all(parts):
            self.problems[name] = "has an empty entry; remove the superfluous comma"
            return []
        try:
            for part in parts:
                parsed.append(parse(part))  # noqa: PERF401, the error tells how far it came
        except ValueError as exc:
            entry = f" (entry {len(parsed) + 1} of {len(parts)})" if len(parts) > 1 else ""
            self.problems[name] = f"{exc}{entry}"
            return []
        return parsed

    def optional[T](self, name: str, parse: Callable[[str], T]) -> T | None:
        return self.parsed(name, parse) if self.text(name) else None

    def seconds(self, name: str, default: float) -> float:
        return self.parsed(name, positive_number, str(default)) or default

    def count(self, name: str, default: int) -> int:
        return self.parsed(name, positive_integer, str(default)) or default
