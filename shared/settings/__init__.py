"""Read the app's settings once, and validate them into one frozen object."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from shared.errors import SettingsError
from shared.operations import Operation
from shared.settings.checks import environment_credentials, regional_endpoints
from shared.settings.disabled import disabled_operations
from shared.settings.entra import EntraSettings, entra_settings
from shared.settings.parsers import (
    CallerKey,
    alias_pair,
    api_key,
    api_version,
    boolean,
    caller_key,
    deployment_name,
    origin,
    quoted,
)
from shared.settings.reader import DOTENV_FILE, SettingsReader

logger = logging.getLogger(__name__)

SCHEDULE_NAME = "HEALTH_CHECK_SCHEDULE"
DEFAULT_SCHEDULE = "0 */5 * * * *"
# Azure sets at least one of these wherever it runs the app: in the plans of Functions, and in Container Apps.
# https://github.com/Azure/azure-functions-host, EnvironmentExtensions.cs, distinguishes the plans by them.
SET_BY_AZURE = ("WEBSITE_INSTANCE_ID", "WEBSITE_SITE_NAME", "WEBSITE_POD_NAME", "CONTAINER_APP_NAME")
KEY_NAMES = ("AZURE_OPENAI_KEY", "AZURE_OPENAI_API_KEY")
# https://learn.microsoft.com/azure/azure-government/compare-azure-government-global-azure and the same for China.
TOKEN_SCOPES = {
    ".azure.us": "https://cognitiveservices.azure.us/.default",
    ".azure.cn": "https://cognitiveservices.azure.cn/.default",
}
PUBLIC_TOKEN_SCOPE = "https://cognitiveservices.azure.com/.default"
# In the lists of endpoints and of keys, `,` separates groups, and `|` the members of a group.
GROUP_SEPARATORS = ",|"


@dataclass(frozen=True)
class Endpoint:
    """One Azure OpenAI resource: its origin, without a trailing slash, and its key, or None with an identity."""

    origin: str
    key: str | None = field(repr=False)
    group: int = 1
    """The number of the group, counting from 1. The endpoints of a group are equals."""


@dataclass(frozen=True)
class Settings:
    """All settings of the app. Times are in seconds, sizes in bytes."""

    endpoints: tuple[Endpoint, ...]
    api_version: str
    default_deployment: str
    deployments: Mapping[str, str]
    """The deployment for each name that callers may use: for deployments themselves, and for aliases."""
    use_identity: bool
    identity_client_id: str | None
    token_scope: str
    caller_keys: tuple[CallerKey, ...]
    entra: EntraSettings | None
    """Which Entra ID tokens of callers are accepted, or None if none are."""
    request_timeout: float
    attempt_timeout: float
    stream_idle: float
    stream_seconds: float
    max_concurrent_calls: int
    max_body_bytes: int
    max_upload_bytes: int
    """The size of forms with files."""
    disabled_operations: frozenset[tuple[str, Operation]]
    """Operations that are switched off, each with the surface on which it is."""
    stream_usage: bool
    is_local: bool
    """Whether the app runs on a developer's machine and not in Azure."""
    warnings: tuple[str, ...] = ()
    """Likely mistakes, in words for the operator."""

    @property
    def identity(self) -> str:
        """Return the name of the identity for operators."""
        if self.identity_client_id:
            return self.identity_client_id
        return "(system-assigned, or yours, by az login)" if self.is_local else "(system-assigned)"

    @property
    def auth_advice(self) -> str:
        """Return what an operator can do when Azure rejects the app's credentials."""
        if not self.use_identity:
            return "check AZURE_OPENAI_KEY, and whether the resource allows keys (otherwise set AUTHENTICATION=AZURE)"
        return (
            f"give the identity {self.identity} the role 'Cognitive Services OpenAI User' on the resource; it takes up "
            "to five minutes to apply"
        )

    @classmethod
    def from_env(cls, environ: Mapping[str, str], dotenv: Path = DOTENV_FILE) -> "Settings":
        """Return the settings in `environ`; take those that are missing or empty there from the file `dotenv`.

        Raise `SettingsError` with everything that is missing or invalid.
        """
        reader = SettingsReader(environ, dotenv)
        # Reading a setting adds its name to `known`. The schedule is read elsewhere, and the keys only if needed.
        reader.known |= {SCHEDULE_NAME, *KEY_NAMES}
        use_identity = reader.text("AUTHENTICATION").upper() == "AZURE"
        identity_client_id = reader.text("AZURE_CLIENT_ID") or None
        origins = reader.items("AZURE_OPENAI_ENDPOINT", origin, separators=GROUP_SEPARATORS)
        default_deployment = reader.parsed("AZURE_OPENAI_CHATGPT_DEPLOYMENT", deployment_name) or ""
        keys = caller_keys(reader)
        settings = cls(
            endpoints=endpoints(reader, origins, use_identity),
            api_version=reader.parsed("AZURE_OPENAI_API_VERSION", api_version) or "",
            default_deployment=default_deployment,
            deployments=deployments(reader, default_deployment),
            use_identity=use_identity,
            identity_client_id=identity_client_id,
            token_scope=reader.text("AZURE_OPENAI_TOKEN_SCOPE") or token_scope(reader, origins if use_identity else []),
            caller_keys=keys,
            entra=entra_settings(reader, {key.name for key in keys}),
            request_timeout=reader.seconds("REQUEST_TIMEOUT_SECONDS", 200),
            attempt_timeout=reader.seconds("ATTEMPT_TIMEOUT_SECONDS", 100),
            stream_idle=reader.seconds("STREAM_IDLE_SECONDS", 600),
            stream_seconds=reader.seconds("STREAM_SECONDS", 1500),
            max_concurrent_calls=reader.count("MAX_CONCURRENT_CALLS", 1000),
            max_body_bytes=reader.count("MAX_BODY_BYTES", 20 * 1024 * 1024),
            # Azure's limit for audio is 25 MB. The rest is for the other fields.
            max_upload_bytes=reader.count("MAX_UPLOAD_BYTES", 27 * 1024 * 1024),
            disabled_operations=disabled_operations(reader),
            stream_usage=reader.parsed("STREAM_USAGE", boolean, "false") or False,
            is_local=is_local(environ),
            warnings=(
                *reader.warnings,
                *reader.unknown(),
                *(regional_endpoints(origins) if use_identity else ()),
                *(environment_credentials(environ, identity_client_id) if use_identity else ()),
            ),
        )
        if reader.problems:
            raise SettingsError(reader.problems)
        return settings


