"""App settings as `func start` provides them: from local.settings.json, and some of its own."""

import json
import sys
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class LocalSettings:
    """What the file local.settings.json says, and what the person at the terminal should know of it."""

    values: dict[str, Any] = field(default_factory=dict)
    host: dict[str, Any] = field(default_factory=dict)
    """The section for the host itself: `LocalHttpPort`, `CORS`, `CORSCredentials`."""
    messages: list[str] = field(default_factory=list)
    problem: str = ""
    """Why the file cannot be used."""

    @classmethod
    def read(cls, path: Path) -> "LocalSettings":
        """The settings in the file `path`; none where there is no such file or it cannot be used."""
        if not path.exists():
            return cls()
        try:
            content = json.loads(path.read_text("utf-8-sig"))
            values, host = dict(content.get("Values") or {}), dict(content.get("Host") or {})
            encrypted = content.get("IsEncrypted", True)
        except (OSError, ValueError, TypeError, AttributeError) as exc:
            return cls(problem=f"{path.name} is ignored, because it is no valid JSON object of settings: {exc}")
        if encrypted:
            # Core Tools can decrypt what it has encrypted itself; a file without IsEncrypted counts as encrypted.
            told = f'Failed to decrypt settings. Set "IsEncrypted" to false in {path.name} to use its values as they are.'
            return cls(host=host, problem=told)
        return cls(values, host)

    def add_to(self, environ: MutableMapping[str, str]) -> None:
        """Adds the values to `environ`, where what is set and not empty stays."""
        taken = 0
        for name, value in self.values.items():
            if value is None:
                self.messages.append(f"Skipping '{name}' because value is null")
            elif not isinstance(value, str):
                self.messages.append(f"Skipping '{name}' because its value is not a string")
            elif environ.get(name):
                self.messages.append(
                    f"Skipping '{name}' from local settings as it's already defined in current environment variables."
                )
            elif not name or "=" in name or "\0" in name + value:
                self.messages.append(f"Skipping '{name}' because it cannot be an environment variable")
            else:
                environ[name] = value
                taken += 1
        if self.values:
            self.messages.append(f"{taken} value(s) from local.settings.json")


def add_host_settings(environ: MutableMapping[str, str], app_root: Path, port: int) -> None:
    """What the host and Core Tools set for the app: the first four always, the others where nothing else has."""
    environ["FUNCTIONS_CORETOOLS_ENVIRONMENT"] = "true"
    environ["WEBSITE_HOSTNAME"] = f"localhost:{port}"
    environ["AzureWebJobsScriptRoot"] = str(app_root)
    environ["FUNCTIONS_WORKER_RUNTIME_VERSION"] = f"{sys.version_info.major}.{sys.version_info.minor}"
    environ.setdefault("FUNCTIONS_WORKER_RUNTIME", "python")
    environ.setdefault("PYTHON_ENABLE_DEBUG_LOGGING", "1")
    environ.setdefault("PYTHON_THREADPOOL_THREAD_COUNT", "1000")
