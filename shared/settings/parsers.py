"""What the text of a setting may be: each function makes one of it, or raises ValueError with what is wrong.

The errors go to the operator, and never repeat a secret.
"""

import ipaddress
import math
import re
from dataclasses import dataclass, field
from datetime import date
from urllib.parse import SplitResult, urlsplit

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
API_VERSION = re.compile(r"(\d{4}-\d{2}-\d{2})(-preview)?")
# What App Service leaves in place of a Key Vault reference that it could not resolve.
UNRESOLVED_REFERENCE = "@Microsoft.KeyVault("
LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
HOST = re.compile(rf"(?:{LABEL}(?:\.{LABEL})*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{1,5}})?")
# What stands in the examples.
EXAMPLE_NAME, EXAMPLE_KEY = "NAME.", "KEY-OF-THE-RESOURCE"
PRINTABLE = re.compile(r"[\x21-\x7e]+")
SHORTEST_CALLER_KEY = 16
LONGEST_QUOTE = 24
# A day, in seconds.
LONGEST_TIME = 86400
# The least and the most of each field, and the names it takes.
NCRONTAB_FIELDS = (
    (0, 59, ""),
    (0, 59, ""),
    (0, 23, ""),
    (1, 31, ""),
    (1, 12, "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC"),
    (0, 6, "SUN MON TUE WED THU FRI SAT"),
)


@dataclass(frozen=True)
class CallerKey:
    """A key that opens /api/v1 and /api/openai, and the name under which its use is recorded."""

    name: str
    key: str = field(repr=False)


def quoted(text: str) -> str:
    """`text` for an error, unless it is so long that it may be a key in the wrong place."""
    return repr(text) if len(text) <= LONGEST_QUOTE else f"a text of {len(text)} characters"


def origin(text: str) -> str:
    try:
        url = urlsplit(text)
        host = url.netloc.rpartition("@")[2]
        valid = url.scheme in ("http", "https") and HOST.fullmatch(host) and url.port != 0
        if re.fullmatch(r"[\d.]+", url.hostname or ""):
            ipaddress.ip_address(url.hostname or "")
    except ValueError:
        valid = None
    if not valid or not PRINTABLE.fullmatch(text):
        raise ValueError("is not a URL; it should look like https://NAME.openai.azure.com")
    if url.scheme == "http" and not is_loopback(url):
        raise ValueError("must begin with https:// (http:// is for this machine alone)")
    if host.startswith(EXAMPLE_NAME):
        raise ValueError("still has the example's NAME; put the name of your resource there")
    bare = f"{url.scheme}://{host}"
    if text.rstrip("/").lower() != bare.lower():
        raise ValueError(f"must be the bare address of the resource: use {bare}")
    return bare


def is_loopback(url: SplitResult) -> bool:
    try:
        return url.hostname == "localhost" or ipaddress.ip_address(url.hostname or "").is_loopback
    except ValueError:
        return False


def api_version(text: str) -> str:
    dated = API_VERSION.fullmatch(text)
    try:
        valid = bool(dated and date.fromisoformat(dated[1])) or text.lower() == "v1"
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(f"{quoted(text)} is not an API version; use a dated one such as 2024-10-21, or v1")
    return text.lower()


def deployment_name(text: str) -> str:
    if not NAME.fullmatch(text) or not text.strip("."):
        raise ValueError(f"{quoted(text)} is not a deployment's name: 1 to 64 letters, digits, '-', '_' and '.'")
    return text


def alias_pair(text: str) -> tuple[str, str]:
    alias, _, deployment = text.partition("=")
    return deployment_name(alias.strip()), deployment_name((deployment or alias).strip())


def caller_key(text: str) -> CallerKey:
    name, _, key = (part.strip() for part in text.partition("="))
    if not NAME.fullmatch(name):
        raise ValueError("must be name=key, the name of letters, digits, '-', '_' and '.'")
    if len(key) < SHORTEST_CALLER_KEY:
        raise ValueError(f"has a key of fewer than {SHORTEST_CALLER_KEY} characters; it must be name=key")
    printable(key)
    return CallerKey(name, key)


def printable(text: str) -> str:
    """A text that can stand in a header; the error does not repeat it, since it may be a secret."""
    if not PRINTABLE.fullmatch(text):
        raise ValueError("has characters that cannot stand in it (blanks, control or non-ASCII characters)")
    if text.startswith(UNRESOLVED_REFERENCE):
        raise ValueError("holds a Key Vault reference that did not resolve")
    return text


def api_key(text: str) -> str:
    """The same, and not the placeholder of the examples."""
    if text == EXAMPLE_KEY:
        raise ValueError("still has the example's text; put the resource's key there, or set AUTHENTICATION=AZURE")
    return printable(text)


def boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("must be true or false")
    return text.lower() == "true"


def ncrontab(text: str) -> str:
    """Six fields, or five without the seconds. https://github.com/atifaziz/NCrontab#crontab-expression"""
    fields = text.split()
    limits = NCRONTAB_FIELDS[-len(fields) :] if len(fields) in (5, 6) else ()
    if not limits or not all(map(is_ncrontab_field, fields, limits)):
        raise ValueError(f"{quoted(text)} is not an NCRONTAB expression such as '0 */5 * * * *'")
    return text


def is_ncrontab_field(field: str, limits: tuple[int, int, str]) -> bool:
    """Whether `field` is a list of numbers, names, ranges and steps within `limits`: the least, the most, the names."""
    low, high, names = limits
    for part in field.split(","):
        found = re.fullmatch(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\d+))?", part, re.ASCII)
        if not found or (found[3] and not int(found[3])):
            return False
        for value in filter(None, found.groups()[:2]):
            named = value.upper() in names.split()
            if not named and not (value.isdecimal() and low <= int(value) <= high):
                return False
    return True


def positive_number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= LONGEST_TIME:
        raise ValueError(f"must be a number of seconds greater than 0, at most {LONGEST_TIME}")
    return number


def positive_integer(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text) or not int(text):
        raise ValueError("must be a whole number greater than 0")
    return int(text)
