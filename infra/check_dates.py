"""Fail if a default model retires soon, and warn of old API versions in the templates.

`make check-dates` runs it, and so does a weekly workflow. `make test` does not, because its result depends on the day.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path

INFRA = Path(__file__).parent
# Days that remain to choose another model, to try it and to move to it.
NOTICE = 90


def expiring(models: dict[str, dict[str, str]], today: date) -> list[str]:
    """Return a line for each model that retires within the notice, or has retired."""
    lines = []
    for role, model in models.items():
        days = (date.fromisoformat(model["retires"]) - today).days
        if days <= NOTICE:
            lines.append(
                f"{role}: {model['model']} {model['version']} retires on {model['retires']}, in {days} days. "
                f"Choose another model in infra/models.json; {model['source']} lists them."
            )
    return lines


def old_api_versions() -> str:
    """Return the compiler's warnings of API versions that are over two years old."""
    config = json.loads((INFRA / "bicepconfig.json").read_text())
    config["analyzers"]["core"]["rules"]["use-recent-api-versions"] = {"level": "warning"}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(config, file)
        file.flush()
        command = ["bicep", "lint", str(INFRA / "main.bicep"), "--config", file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stderr  # noqa: S603


def main() -> int:
    models = json.loads((INFRA / "models.json").read_text())
    lines = expiring(models, datetime.now(UTC).date())
    print(*(lines or [f"No default model retires within {NOTICE} days."]), sep="\n")
    if shutil.which("bicep"):
        print(old_api_versions() or "The templates use recent API versions.")
    else:
        print("The Bicep CLI is not on the PATH, so the API versions were not checked.")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
