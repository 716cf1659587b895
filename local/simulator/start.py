"""Start the simulators for `python -m local`, and point the app's settings at them."""

import secrets
from collections.abc import Mapping, MutableMapping

from local.serving import Servers
from local.simulator.azure_openai import AzureOpenAISimulator
from local.simulator.entra import EntraSimulator
from local.simulator.identity_endpoint import IdentityEndpointSimulator
from local.simulator.routes import OPERATIONS
from local.simulator.tokens import ROLE, TokenIssuer
from shared.errors import SettingsError
from shared.settings import KEY_NAMES, Settings
from shared.settings.reader import SettingsReader

DEFAULTS = {
    # The dated version with the most operations. Only v1 has more.
    "AZURE_OPENAI_API_VERSION": "2025-04-01-preview",
    "AZURE_OPENAI_CHATGPT_DEPLOYMENT": "chat",
    "AZURE_OPENAI_DEPLOYMENTS": "embeddings",
}
# Seconds between the chunks of a stream, about as long as a model takes.
PACE = 0.06


async def start_simulators(
    environ: MutableMapping[str, str], settings: SettingsReader, servers: Servers, issuer: TokenIssuer, *, identity: bool
) -> list[str]:
    """Start the simulators of Azure, put settings for them into `environ`, and return lines for the terminal.

    With `identity`, the app gets tokens of `issuer` from a simulator of the identity endpoint. Otherwise, it gets a key.
    """
    for name in KEY_NAMES:
        environ.pop(name, None)
    for name, value in DEFAULTS.items():
        if not settings.text(name):
            environ[name] = value
    lines = []
    if identity:
        client_id = settings.text("AZURE_CLIENT_ID")
        endpoint = IdentityEndpointSimulator(issuer, [client_id] if client_id else [])
        url = await servers.start(endpoint.application())
        environ.update(AUTHENTICATION="AZURE", IDENTITY_ENDPOINT=f"{url}/msi/token", IDENTITY_HEADER=endpoint.header)
        lines.append(f"Identity:  simulator of the identity endpoint at {url}")
        model = AzureOpenAISimulator((), issuer=issuer, pace=PACE)
    else:
        key = secrets.token_hex(16)
        environ.update(AUTHENTICATION="KEY", AZURE_OPENAI_KEY=key)
        model = AzureOpenAISimulator((), keys=[key], pace=PACE)
    environ["AZURE_OPENAI_ENDPOINT"] = url = await servers.start(model.application())
    model.deployments = configured_deployments(environ)
    model.operations = {name: operations_of(name) for name in model.deployments}
    lines.append(f"Model:     simulator of Azure OpenAI at {url}; it replies without a model")
    return lines


async def start_entra(
    environ: MutableMapping[str, str], settings: SettingsReader, servers: Servers, issuer: TokenIssuer
) -> str:
    """Start the simulator of Entra ID, put settings for its tokens into `environ`, and return a line for the terminal."""
    issuer.role = settings.text("CALLER_ROLE", ROLE)
    url = await EntraSimulator(issuer).start(servers)
    environ.update(issuer.caller_settings())
    return f"Entra ID:  simulator of Entra ID at {url}"


def operations_of(deployment: str) -> set[str]:
    """Return the operations that a model of this name would have: those with "embed" in their names have embeddings only."""
    return {"embeddings"} if "embed" in deployment else set(OPERATIONS) - {"embeddings"}


def configured_deployments(environ: Mapping[str, str]) -> set[str]:
    """Return the deployments that the settings name, or none if the settings are invalid."""
    try:
        return set(Settings.from_env(environ).deployments.values())
    except SettingsError:
        return set()
