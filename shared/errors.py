"""Every failure the app knows, and the one place where a failure becomes a response.

    GatewayError
      ├ BadRequest            400  the caller can fix the request; `param` names the field
      ├ CallerRefused         401  no caller key, or a wrong one
      ├ ModelNotFound         404  no deployment or alias has that name
      ├ ResponseNotFound      404  no stored response can have that id
      ├ BodyTooSlow           408  the body has not come in time
      ├ BodyTooLarge          413
      ├ EncodedBody           415  the body is compressed
      ├ CallerGone            499  the caller hung up; nobody reads this answer
      ├ UpstreamRefusal        *   Azure's own answer, passed on as it came
      ├ UpstreamFailure        *   Azure failed in a way that its answer would not explain to a caller
      ├ UpstreamAuthError     502  Azure refused the app's own credentials, or no token was to be had
      ├ DeploymentNotFound    502  a configured deployment does not exist
      ├ UpstreamUnreachable   502  no answer from the endpoint
      ├ StreamBroken          502  a stream ended before its time; becomes an event, not a response
      ├ SettingsError         503  app settings are missing or invalid
      ├ TooManyCalls          503  this process carries all the calls it may
      ├ DeadlineExceeded      504
      └ UnexpectedError       500  anything else

Operators read the log, callers read the response: a response never holds an endpoint's name, a secret or
the text of an unexpected exception.
"""

import functools
import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar

import msgspec
from azurefunctions.extensions.http.fastapi import Response

logger = logging.getLogger(__name__)


class GatewayError(Exception):
    """A failure with a known answer: its class gives status, type and code, its text the message."""

    status: int
    type: ClassVar[str] = "server_error"
    code: str | None

    def __init__(self, message: str, *, param: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """The error in OpenAI's shape, as JSON."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return msgspec.json.encode({"error": error})


class BadRequest(GatewayError):
    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class CallerRefused(GatewayError):
    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"www-authenticate": "Bearer"})


class ModelNotFound(GatewayError):
    status = 404
    type = "invalid_request_error"
    code = "model_not_found"


class ResponseNotFound(GatewayError):
    status = 404
    type = "invalid_request_error"
    code = "response_not_found"

    def __init__(self) -> None:
        super().__init__("There is no response with that id.")


class BodyTooLarge(GatewayError):
    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class BodyTooSlow(GatewayError):
    status = 408
    type = "invalid_request_error"
    code = "request_timeout"

    def __init__(self) -> None:
        super().__init__("The request's body did not arrive in time.")


class EncodedBody(GatewayError):
    status = 415
    type = "invalid_request_error"
    code = "unsupported_encoding"

    def __init__(self) -> None:
        super().__init__("The request's body must come as plain JSON, without a content-encoding.")


class CallerGone(GatewayError):
    """The status is nginx's for the same event; there is no standard one."""

    status = 499
    code = "caller_gone"

    def __init__(self) -> None:
        super().__init__("The caller hung up.")


class UpstreamRefusal(GatewayError):
    """Azure's answer is the caller's to read: status, body and the headers that may pass, verbatim."""

    code = None

    def __init__(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        super().__init__(f"Azure OpenAI answered {status}.", headers=headers)
        self.status = status
        self.content = content

    def body(self) -> bytes:
        return self.content


class UpstreamFailure(GatewayError):
    code = "upstream_error"

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        super().__init__("The model's service failed to answer. Try again.", headers=headers)
        self.status = status


class UpstreamAuthError(GatewayError):
    status = 502
    code = "upstream_auth"

    def __init__(self) -> None:
        super().__init__("This app could not sign in to the model's service. Its operator can see why in the log.")


class DeploymentNotFound(GatewayError):
    status = 502
    code = "deployment_not_found"

    def __init__(self) -> None:
        super().__init__("The model's deployment does not exist. The operator of this app can see which one in the log.")


class UpstreamUnreachable(GatewayError):
    status = 502
    code = "upstream_unreachable"

    def __init__(self) -> None:
        super().__init__("The model's service could not be reached. Try again.")


class StreamBroken(GatewayError):
    status = 502
    code = "stream_broken"

    def __init__(self) -> None:
        super().__init__("The answer broke off before its end. Try again.")


class SettingsError(GatewayError):
    """App settings are missing or invalid, all of them at once.

    `problems` maps each setting's name to what is wrong with it, in words for the operator, without any
    secret. `str()` is the whole report; callers see the names alone.
    """

    status = 503
    code = "not_configured"

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__(f"This app is not configured yet. Missing or invalid app settings: {', '.join(problems)}.")
        self.problems = dict(problems)

    def __str__(self) -> str:
        return "; ".join(f"{name}: {problem}" for name, problem in self.problems.items())


class TooManyCalls(GatewayError):
    status = 503
    code = "too_many_calls"

    def __init__(self) -> None:
        super().__init__("This app carries as many calls as it may. Try again.", headers={"retry-after": "1"})


class DeadlineExceeded(GatewayError):
    status = 504
    code = "deadline_exceeded"

    def __init__(self) -> None:
        super().__init__("The model's service did not answer in time. Try again.")


class UnexpectedError(GatewayError):
    """What callers see of a failure that nobody foresaw."""

    status = 500
    code = "internal_error"


def as_gateway_error(exc: Exception) -> GatewayError:
    """`exc` itself where it has a known answer, else an `UnexpectedError`; logs what the operator must know."""
    if isinstance(exc, SettingsError):
        logger.error("The app is not configured. %s", exc)
    elif not isinstance(exc, GatewayError):
        # Not the exception's text: libraries put request headers and bodies there.
        where = "".join(traceback.format_tb(exc.__traceback__))
        logger.error("Unexpected %s:\n%s", type(exc).__qualname__, where)
        return UnexpectedError("Something went wrong inside this app. Its operator can see where in the log.")
    return exc


def as_responses[**P](handler: Callable[P, Awaitable[Response]]) -> Callable[P, Awaitable[Response]]:
    """Decorates a function so that what it raises becomes a response."""

    @functools.wraps(handler)
    async def answer(*args: P.args, **kwargs: P.kwargs) -> Any:
        try:
            return await handler(*args, **kwargs)
        except Exception as exc:
            return response_of(as_gateway_error(exc))

    return answer


def response_of(error: GatewayError) -> Response:
    """Apart, since a local name for an exception where it is caught keeps all alive that its traceback leads to."""
    return Response(error.body(), error.status, {"content-type": "application/json", **error.headers})
