"""App settings as `func start` provides them: from local.settings.json, and some of its own."""

import json
import sys
from collections.abc import Iterator, MutableMapping
from pathlib import Path


def load(path: Path, environ: MutableMapping[str, str]) -> Iterator[str]:
    """Adds the `Values` of the file `path` to `environ`, where what is set and not empty stays.

    Yields what the person at the terminal should know, in the words of Core Tools where it has some.
    """
    if not path.exists():
        return
    try:
        content = json.loads(path.read_text("utf-8-sig"))
        values = content.get("Values") or {}
        encrypted = content.get("IsEncrypted", True)
    except (OSError, ValueError, AttributeError) as exc:
        yield f"{path.name} is ignored, because it is no valid JSON object: {exc}"
        return
    if encrypted:
        # Core Tools can decrypt what it has encrypted itself; a file without IsEncrypted counts as encrypted.
        yield f'Failed to decrypt settings. Set "IsEncrypted" to false in {path.name} to use its values as they are.'
        return
    taken = 0
    for name, value in values.items():
        if value is None:
            yield f"Skipping '{name}' because value is null"
        elif not isinstance(value, str):
            yield f"Skipping '{name}' because its value is not a string"
        elif environ.get(name):
            yield (f"Skipping '{name}' from local settings as it's already defined in current environment variables.")
        else:
            environ[name] = value
            taken += 1
    yield f"{taken} value(s) from {path.name}"


def add_host_settings(environ: MutableMapping[str, str], app_root: Path, port: int) -> None:
    """What the host and Core Tools set for the app, beside the app's own settings."""
    environ["FUNCTIONS_CORETOOLS_ENVIRONMENT"] = "true"
    environ["WEBSITE_HOSTNAME"] = f"localhost:{port}"
    environ["AzureWebJobsScriptRoot"] = str(app_root)
    environ["FUNCTIONS_WORKER_RUNTIME_VERSION"] = f"{sys.version_info.major}.{sys.version_info.minor}"
    environ.setdefault("AZURE_FUNCTIONS_ENVIRONMENT", "Development")
    environ.setdefault("FUNCTIONS_WORKER_RUNTIME", "python")
    environ.setdefault("PYTHON_ENABLE_DEBUG_LOGGING", "1")
    environ.setdefault("PYTHON_THREADPOOL_THREAD_COUNT", "1000")
