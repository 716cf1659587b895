"""Find likely mistakes in valid settings, and describe them to the operator."""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

REGIONAL_HOST = re.compile(r"[^.]+\.api\.cognitive\.(microsoft\.com|microsoft\.us|azure\.cn)")
# The variables that a credential needs, for those that DefaultAzureCredential tries before the managed identity, in its
# order: azure.identity, EnvironmentCredential and WorkloadIdentityCredential. The last one is the one to remove.
WORKLOAD_IDENTITY = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE")
EARLIER_CREDENTIALS = (
    ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"),
    ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_CERTIFICATE_PATH"),
    ("AZURE_CLIENT_ID", "AZURE_USERNAME", "AZURE_PASSWORD"),
    WORKLOAD_IDENTITY,
)
# The values of AZURE_TOKEN_CREDENTIALS with which it tries both. With others, it tries what the operator has chosen.
TRIES_BOTH = ("", "prod")


def regional_endpoints(origins: list[str]) -> tuple[str, ...]:
    """Return a warning for each endpoint of a region. Such URLs serve all resources there, and accept no tokens."""
    hosts = [urlsplit(origin).hostname or "" for origin in origins]
    return tuple(
        f"Endpoint {position} is {host}, which accepts no Entra ID tokens; "
        "use the resource's own URL, such as https://NAME.openai.azure.com"
        for position, host in enumerate(hosts, start=1)
        if REGIONAL_HOST.fullmatch(host)
    )


def environment_credentials(environ: Mapping[str, str], client_id: str | None) -> tuple[str, ...]:
    """Return a warning if azure-identity signs in with credentials in `environ` instead of the managed identity.

    `client_id` is the setting AZURE_CLIENT_ID, which the app passes on for a workload identity.
    """
    if environ.get("AZURE_TOKEN_CREDENTIALS", "").strip().lower() not in TRIES_BOTH:
        return ()
    workload = {**environ, "AZURE_CLIENT_ID": client_id}
    found = [
        names
        for names in EARLIER_CREDENTIALS
        # An empty variable makes the others invalid, and a workload identity unavailable.
        if (all(map(workload.get, names)) if names is WORKLOAD_IDENTITY else all(name in environ for name in names))
    ]
    return tuple(
        f"The app signs in with {', '.join(names)}, and not with its managed identity; "
        f"remove {names[-1]}, or choose a credential with AZURE_TOKEN_CREDENTIALS"
        for names in found[:1]
    )
