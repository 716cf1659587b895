"""Provide settings as `func start` does: from host.json and local.settings.json, and those that the host sets itself."""

import sys
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.json_files import as_boolean, as_text, member, read_object, section

DEFAULT_PORT = 7071
MAX_PORT = 65535
LOG_LEVELS = {"Trace": 5, "Debug": 10, "Information": 20, "Warning": 30, "Error": 40, "Critical": 50, "None": 60}


@dataclass(frozen=True)
class HostJson:
    """Hold the part of host.json that the local host uses."""

    route_prefix: str
    log_level: str
    """A key of LOG_LEVELS."""

    @classmethod
    def read(cls, path: Path) -> "HostJson":
        """Read the file `path`. Raise ValueError with a message for the terminal if it cannot be used."""
        try:
            content = read_object(path)
            http, levels = section(content, "extensions", "http"), section(content, "logging", "logLevel")
            prefix = as_text(member(http, "routePrefix", "api"), "extensions.http.routePrefix")
            level = as_text(member(levels, "default"), "logging.logLevel.default").title() or "Information"
            if level not in LOG_LEVELS:
                raise ValueError(f"logging.logLevel.default is not one of {', '.join(LOG_LEVELS)}")
        except ValueError as exc:
            raise ValueError(f"{path.name} cannot be used, because {exc}.") from exc
        return cls(prefix, level)


@dataclass
class LocalSettings:
    """Hold the content of local.settings.json, and messages about it for the terminal."""

    values: dict[str, str | None] = field(default_factory=dict)
    port: int = DEFAULT_PORT
    cors: str = ""
    """Comma-separated origins of web pages that may call the app."""
    cors_credentials: bool = False
    messages: list[str] = field(default_factory=list)
    problem: str = ""
    """The reason why the file cannot be used."""

    @classmethod
    def read(cls, path: Path) -> "LocalSettings":
        """Read the settings from the file `path`. Return the defaults if the file does not exist or cannot be used."""
        if not path.exists():
            return cls()
        try:
            content = read_object(path)
            values = section(content, "Values")
            encrypted = as_boolean(member(content, "IsEncrypted"), "IsEncrypted", default=True)
            host = section(content, "Host")
            found = cls(
                {name: None if value is None else as_text(value, f"Values.{name}") for name, value in values.items()},
                local_http_port(member(host, "LocalHttpPort")),
                as_text(member(host, "CORS"), "Host.CORS"),
                as_boolean(member(host, "CORSCredentials"), "Host.CORSCredentials", default=False),
            )
        except ValueError as exc:
            return cls(problem=f"{path.name} is ignored, because {exc}.")
        if encrypted and values:
            # Like Core Tools, treat a file without IsEncrypted as encrypted. Only Core Tools have the key to decrypt it.
            found.values = {}
            found.problem = (
                f'Failed to decrypt settings. Set "IsEncrypted" to false in {path.name} to use its values as they are.'
            )
        return found

    def add_to(self, environ: MutableMapping[str, str]) -> None:
        """Add the values to `environ`, except for variables that are already set and not empty."""
        added = 0
        for name, value in self.values.items():
            if value is None:
                self.messages.append(f"Skipping '{name}' because value is null")
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


def local_http_port(value: Any) -> int:
    """Return `value` as a port, or the default if it is missing or 0. Raise ValueError if it is no port."""
    text = as_text(value, "Host.LocalHttpPort").strip() or "0"
    if not text.isdecimal() or int(text) > MAX_PORT:
        raise ValueError(f"Host.LocalHttpPort is not a number from 0 to {MAX_PORT}")
    return int(text) or DEFAULT_PORT


def set_host_variables(environ: MutableMapping[str, str], app_root: Path, port: int) -> None:
    """Set the variables that the host and Core Tools set: the first four always, the others only if they are missing."""
    environ["FUNCTIONS_CORETOOLS_ENVIRONMENT"] = "true"
    environ["WEBSITE_HOSTNAME"] = f"localhost:{port}"
    environ["AzureWebJobsScriptRoot"] = str(app_root)
    environ["FUNCTIONS_WORKER_RUNTIME_VERSION"] = f"{sys.version_info.major}.{sys.version_info.minor}"
    environ.setdefault("FUNCTIONS_WORKER_RUNTIME", "python")
    environ.setdefault("PYTHON_ENABLE_DEBUG_LOGGING", "1")
    environ.setdefault("PYTHON_THREADPOOL_THREAD_COUNT", "1000")
