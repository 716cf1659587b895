"""Cross-origin requests, as `func start --cors` answers them."""

from dataclasses import dataclass

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler


@dataclass(frozen=True)
class Allowed:
    """The origins that pages may call from (`*`: any), and whether with credentials."""

    origins: tuple[str, ...]
    credentials: bool = False

    def headers(self, origin: str) -> dict[str, str]:
        """What a page from `origin` needs to see in an answer; nothing when it is not allowed."""
        if "*" in self.origins and not self.credentials:
            return {"Access-Control-Allow-Origin": "*"}
        if origin not in self.origins and "*" not in self.origins:
            return {}
        credentials = {"Access-Control-Allow-Credentials": "true"} if self.credentials else {}
        return {"Access-Control-Allow-Origin": origin, "Vary": "Origin", **credentials}


def add(application: web.Application, allowed: Allowed) -> None:
    """Makes `application` answer preflights by itself, before anything else, and mark its other answers."""

    @web.middleware
    async def preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
        method = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_METHOD)
        if request.method != hdrs.METH_OPTIONS or not method or hdrs.ORIGIN not in request.headers:
            return await handler(request)
        response = web.Response(status=204)
        if allowed.headers(request.headers[hdrs.ORIGIN]):
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = method
            if wanted := request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS):
                response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = wanted
        return response

    async def mark(request: web.Request, response: web.StreamResponse) -> None:
        if hdrs.ORIGIN in request.headers:
            response.headers.update(allowed.headers(request.headers[hdrs.ORIGIN]))

    application.middlewares.append(preflight)
    application.on_response_prepare.append(mark)
