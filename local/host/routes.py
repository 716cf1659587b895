"""Route templates of HTTP triggers, matched as the Functions host matches them."""

import re
from collections.abc import Iterable
from urllib.parse import unquote

from local.host.worker import Function

# The constraints of ASP.NET Core that route templates of functions use, as patterns of one segment.
CONSTRAINTS = {"int": r"-?\d+", "long": r"-?\d+", "guid": r"[0-9a-fA-F-]{36}", "alpha": r"[A-Za-z]+", "bool": r"true|false"}
SEGMENT = r"[^/]+"
RESERVED = ("admin", "runtime")


class Route:
    """An HTTP function's address: its template below the host's prefix, and the methods it takes (none: all)."""

    def __init__(self, function: Function, prefix: str) -> None:
        self.function = function
        self.methods: list[str] = [method.upper() for method in function.trigger.get("methods") or ()]
        self.own_template: str = (function.trigger.get("route") or function.name).strip("/")
        self.template = f"{prefix.strip('/')}/{self.own_template}".strip("/")
        self.pattern = re.compile("".join(map(segment_pattern, self.template.split("/"))) + "/?", re.IGNORECASE)

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """The route's parameters, or None when the request is for another function."""
        if self.methods and method not in self.methods:
            return None
        found = self.pattern.fullmatch(path)
        return {k: unquote(v) for k, v in found.groupdict().items() if v is not None} if found else None

    def clashes_with(self, other: "Route") -> bool:
        same = self.template.lower() == other.template.lower()
        return same and (not self.methods or not other.methods or bool({*self.methods} & {*other.methods}))


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


def routes_of(functions: Iterable[Function], prefix: str) -> tuple[list[Route], dict[str, str]]:
    """The routes in the order in which the host tries them, and why the functions without one are in error.

    The order is that of the functions' names, ignoring case: a literal does not win over a parameter.
    """
    routes: list[Route] = []
    in_error: dict[str, str] = {}
    for function in sorted((f for f in functions if f.is_http), key=lambda function: function.name.lower()):
        route = Route(function, prefix)
        if route.own_template.lower().startswith(RESERVED):
            in_error[function.name] = "The specified route conflicts with one or more built in routes."
        elif clash := next((other for other in routes if route.clashes_with(other)), None):
            in_error[function.name] = (
                f"The route specified conflicts with the route defined by function '{clash.function.name}'."
            )
        else:
            routes.append(route)
    return routes, in_error
