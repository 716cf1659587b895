"""Provide app settings as `func start` does: from local.settings.json, and those that the host sets itself."""

import json
import sys
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class LocalSettings:
    """Hold the content of local.settings.json, and messages about it for the terminal."""

    values: dict[str, Any] = field(default_factory=dict)
    host: dict[str, Any] = field(default_factory=dict)
    """The settings of the host itself: `LocalHttpPort`, `CORS`, `CORSCredentials`."""
    messages: list[str] = field(default_factory=list)
    problem: str = ""
    """The reason why the file cannot be used."""

    @classmethod
    def read(cls, path: Path) -> "LocalSettings":
        """Read the settings from the file `path`. Return none if the file does not exist or cannot be used."""
        if not path.exists():
            return cls()
        try:
            content = json.loads(path.read_text("utf-8-sig"))
            values, host = dict(content.get("Values") or {}), dict(content.get("Host") or {})
            encrypted = content.get("IsEncrypted", True)
        except (OSError, ValueError, TypeError, AttributeError) as exc:
            return cls(problem=f"{path.name} is ignored, because it is not a valid JSON object of settings: {exc}")
        if encrypted:
            # Like Core Tools, treat a file without IsEncrypted as encrypted. Only Core Tools have the key to decrypt it.
            problem = f'Failed to decrypt settings. Set "IsEncrypted" to false in {path.name} to use its values as they are.'
            return cls(host=host, problem=problem)
        return cls(values, host)

    def add_to(self, environ: MutableMapping[str, str]) -> None:
        """Add the values to `environ`, except for variables that are already set and not empty."""
        added = 0
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
                added += 1
        if self.values:
            self.messages.append(f"{added} value(s) from local.settings.json")


def set_host_variables(environ: MutableMapping[str, str], app_root: Path, port: int) -> None:
    """Set the variables that the host and Core Tools set: the first four always, the others only if they are missing."""
    environ["FUNCTIONS_CORETOOLS_ENVIRONMENT"] = "true"
    environ["WEBSITE_HOSTNAME"] = f"localhost:{port}"
    environ["AzureWebJobsScriptRoot"] = str(app_root)
    environ["FUNCTIONS_WORKER_RUNTIME_VERSION"] = f"{sys.version_info.major}.{sys.version_info.minor}"
    environ.setdefault("FUNCTIONS_WORKER_RUNTIME", "python")
    environ.setdefault("PYTHON_ENABLE_DEBUG_LOGGING", "1")
    environ.setdefault("PYTHON_THREADPOOL_THREAD_COUNT", "1000")
