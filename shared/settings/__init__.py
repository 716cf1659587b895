"""App settings, read once and validated into one frozen object."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from shared.errors import SettingsError
from shared.settings.parsers import (
    CallerKey,
    alias_pair,
    api_key,
    api_version,
    boolean,
    caller_key,
    deployment_name,
    ncrontab,
    origin,
    printable,
    quoted,
)
from shared.settings.reader import DOTENV_FILE, SettingsReader

logger = logging.getLogger(__name__)

SCHEDULE_NAME = "HEALTH_CHECK_SCHEDULE"
DEFAULT_SCHEDULE = "0 */5 * * * *"
# One or the other of these is set wherever Azure runs the app: in the plans of Functions, and in Container Apps.
# https://github.com/Azure/azure-functions-host, EnvironmentExtensions.cs, tells the plans apart by them.
SET_BY_AZURE = ("WEBSITE_INSTANCE_ID", "WEBSITE_SITE_NAME", "WEBSITE_POD_NAME", "CONTAINER_APP_NAME")
KEY_NAMES = ("AZURE_OPENAI_KEY", "AZURE_OPENAI_API_KEY")
# https://learn.microsoft.com/azure/azure-government/compare-azure-government-global-azure and the same for China.
TOKEN_SCOPES = {
    ".azure.us": "https://cognitiveservices.azure.us/.default",
    ".azure.cn": "https://cognitiveservices.azure.cn/.default",
}
PUBLIC_TOKEN_SCOPE = "https://cognitiveservices.azure.com/.default"


@dataclass(frozen=True)
class Endpoint:
    """One Azure OpenAI resource: its origin, without a trailing slash, and its key where keys are used."""

    origin: str
    key: str | None = field(repr=False)


@dataclass(frozen=True)
class Settings:
    """Everything the app can be told. Times are in seconds, sizes in bytes."""

    endpoints: tuple[Endpoint, ...]
    api_version: str
    default_deployment: str
    deployments: Mapping[str, str]
    """What callers may name (deployments and aliases) -> the deployment that answers."""
    use_identity: bool
    identity_client_id: str | None
    token_scope: str
    caller_keys: tuple[CallerKey, ...]
    request_timeout: float
    attempt_timeout: float
    stream_idle: float
    max_concurrent_calls: int
    max_body_bytes: int
    stream_usage: bool
    is_local: bool
    """Whether this is somebody's own machine and not Azure."""
    warnings: tuple[str, ...] = ()
    """What is allowed but looks like a mistake, in words for the operator."""

    @property
    def identity(self) -> str:
        """The identity, as operators know it."""
        if self.identity_client_id:
            return self.identity_client_id
        return "(system-assigned, or yours, by az login)" if self.is_local else "(system-assigned)"

    @property
    def auth_advice(self) -> str:
        """What an operator can do when Azure refuses the app's credentials."""
        if not self.use_identity:
            return "Check AZURE_OPENAI_KEY, and whether the resource allows keys (otherwise set AUTHENTICATION=AZURE)."
        return (
            f"Give the identity {self.identity} the role 'Cognitive Services OpenAI User' on the resource; it takes up "
            "to five minutes to apply. Check the resource's firewall as well."
        )

    @classmethod
    def from_env(cls, environ: Mapping[str, str], dotenv: Path = DOTENV_FILE) -> "Settings":
        """Reads the settings from `environ` and, where it has none or an empty one, from the file `dotenv`.

        Raises `SettingsError` with everything that is missing or invalid.
        """
        reader = SettingsReader(environ, dotenv)
        use_identity = reader.text("AUTHENTICATION", "KEY").upper() == "AZURE"
        origins = reader.items("AZURE_OPENAI_ENDPOINT", origin)
        found = endpoints(reader, origins, use_identity)
        version = reader.parsed("AZURE_OPENAI_API_VERSION", api_version)
        default_deployment = reader.parsed("AZURE_OPENAI_CHATGPT_DEPLOYMENT", deployment_name)
        # Known too, although it is read when the app loads.
        reader.asked.add(SCHEDULE_NAME)
        settings = cls(
            endpoints=found,
            api_version=version or "",
            default_deployment=default_deployment or "",
            deployments=deployments(reader, default_deployment),
            use_identity=use_identity,
            identity_client_id=reader.optional("AZURE_CLIENT_ID", printable),
            token_scope=reader.optional("AZURE_OPENAI_TOKEN_SCOPE", printable)
            or (inferred_token_scope(reader, origins) if use_identity else PUBLIC_TOKEN_SCOPE),
            caller_keys=caller_keys(reader),
            request_timeout=reader.seconds("REQUEST_TIMEOUT_SECONDS", 200),
            attempt_timeout=reader.seconds("ATTEMPT_TIMEOUT_SECONDS", 100),
            stream_idle=reader.seconds("STREAM_IDLE_SECONDS", 120),
            max_concurrent_calls=reader.count("MAX_CONCURRENT_CALLS", 1000),
            max_body_bytes=reader.count("MAX_BODY_BYTES", 20 * 1024 * 1024),
            stream_usage=reader.parsed("STREAM_USAGE", boolean, "false") or False,
            is_local=is_local(environ),
            warnings=(*reader.warnings, *reader.unknown()),
        )
        if reader.problems:
            raise SettingsError(reader.problems)
        return settings


