"""The stand-ins that `python -m local` starts when no endpoint is configured, and the settings that lead to them."""

import secrets
from collections.abc import Mapping, MutableMapping

from local.serving import Servers
from local.simulator.azure_openai import AzureOpenAI
from local.simulator.identity_endpoint import IdentityEndpoint
from local.simulator.tokens import TokenMint
from shared.errors import SettingsError
from shared.settings import KEY_NAMES, Settings
from shared.settings.reader import SettingsReader

DEFAULTS = {
    # A dated version that has all the routes.
    "AZURE_OPENAI_API_VERSION": "2025-04-01-preview",
    "AZURE_OPENAI_CHATGPT_DEPLOYMENT": "gpt-4o-mini",
    "AZURE_OPENAI_DEPLOYMENTS": "text-embedding-3-small",
}
# Seconds between the pieces of a stream: about the pace of a model.
HUMAN_PACE = 0.06


async def simulate(
    environ: MutableMapping[str, str], settings: SettingsReader, servers: Servers, *, identity: bool
) -> list[str]:
    """Starts the stand-ins, points the settings in `environ` at them, and returns what to tell about them.

    With `identity`, the app gets tokens from a stand-in for the identity endpoint, and no key is anywhere.
    """
    for name in KEY_NAMES:
        environ.pop(name, None)
    for name, value in DEFAULTS.items():
        if not settings.text(name):
            environ[name] = value
    lines = []
    mint = TokenMint() if identity else None
    key = "" if identity else secrets.token_hex(16)
    if mint:
        environ["AUTHENTICATION"] = "AZURE"
        client_id = settings.text("AZURE_CLIENT_ID")
        endpoint = IdentityEndpoint(mint, [client_id] if client_id else [])
        address = await servers.start(endpoint.application())
        environ.update(IDENTITY_ENDPOINT=f"{address}/msi/token", IDENTITY_HEADER=endpoint.header)
        lines.append(f"Identity:  stand-in for the managed identity's endpoint at {address}")
    else:
        environ.update(AUTHENTICATION="KEY", AZURE_OPENAI_KEY=key)
    model = AzureOpenAI((), keys=[key] if key else [], mint=mint, pace=HUMAN_PACE)
    environ["AZURE_OPENAI_ENDPOINT"] = address = await servers.start(model.application())
    model.deployments = deployments(environ)
    lines.append(f"Model:     stand-in for Azure OpenAI at {address}; no model is behind it")
    return lines


def deployments(environ: Mapping[str, str]) -> set[str]:
    """What the stand-in has to have deployed, as far as the settings are valid."""
    try:
        return set(Settings.from_env(environ).deployments.values())
    except SettingsError:
        return set()