def health_check_schedule(environ: Mapping[str, str], dotenv: Path = DOTENV_FILE) -> str:
    """Return the schedule of the timer `health_probe`, or the default where it is missing or cannot be read.

    The app reads it while it loads. So this raises nothing and logs what is wrong, and the host checks the expression.
    """
    reader = SettingsReader(environ, dotenv)
    schedule = reader.text(SCHEDULE_NAME, DEFAULT_SCHEDULE)
    for name, problem in reader.problems.items():
        logger.error("%s %s. The health check's schedule is %s", name, problem, schedule)
    return schedule


def endpoints(reader: SettingsReader, origins: list[str], use_identity: bool) -> tuple[Endpoint, ...]:
    """Return an endpoint for each of `origins`, with its group, and with its key unless the identity is used."""
    groups = groups_in(reader.text("AZURE_OPENAI_ENDPOINT"))
    # If that setting cannot be read, it is unknown whether a key is needed.
    if use_identity or "AUTHENTICATION" in reader.problems:
        return tuple(Endpoint(origin, None, group) for origin, group in zip(origins, groups, strict=False))
    name = next((name for name in KEY_NAMES if reader.text(name) or name in reader.problems), KEY_NAMES[0])
    keys = reader.items(name, api_key, separators=GROUP_SEPARATORS)
    authentication = reader.text("AUTHENTICATION", "KEY")
    if authentication.upper() != "KEY":
        reader.warnings.append(f"AUTHENTICATION is {quoted(authentication)}, so an API key is used; set it to AZURE or KEY")
        if not keys:
            reader.problems[name] += f"; AUTHENTICATION is {quoted(authentication)}: set it to AZURE, or give an API key"
    if keys and origins and len(keys) != len(origins):
        reader.problems[name] = f"has {len(keys)} keys for {len(origins)} endpoints; give one for each, in the same order"
    elif keys and origins and groups_in(reader.text(name)) != groups:
        reader.problems[name] = "has other groups than AZURE_OPENAI_ENDPOINT; put ',' and '|' in the same places"
    return tuple(Endpoint(*parts) for parts in zip(origins, keys, groups, strict=False))


def groups_in(text: str) -> list[int]:
    """Return the number of the group of each entry in a list of endpoints or of keys."""
    return [number for number, group in enumerate(text.split(","), start=1) for _ in group.split("|")]


def deployments(reader: SettingsReader, default: str) -> dict[str, str]:
    """Return the deployment for each name that callers may use. If a name is an alias and a deployment, the alias wins."""
    names = {default: default}
    for alias, deployment in reader.items("AZURE_OPENAI_DEPLOYMENTS", alias_pair, required=False):
        if names.setdefault(alias, deployment) != deployment:
            reader.problems["AZURE_OPENAI_DEPLOYMENTS"] = f"gives {alias!r} two meanings; name it once"
    return {deployment: deployment for deployment in names.values()} | names


def token_scope(reader: SettingsReader, origins: list[str]) -> str:
    """Return the audience of tokens for the cloud that `origins` are in."""
    hosts = [urlsplit(origin).hostname or "" for origin in origins]
    scopes = {next((s for suffix, s in TOKEN_SCOPES.items() if host.endswith(suffix)), PUBLIC_TOKEN_SCOPE) for host in hosts}
    if len(scopes) > 1:
        reader.problems.setdefault("AZURE_OPENAI_TOKEN_SCOPE", "is needed, because the endpoints are in different clouds")
    return min(scopes, default=PUBLIC_TOKEN_SCOPE)


def caller_keys(reader: SettingsReader) -> tuple[CallerKey, ...]:
    """Return the keys of callers. Names may repeat, so that a key can be rotated; keys may not."""
    pairs = reader.items("CALLER_KEYS", caller_key, required=False)
    if len({pair.key for pair in pairs}) < len(pairs):
        reader.problems["CALLER_KEYS"] = "has the same key twice; give every caller a different key"
    return tuple(pairs)


def is_local(environ: Mapping[str, str]) -> bool:
    """Return whether the app runs on a developer's machine."""
    in_azure = any(environ.get(name) for name in SET_BY_AZURE)
    return environ.get("AZURE_FUNCTIONS_ENVIRONMENT", "").lower() == "development" and not in_azure
