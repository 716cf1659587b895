"""Handle cross-origin requests as `func start --cors` does."""

from dataclasses import dataclass

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler


@dataclass(frozen=True)
class CorsPolicy:
    """Hold the allowed origins (`*` allows any), and whether requests may carry credentials."""

    origins: tuple[str, ...]
    credentials: bool = False

    def headers(self, origin: str) -> dict[str, str]:
        """Return the headers that let pages from `origin` read a response, or none if the origin is not allowed."""
        if "*" in self.origins and not self.credentials:
            return {"Access-Control-Allow-Origin": "*"}
        if origin not in self.origins and "*" not in self.origins:
            return {}
        credentials = {"Access-Control-Allow-Credentials": "true"} if self.credentials else {}
        return {"Access-Control-Allow-Origin": origin, "Vary": "Origin", **credentials}

    def add_to(self, application: web.Application) -> None:
        """Make `application` respond to preflights before anything else, and add headers to all its responses."""

        @web.middleware
        async def respond_to_preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
            method = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_METHOD)
            if request.method != hdrs.METH_OPTIONS or not method or hdrs.ORIGIN not in request.headers:
                return await handler(request)
            response = web.Response(status=204)
            if self.headers(request.headers[hdrs.ORIGIN]):
                response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = method
                if requested := request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS):
                    response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = requested
            return response

        async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
            if hdrs.ORIGIN in request.headers:
                response.headers.update(self.headers(request.headers[hdrs.ORIGIN]))

        application.middlewares.append(respond_to_preflight)
        application.on_response_prepare.append(add_headers)
