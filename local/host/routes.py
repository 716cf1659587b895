"""Match request paths with the route templates of HTTP triggers, as the Functions host does."""

import re
from collections.abc import Iterable

from local.host.worker import Function

# Constraints of ASP.NET Core that functions use in their routes, each as a pattern for one segment.
CONSTRAINTS = {"int": r"-?\d+", "long": r"-?\d+", "guid": r"[0-9a-fA-F-]{36}", "alpha": r"[A-Za-z]+", "bool": r"true|false"}
SEGMENT = r"[^/]+"
RESERVED = ("admin", "runtime")


class Route:
    """Hold the route template of an HTTP function, with the host's prefix, and its methods. No methods means all."""

    def __init__(self, function: Function, prefix: str) -> None:
        self.function = function
        self.methods: list[str] = [method.upper() for method in function.trigger.get("methods") or ()]
        self.own_template: str = (function.trigger.get("route") or function.name).strip("/")
        self.template = f"{prefix.strip('/')}/{self.own_template}".strip("/")
        pattern = "".join(map(segment_pattern, self.template.split("/"))) + "/?"
        self.pattern = re.compile(pattern, re.IGNORECASE | re.ASCII | re.DOTALL)

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """Return the route parameters, without empty ones, or None if the route does not match the decoded path."""
        if self.methods and method not in self.methods:
            return None
        found = self.pattern.fullmatch(path)
        return {name: value for name, value in found.groupdict().items() if value} if found else None

    def conflicts_with(self, other: "Route") -> bool:
        same = self.template.lower() == other.template.lower()
        return same and (not self.methods or not other.methods or bool({*self.methods} & {*other.methods}))


def segment_pattern(segment: str) -> str:
    """Return a pattern for `segment` of a template and the slash before it."""
    parameter = re.fullmatch(r"\{(\*{0,2})(\w+)((?::\w+)*)(\?)?\}", segment)
    if not parameter:
        return "/" + re.escape(segment)
    catch_all, name, constraints, optional = parameter.groups()
    value = ".*" if catch_all else SEGMENT
    for constraint in constraints.split(":")[1:]:
        value = CONSTRAINTS.get(constraint, value)
    pattern = f"/(?P<{name}>{value})"
    return f"(?:{pattern})?" if optional or catch_all else pattern


def build_routes(functions: Iterable[Function], prefix: str) -> tuple[list[Route], dict[str, str]]:
    """Return the routes in the order in which the host tries them, and the errors of functions without a valid route.

    The host sorts functions by name, ignoring case. A literal segment has no precedence over a parameter.
    """
    routes: list[Route] = []
    errors: dict[str, str] = {}
    for function in sorted((f for f in functions if f.is_http), key=lambda function: function.name.lower()):
        route = Route(function, prefix)
        if route.own_template.lower().startswith(RESERVED):
            errors[function.name] = "The specified route conflicts with one or more built in routes."
        elif conflict := next((other for other in routes if route.conflicts_with(other)), None):
            errors[function.name] = (
                f"The route specified conflicts with the route defined by function '{conflict.function.name}'."
            )
        else:
            routes.append(route)
    return routes, errors
