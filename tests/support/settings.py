"""Read settings that are valid but for the changes of a test."""

from pathlib import Path

import pytest

from shared.errors import SettingsError
from shared.settings import Settings

ENDPOINT = "https://name.openai.azure.com"
KEY = "0123456789abcdef-secret"
VALID = {
    "AZURE_OPENAI_ENDPOINT": ENDPOINT,
    "AZURE_OPENAI_KEY": KEY,
    "AZURE_OPENAI_API_VERSION": "2024-10-21",
    "AZURE_OPENAI_CHATGPT_DEPLOYMENT": "chat",
}
TENANT = "aaaabbbb-0000-cccc-1111-dddd2222eeee"
CLIENT = "00001111-aaaa-2222-bbbb-3333cccc4444"
# Each setting for tokens needs these.
TOKENS = {"CALLER_TENANT_ID": TENANT, "CALLER_AUDIENCE": CLIENT}


def settings(dotenv: Path = Path("absent.env"), /, **changes: str) -> Settings:
    return Settings.from_env(VALID | changes, dotenv)


def problems(**changes: str) -> dict[str, str]:
    """Return what is wrong with the settings, by their names."""
    with pytest.raises(SettingsError) as caught:
        settings(**changes)
    return caught.value.problems
