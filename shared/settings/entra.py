"""Read the settings for callers with Entra ID tokens, CALLER_TENANT_ID and those that belong to it."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from shared.settings.parsers import LOOPBACK, NAME, origin, printable, quoted
from shared.settings.reader import SettingsReader

GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
# The tenants of https://learn.microsoft.com/entra/identity-platform/v2-protocols#endpoints that stand for more than one.
MANY_TENANTS = ("common", "organizations", "consumers")
# Azure's own APIs. A token for one of them was not issued for this app: whoever receives it there could use it here, too.
AZURE_DOMAINS = (
    "azure.com",
    "azure.us",
    "azure.cn",
    "azure.net",
    "microsoft.com",
    "microsoft.us",
    "windows.net",
    "office.com",
    "office365.com",
)
# The ids that the Microsoft Graph, Azure Resource Manager, Cognitive Services and Foundry have in every tenant.
# https://learn.microsoft.com/troubleshoot/entra/entra-id/governance/verify-first-party-apps-sign-in
AZURE_APPS = (
    "00000003-0000-0000-c000-000000000000",
    "797f4846-ba00-4fd7-ba43-dac1f8f63013",
    "7d312290-28c8-473c-a0ed-8e53749b6d6d",
    "18a66f5f-dbdf-4c17-9dd7-1634712a9cbe",
)
PUBLIC_AUTHORITY = "https://login.microsoftonline.com"
DEFAULT_ROLE = "Model.Invoke"
NEEDED = ("CALLER_TENANT_ID", "CALLER_AUDIENCE")
OPTIONAL = ("CALLER_ROLE", "CALLER_NAMES", "CALLER_AUTHORITY")


@dataclass(frozen=True)
class EntraSettings:
    """Whose tokens are accepted, and with which role."""

    tenant_id: str
    """The tenant's GUID, in lower case."""
    audiences: tuple[str, ...]
    role: str
    names: Mapping[str, str]
    """Names for the object ids of users and apps, and for the client ids of apps, in lower case."""
    authority: str
    """The origin of the URLs from which tokens and signing keys come."""


def entra_settings(reader: SettingsReader, key_names: Collection[str]) -> EntraSettings | None:
    """Return the settings, or None if no tenant is configured. `key_names` are the callers that have keys."""
    given = [name for name in (*NEEDED, *OPTIONAL) if reader.text(name) or name in reader.problems]
    if not given:
        return None
    for name in NEEDED:
        if name not in given:
            reader.problems[name] = f"is needed, because {given[0]} is set"
    names: dict[str, str] = {}
    for name, identifier in reader.items("CALLER_NAMES", caller_name, required=False):
        if name in key_names:
            reader.problems["CALLER_NAMES"] = f"names {name!r}, which CALLER_KEYS has, too; give every caller one name"
        if names.setdefault(identifier, name) != name:
            reader.problems["CALLER_NAMES"] = f"gives {identifier} two names; name it once"
    authority = reader.environ.get("AZURE_AUTHORITY_HOST", "").strip() or PUBLIC_AUTHORITY
    return EntraSettings(
        tenant_id=reader.parsed("CALLER_TENANT_ID", tenant_id) or "",
        audiences=tuple(reader.items("CALLER_AUDIENCE", audience)),
        role=reader.parsed("CALLER_ROLE", printable, DEFAULT_ROLE) or DEFAULT_ROLE,
        names=names,
        authority=reader.parsed("CALLER_AUTHORITY", authority_origin, authority) or PUBLIC_AUTHORITY,
    )


def tenant_id(text: str) -> str:
    """Return the GUID of one tenant, in lower case."""
    if text.lower() in MANY_TENANTS:
        raise ValueError(f"is {text!r}, which stands for many tenants; use the GUID of yours")
    if not GUID.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not a GUID; `az account show --query tenantId` prints yours")
    return text.lower()


def audience(text: str) -> str:
    """Return an audience of the app's registration: its client id, or an identifier URI such as api://NAME."""
    try:
        host = (urlsplit(text).hostname or text.partition("/")[0].lower()).rstrip(".")
    except ValueError:
        host = ""
    if host in AZURE_APPS or any(host == domain or host.endswith(f".{domain}") for domain in AZURE_DOMAINS):
        raise ValueError(
            f"{text!r} is an audience of Azure's own; use the client id of a registration for this app, or its api:// URI"
        )
    if text.endswith("/.default"):
        raise ValueError(f"{quoted(text)} is a scope; leave out its end, /.default")
    if GUID.fullmatch(text):
        return text.lower()
    if "://" not in text or not host:
        raise ValueError(f"{quoted(text)} is neither a client id nor a URI such as api://NAME")
    return printable(text)


def caller_name(text: str) -> tuple[str, str]:
    """Return the name and the id of name=OBJECT-OR-CLIENT-ID."""
    name, _, identifier = (part.strip() for part in text.partition("="))
    if not NAME.fullmatch(name) or not GUID.fullmatch(identifier):
        raise ValueError("must be name=ID, with a name of 1 to 64 letters, digits, '-', '_' and '.', and a GUID")
    return name, identifier.lower()


def authority_origin(text: str) -> str:
    """Return the origin of the authority, such as https://login.microsoftonline.us."""
    # AZURE_AUTHORITY_HOST may lack the scheme, like in azure-identity.
    url = text if "://" in text else f"https://{text}"
    try:
        return origin(url.rstrip("/"))
    except ValueError:
        raise ValueError(
            f"is not an authority; it should look like {PUBLIC_AUTHORITY} (http:// is only for {LOOPBACK[0]})"
        ) from None
