"""Parse the texts of settings: return the value, or raise ValueError with what is wrong.

The errors are for the operator. They follow the name of the setting, and never repeat a secret.
"""

import re
from dataclasses import dataclass, field

import httpx2

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
ALIAS = re.compile(r"[A-Za-z0-9._:/-]{1,64}")
API_VERSION = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(-preview)?|v1", re.IGNORECASE)
PRINTABLE = re.compile(r"[\x21-\x7e]+")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Straight quotes, and those that word processors put in their place.
QUOTES = re.compile("[\"'“”„‘’].*[\"'“”‘’]", re.DOTALL)
# App Service leaves a reference as it is if it cannot resolve it. By its beginning: the name, and what to check.
# https://learn.microsoft.com/azure/app-service/app-service-key-vault-references and the same for App Configuration
REFERENCES = {
    "@microsoft.keyvault(": ("a Key Vault reference", "the secret exists and that the app's identity may read it"),
    "@microsoft.appconfiguration(": (
        "an App Configuration reference",
        "the key exists with that label and that the app's identity may read it",
    ),
}
# From azureopenai.env.example and local.settings.json.example.
EXAMPLE_HOST, EXAMPLE_KEY = "//NAME.", "KEY-OF-THE-RESOURCE"
# In characters.
SHORTEST_CALLER_KEY = 16
LONGEST_QUOTE = 24
# In seconds: a day. Larger numbers are usually milliseconds.
LONGEST_TIME = 86400


@dataclass(frozen=True)
class CallerKey:
    """A key that opens /api/v1 and /api/openai, and the caller's name for logs and metrics."""

    name: str
    key: str = field(repr=False)


def quoted(text: str) -> str:
    """Return `text` in quotes for an error, or only its length if it may be a key in the wrong setting."""
    return repr(text) if len(text) <= LONGEST_QUOTE else f"a text of {len(text)} characters"


def whole(text: str) -> str:
    """Return a setting's text. Raise ValueError if it is an unresolved reference, or has quotes around it."""
    for beginning, (name, check) in REFERENCES.items():
        if text.lower().startswith(beginning):
            raise ValueError(f"is {name} that did not resolve; check that {check}")
    if QUOTES.fullmatch(text):
        raise ValueError("has quotes around it; remove them")
    return text


def entry(text: str) -> str:
    """Return an entry of a setting, or a part of one. Raise ValueError if it holds a reference, or has quotes around it."""
    for beginning, (name, _) in REFERENCES.items():
        if beginning in text.lower():
            raise ValueError(f"holds {name} that did not resolve; a reference must be the whole setting")
    return whole(text)


def origin(text: str) -> str:
    """Return the origin of the resource's URL, such as https://name.openai.azure.com, without a trailing slash."""
    try:
        url = httpx2.URL(text)
        port = 443 if url.port is None else url.port
        is_valid = bool(PRINTABLE.fullmatch(text)) and url.scheme in ("http", "https") and 0 < port < 65536
        # Raises UnicodeError where Python's name lookup would, at every call.
        is_valid = bool(is_valid and url.host.encode("idna"))
    except (httpx2.InvalidURL, UnicodeError):
        is_valid = False
    if not is_valid:
        raise ValueError("is not a URL; it should look like https://NAME.openai.azure.com")
    if url.scheme == "http" and url.host not in LOOPBACK:
        raise ValueError("must begin with https:// (http:// is only for localhost)")
    if EXAMPLE_HOST in text:
        raise ValueError("still has the example's NAME; replace it with the name of your resource")
    bare = f"{url.scheme}://{url.netloc.decode()}"
    if str(url).rstrip("/") != bare:
        raise ValueError(f"must be the bare URL of the resource: use {bare}")
    return bare


def api_version(text: str) -> str:
    """Return the API version in lower case: v1, or a date, which may end in -preview."""
    if not API_VERSION.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not an API version; use a dated one such as 2024-10-21, or v1")
    return text.lower()


def deployment_name(text: str) -> str:
    """Return the name of a deployment."""
    # A name of dots would lead to another operation of the resource.
    if not NAME.fullmatch(text) or not text.strip("."):
        raise ValueError(f"{quoted(text)} is not a deployment's name; use 1 to 64 letters, digits, '-', '_' and '.'")
    return text


def alias_pair(text: str) -> tuple[str, str]:
    """Return the alias and the deployment of alias=deployment; a deployment alone is its own alias."""
    alias, _, deployment = (entry(part.strip()) for part in text.partition("="))
    deployment = deployment_name(deployment or alias)
    if not ALIAS.fullmatch(alias) or not alias.strip("."):
        raise ValueError(f"{quoted(alias)} is not an alias; use 1 to 64 letters, digits, '-', '_', '.', ':' and '/'")
    return alias, deployment


def caller_key(text: str) -> CallerKey:
    """Return the caller's name and key of name=key."""
    name, _, key = (entry(part.strip()) for part in text.partition("="))
    if not NAME.fullmatch(name):
        raise ValueError("must be name=key, with a name of 1 to 64 letters, digits, '-', '_' and '.'")
    if len(key) < SHORTEST_CALLER_KEY:
        raise ValueError(f"has a key of fewer than {SHORTEST_CALLER_KEY} characters; it must be name=key")
    return CallerKey(name, printable(key))


def printable(text: str) -> str:
    """Return `text` if a header can hold it. The error does not repeat it, since it may be a secret."""
    if not PRINTABLE.fullmatch(text):
        raise ValueError("must be printable ASCII without blanks")
    return text


def api_key(text: str) -> str:
    """Return a key of an Azure OpenAI resource."""
    if text == EXAMPLE_KEY:
        raise ValueError("still has the example's text; replace it with the resource's key, or set AUTHENTICATION=AZURE")
    return printable(text)


def boolean(text: str) -> bool:
    """Return the boolean for the text true or false, ignoring case."""
    if text.lower() not in ("true", "false"):
        raise ValueError("must be true or false")
    return text.lower() == "true"


def positive_number(text: str) -> float:
    """Return a number of seconds greater than 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0 < number <= LONGEST_TIME:
        raise ValueError(f"must be a number of seconds greater than 0 and at most {LONGEST_TIME}")
    return number


def positive_integer(text: str) -> int:
    """Return a whole number greater than 0."""
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise ValueError("must be a whole number greater than 0")
    return int(text)