def health_check_schedule(environ: Mapping[str, str], dotenv: Path = DOTENV_FILE) -> str:
    """When the timer `health_probe` fires, an NCRONTAB expression. Read when the app loads, so nothing is raised:

    an invalid one is named in the log, and the default used.
    """
    reader = SettingsReader(environ, dotenv)
    schedule = reader.parsed(SCHEDULE_NAME, ncrontab, DEFAULT_SCHEDULE)
    if SCHEDULE_NAME in reader.problems:
        logger.error("%s %s. %s is used instead", SCHEDULE_NAME, reader.problems[SCHEDULE_NAME], DEFAULT_SCHEDULE)
    return schedule or DEFAULT_SCHEDULE


def endpoints(reader: SettingsReader, origins: list[str], use_identity: bool) -> tuple[Endpoint, ...]:
    """The endpoints with their keys; none has a key when the identity is used."""
    reader.asked.update(KEY_NAMES)
    if use_identity:
        return tuple(Endpoint(origin, None) for origin in origins)
    authentication = reader.text("AUTHENTICATION", "KEY")
    is_odd = authentication.upper() != "KEY"
    not_azure = f"AUTHENTICATION is {quoted(authentication)}, which is not 'AZURE'"
    if is_odd:
        reader.warnings.append(f"{not_azure}: an API key is used")
    name = next((name for name in KEY_NAMES if reader.text(name)), KEY_NAMES[0])
    keys = reader.items(name, api_key)
    if not keys:
        if is_odd:
            reader.problems[name] += f"; {not_azure}, so an API key is needed"
        return ()
    if origins and len(keys) != len(origins):
        reader.problems[name] = f"has {len(keys)} keys for {len(origins)} endpoints; give one for each, in the same order"
        return ()
    return tuple(Endpoint(*pair) for pair in zip(origins, keys, strict=False))


def deployments(reader: SettingsReader, default: str | None) -> dict[str, str]:
    """What callers may name. A deployment answers to its aliases, and to its own name unless that is another's alias."""
    names = {default: default} if default else {}
    for alias, deployment in reader.items("AZURE_OPENAI_DEPLOYMENTS", alias_pair, required=False):
        if names.setdefault(alias, deployment) != deployment:
            reader.problems["AZURE_OPENAI_DEPLOYMENTS"] = f"gives {alias!r} two meanings; name it once"
    return {deployment: deployment for deployment in names.values()} | names


def inferred_token_scope(reader: SettingsReader, origins: list[str]) -> str:
    """The token audience of the cloud that the endpoints are in."""
    hosts = [urlsplit(origin).hostname or "" for origin in origins]
    scopes = {next((s for suffix, s in TOKEN_SCOPES.items() if host.endswith(suffix)), PUBLIC_TOKEN_SCOPE) for host in hosts}
    if len(scopes) > 1:
        reader.problems["AZURE_OPENAI_TOKEN_SCOPE"] = "is needed, because the endpoints are in different clouds"
    return min(scopes, default=PUBLIC_TOKEN_SCOPE)


def is_local(environ: Mapping[str, str]) -> bool:
    """Whether a host on somebody's own machine runs the app."""
    in_azure = any(environ.get(name) for name in SET_BY_AZURE)
    return environ.get("AZURE_FUNCTIONS_ENVIRONMENT", "").lower() == "development" and not in_azure


def caller_keys(reader: SettingsReader) -> tuple[CallerKey, ...]:
    """The keys of callers. Names may repeat, so that a key can be rotated; keys may not."""
    pairs = reader.items("CALLER_KEYS", caller_key, required=False)
    if len({pair.key for pair in pairs}) < len(pairs):
        reader.problems["CALLER_KEYS"] = "has the same key twice; give every caller a key of its own"
    return tuple(pairs)
