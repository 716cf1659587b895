"""Route templates of HTTP triggers, matched as the Functions host matches them."""

import re
from collections.abc import Iterable
from urllib.parse import unquote

from local.worker import Function

# The constraints of ASP.NET Core that route templates of functions use, as patterns of one segment.
CONSTRAINTS = {"int": r"-?\d+", "long": r"-?\d+", "guid": r"[0-9a-fA-F-]{36}", "alpha": r"[A-Za-z]+", "bool": r"true|false"}
SEGMENT = r"[^/]+"


class Route:
    """An HTTP function's address: its template below the host's prefix, and the methods it takes."""

    def __init__(self, function: Function, prefix: str) -> None:
        self.function = function
        self.methods: list[str] = [method.upper() for method in function.trigger.get("methods") or ()]
        parts = (prefix.strip("/"), function.trigger.get("route") or function.name)
        self.template = "/".join(part.strip("/") for part in parts if part)
        self.pattern = re.compile("".join(segment_pattern(s) for s in self.template.split("/")) + "/?", re.IGNORECASE)

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """The route's parameters, or None when the request is for another function."""
        if self.methods and method not in self.methods:
            return None
        found = self.pattern.fullmatch(path)
        return {k: unquote(v) for k, v in found.groupdict().items() if v is not None} if found else None


def segment_pattern(segment: str) -> str:
    """A pattern for `segment` and the slash before it."""
    parameter = re.fullmatch(r"\{(\*{0,2})(\w+)((?::\w+)*)(\?)?\}", segment)
    if not parameter:
        return "/" + re.escape(segment)
    catch_all, name, constraints, optional = parameter.groups()
    value = ".*" if catch_all else SEGMENT
    for constraint in constraints.split(":")[1:]:
        value = CONSTRAINTS.get(constraint, value)
    pattern = f"/(?P<{name}>{value})"
    return f"(?:{pattern})?" if optional or catch_all else pattern


def routes_of(functions: Iterable[Function], prefix: str) -> list[Route]:
    """The routes in the order in which the host tries them: by the functions' names, ignoring case."""
    ordered = sorted((f for f in functions if f.is_http), key=lambda function: function.name.lower())
    return [Route(function, prefix) for function in ordered]
