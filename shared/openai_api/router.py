"""Find the operation for a request to the OpenAI API, check the caller, and serve it."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from difflib import get_close_matches

from azurefunctions.extensions.http.fastapi import Request, Response

from shared.errors import MethodNotAllowed, OperationNotAvailable, PathNotFound, WebSocketNotSupported, cleaned
from shared.openai_api import models
from shared.openai_api.forms import form_in
from shared.openai_api.passthrough import respond
from shared.openai_api.request_body import read_body
from shared.openai_api.translate import form_call, json_call, stored_response_call
from shared.operations import MODEL, MODELS, OPERATIONS, SURFACES, Body, Operation
from shared.settings import Settings
from shared.streaming.disconnects import cancel_on_disconnect
from shared.streaming.event_stream import EventStreamResponse
from shared.telemetry import access_log
from shared.upstream.failover import Failover
from shared.upstream.request import InferenceCall

# All that clients may send. The host responds to others with an empty 404.
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
JSON = "application/json"
# Parts of OpenAI's API that the app lacks. README says why.
NOT_SERVED = {
    "assistants",
    "batches",
    "containers",
    "conversations",
    "evals",
    "files",
    "fine_tuning",
    "moderations",
    "realtime",
    "threads",
    "images/variations",
    "uploads",
    "vector_stores",
    "videos",
}
# Characters. An advice on more would cost time.
LONGEST_PATH = 512

type CallerOf = Callable[[Request], Awaitable[str]]
"""Returns the name of the caller. Raises `GatewayError` if there is none."""


@dataclass(frozen=True)
class Route:
    """The operations at one path of one surface, by their methods."""

    surface: str
    path: str
    """Below the route prefix."""
    pattern: re.Pattern[str]
    operations: dict[str, Operation] = field(default_factory=dict)

    @property
    def methods(self) -> list[str]:
        return [*self.operations, "OPTIONS"]


def pattern_of(path: str) -> re.Pattern[str]:
    """Return the pattern for requests to a path. Names of deployments and models may hold slashes. The host ignores case."""
    pattern = re.escape(path).replace(r"\{id\}", "(?P<id>[^/]+)")
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+)", pattern), re.IGNORECASE | re.ASCII | re.DOTALL)


def routes() -> dict[str, Route]:
    """Return the routes of all surfaces, by their paths. Of those that match a request, the first counts."""
    found: dict[str, Route] = {}
    for surface in SURFACES:
        for operation in OPERATIONS:
            for path in operation.paths_on(surface):
                route = found.setdefault(path, Route(surface, path, pattern_of(path)))
                route.operations[operation.method] = operation
                if operation in (MODELS, MODEL):
                    route.operations["HEAD"] = operation
    return found


ROUTES = routes()
NO_ROUTE = Route("", "", pattern_of(""))


def find(request: Request, root: str) -> tuple[Route, dict[str, str]]:
    """Return the route for a request, with its parameters, or `NO_ROUTE`. `root` is that of the function's route."""
    # The host leaves out the parameter if nothing follows `root`.
    path = f"{root}/{request.path_params.get('path', '')}".removesuffix("/")
    for route in ROUTES.values():
        if found := route.pattern.fullmatch(path):
            return route, found.groupdict()
    return NO_ROUTE, {}


async def serve(request: Request, root: str, failover: Failover, caller_of: CallerOf) -> Response:
    """Serve a request below the function's route, `root`. Raise `GatewayError`."""
    ends = asyncio.get_running_loop().time() + failover.settings.stream_seconds
    route, parameters = find(request, root)
    caller = ""
    operation: Operation | None = None
    async with AsyncExitStack() as files:
        try:
            caller = await caller_of(request)
            operation = operation_for(request, root, route)
            check_availability(operation, route, failover.settings)
            if operation == MODELS:
                return Response(models.list_models(failover.settings), media_type=JSON)
            if operation == MODEL:
                name = models.name_in_path(parameters["model"])
                return Response(models.retrieve_model(name, failover.settings), media_type=JSON)
            call = await call_for(request, operation, parameters, failover.settings, caller, files)
        except Exception as exc:
            raise access_log.rejected(exc, request.scope, caller=caller, operation=operation) from None
        response = await cancel_on_disconnect(request, respond(failover, call, ends))
        if isinstance(response, EventStreamResponse):
            response.files = files.pop_all()
        return response


def options(request: Request, root: str) -> Response:
    """Respond to OPTIONS with the methods of a path. CORS is the platform's, and adds its own headers."""
    route, _ = find(request, root)
    return Response(status_code=204, headers={"allow": ", ".join(route.methods)})


def operation_for(request: Request, root: str, route: Route) -> Operation:
    """Return the operation. Raise `WebSocketNotSupported`, `PathNotFound` or `MethodNotAllowed`."""
    if request.headers.get("upgrade", "").lower() == "websocket":
        raise WebSocketNotSupported
    path = request.scope["path"]
    if route is NO_ROUTE:
        raise PathNotFound(cleaned(path), advice_on(path[:LONGEST_PATH], root))
    try:
        return route.operations[request.method]
    except KeyError:
        raise MethodNotAllowed(cleaned(path), request.method, route.methods) from None


def advice_on(path: str, root: str) -> str:
    """Return what to do about a `path` that no operation has."""
    prefix, *_ = re.split(f"/{root}(?:/|$)", path, maxsplit=1, flags=re.IGNORECASE)
    asked = path.lower().removeprefix(f"{prefix.lower()}/").strip("/")
    surface = max((name for name in SURFACES if f"{asked}/".startswith(f"{name}/")), key=len, default=root)
    below = asked.removeprefix(surface).strip("/")
    if not below:
        return "This is a base URL; clients append paths such as /chat/completions to it."
    if missing := next((name for name in NOT_SERVED if f"{below}/".startswith(f"{name}/")), None):
        return f"This app does not serve {missing}."
    asked = re.sub("/deployments/[^/]+", "/deployments/{deployment}", asked)
    without_deployment = asked.replace("/deployments/{deployment}", "")
    near = [without_deployment] if without_deployment in ROUTES else get_close_matches(asked, ROUTES, 1, cutoff=0.5)
    return f"Did you mean {prefix}/{near[0]}?" if near else f"GET {prefix}/openapi.json describes all paths."


def check_availability(operation: Operation, route: Route, settings: Settings) -> None:
    """Raise `OperationNotAvailable` if the operation is switched off, or missing from the version of Azure's API."""
    if (route.surface, operation) in settings.disabled_operations:
        raise OperationNotAvailable(f"The operator of this app has switched off {operation.path}.")
    if not operation.exists_in(settings.api_version):
        raise OperationNotAvailable(
            f"The API version that this app uses does not have {operation.path}. Its operator can change "
            "AZURE_OPENAI_API_VERSION."
        )


async def call_for(
    request: Request,
    operation: Operation,
    parameters: dict[str, str],
    settings: Settings,
    caller: str,
    files: AsyncExitStack,
) -> InferenceCall:
    """Read the request, and return the call for it. Put the files of a form into the context `files`."""
    if operation.body is Body.NOTHING:
        call = stored_response_call(request, parameters["id"], settings, operation=operation, caller=caller)
        await read_body(request, settings)
        return call
    deployment = models.name_in_path(parameters["deployment"]) if "deployment" in parameters else None
    if operation.body is Body.FORM:
        form = await files.enter_async_context(form_in(request, settings))
        return form_call(request, form, settings, operation=operation, caller=caller, deployment=deployment)
    body = await read_body(request, settings)
    return json_call(request, body, settings, operation=operation, caller=caller, deployment=deployment)
