"""Turn exceptions into HTTP responses, in one place."""

import functools
import logging
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from azurefunctions.extensions.http.fastapi import Response

from shared.errors import REQUEST_ID, GatewayError, InternalError, SettingsError, UpstreamErrorResponse

logger = logging.getLogger(__name__)


def as_gateway_error(exc: Exception) -> GatewayError:
    """Return `exc` if it is a `GatewayError`, else an `InternalError`. Log what the operator must know."""
    if isinstance(exc, SettingsError):
        logger.error("The app is not configured (request_id=%s). %s", exc.request_id, exc)
    elif not isinstance(exc, GatewayError):
        # The exception's text stays out of the log: libraries put request headers and bodies there.
        where = "".join(traceback.format_tb(exc.__traceback__))
        error = InternalError()
        logger.error("Unexpected %s (request_id=%s):\n%s", type(exc).__qualname__, error.request_id, where)
        return error
    return exc


def as_responses[**P](handler: Callable[P, Awaitable[Response]]) -> Callable[P, Awaitable[Response]]:
    """Decorate a function so that its exceptions become responses."""

    @functools.wraps(handler)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> Any:
        try:
            return await handler(*args, **kwargs)
        except Exception as exc:
            return response_for(as_gateway_error(exc))

    return wrapper


def response_for(error: GatewayError) -> Response:
    """Return the response for `error`.

    This is a function of its own because a local variable in the `except` block above would keep the traceback, and
    with it the request, in memory.
    """
    own = {} if isinstance(error, UpstreamErrorResponse) else {REQUEST_ID: error.request_id}
    return Response(error.body(), error.status, {"content-type": "application/json", **error.headers, **own})
