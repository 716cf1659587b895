"""Define the exceptions that the app turns into error responses.

    GatewayError
      ├ BadRequest                 400  the request is malformed; `param` names the field
      ├ Unauthorized               401  the caller's key or token is missing or wrong
      ├ InvalidToken               401  the caller's Entra ID token is not valid here
      ├ MissingRole                403  the caller's Entra ID token is valid, but lacks the role
      ├ ModelNotFound              404  no deployment or alias has this name
      ├ ResponseNotFound           404  the id cannot belong to a stored response
      ├ PathNotFound               404  no operation has this path
      ├ OperationNotAvailable      404  the operation is switched off, or Azure's API version lacks it
      ├ MethodNotAllowed           405  the path has other methods
      ├ RequestTimeout             408  the body did not arrive in time
      ├ RequestTooLarge            413  the body is larger than MAX_BODY_BYTES, or a form than MAX_UPLOAD_BYTES
      ├ UnsupportedEncoding        415  the body is compressed
      ├ WebSocketNotSupported      426  the client asks for a WebSocket
      ├ ClientDisconnected         499  the client disconnected; nobody reads this response
      ├ UpstreamErrorResponse       *   Azure's own error response, passed on verbatim
      ├ UpstreamFailure             *   Azure failed, and its response would not help the caller
      ├ ReportedError              502  Azure reported an error in a stream of /api/chat; sent as an event
      ├ UpstreamAuthError          502  Azure rejected the app's credentials, or no token is available
      ├ UpstreamNetworkError       502  the resource's network rules exclude the app
      ├ DeploymentNotFound         502  a configured deployment does not exist, or its model is retired
      ├ UpstreamUnreachable        502  the endpoint sent no response
      ├ StreamInterrupted          502  a stream ended too early; sent as an event
      ├ StreamTooLong              502  STREAM_SECONDS have passed; sent as an event
      ├ SigningKeysUnavailable     503  Entra ID's signing keys, which check a caller's token, cannot be fetched
      ├ SettingsError              503  app settings are missing or invalid
      ├ TooManyConcurrentRequests  503  MAX_CONCURRENT_CALLS is reached
      ├ DeadlineExceeded           504  REQUEST_TIMEOUT_SECONDS have passed
      └ InternalError              500  any other exception

Operators read the log, callers read the response: a response never contains an endpoint's name, a secret or
the text of an unexpected exception.
"""

import re
import secrets
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import ClassVar, NamedTuple

import msgspec

# Keeps the openai SDKs from retrying. https://github.com/openai/openai-python, `BaseClient._should_retry`
DO_NOT_RETRY = {"x-should-retry": "false"}
# The header that OpenAI's clients show to their users. Azure sends it as well.
REQUEST_ID = "x-request-id"
# What decoding JSON raises.
INVALID_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class GatewayError(Exception):
    """A failure with a response: the class gives status, type and code, the text is the message."""

    status: int
    type: ClassVar[str] = "server_error"
    code: str | None

    def __init__(self, message: str, *, param: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.headers = dict(headers or {})

    @cached_property
    def request_id(self) -> str:
        """Return the id that the response, its header and the log have in common: Azure's if it sent one."""
        given = self.headers.get(REQUEST_ID, "")
        return given if given and given == loggable(given) else secrets.token_hex(16)

    def body(self) -> bytes:
        """Return the response's JSON in OpenAI's format: `{"error": {"message", "type", "param", "code", "request_id"}}`."""
        return msgspec.json.encode({"error": {**self.detail(), "request_id": self.request_id}})

    def detail(self) -> dict[str, str | None]:
        """Return OpenAI's error object: `{"message", "type", "param", "code"}`."""
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.code}


class BadRequest(GatewayError):
    """The request is malformed; `param` names the field, where there is one."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class Unauthorized(GatewayError):
    """The caller's key or token is missing or wrong."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"www-authenticate": "Bearer"})


class InvalidToken(GatewayError):
    """The caller's Entra ID token is not valid here. The header is that of RFC 6750, section 3."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_token"

    def __init__(self, reason: str = "") -> None:
        message = f"This Entra ID token is not valid here{': ' * bool(reason)}{reason}."
        super().__init__(
            message, headers={"www-authenticate": f'Bearer error="invalid_token", error_description="{message}"'}
        )


class MissingRole(GatewayError):
    """The caller's Entra ID token is valid, but lacks the role CALLER_ROLE, or a user's the scope of that name."""

    status = 403
    type = "invalid_request_error"
    code = "missing_role"

    def __init__(self, *, has_role: bool) -> None:
        super().__init__(
            "This Entra ID token is valid, but it lacks the scope for this app. Request a token for its scope, api://.../.default."
            if has_role
            else "This Entra ID token is valid, but it lacks the role for this app. Ask the app's operator for it."
        )


class ModelNotFound(GatewayError):
    """The settings list no deployment and no alias of this name."""

    status = 404
    type = "invalid_request_error"
    code = "model_not_found"

    def __init__(self, model: str) -> None:
        super().__init__(f"There is no model {model[:64]!r} here. GET /api/v1/models lists the models.", param="model")
        self.model = model


class ResponseNotFound(GatewayError):
    """The id of the stored response is malformed: it must have 1 to 128 letters, digits, `_` and `-`."""

    status = 404
    type = "invalid_request_error"
    code = "response_not_found"

    def __init__(self) -> None:
        super().__init__("No response has this id. Check the id.")


class PathNotFound(GatewayError):
    """No operation has the path."""

    status = 404
    type = "invalid_request_error"
    code = "path_not_found"

    def __init__(self, path: str, advice: str) -> None:
        super().__init__(f"There is nothing at {path}. {advice}")


class OperationNotAvailable(GatewayError):
    """The operator has switched the operation off, or the configured version of Azure's API lacks it."""

    status = 404
    type = "invalid_request_error"
    code = "operation_not_available"


class MethodNotAllowed(GatewayError):
    """The path has other methods, which the header `Allow` lists."""

    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"

    def __init__(self, path: str, method: str, allowed: Iterable[str]) -> None:
        methods = ", ".join(allowed)
        super().__init__(f"{path} does not have the method {method}. It has {methods}.", headers={"allow": methods})


class RequestTimeout(GatewayError):
    """The request's body did not arrive within REQUEST_TIMEOUT_SECONDS."""

    status = 408
    type = "invalid_request_error"
    code = "request_timeout"

    def __init__(self) -> None:
        super().__init__("The request's body did not arrive in time. Try again.")


class RequestTooLarge(GatewayError):
    """The request's body is larger than MAX_BODY_BYTES, or than MAX_UPLOAD_BYTES if it is a form."""

    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class UnsupportedEncoding(GatewayError):
    """The request's body is compressed."""

    status = 415
    type = "invalid_request_error"
    code = "unsupported_encoding"

    def __init__(self) -> None:
        super().__init__("The request's body must not be compressed. Send it without a content-encoding.")


class WebSocketNotSupported(GatewayError):
    """The client asks for a WebSocket. Codex falls back to HTTP at once when it gets this status.

    https://www.rfc-editor.org/rfc/rfc9110#status.426 requires a header `upgrade`, which the host would drop.
    """

    status = 426
    type = "invalid_request_error"
    code = "websocket_not_supported"

    def __init__(self) -> None:
        super().__init__("This app has no WebSockets. Use HTTP.")


class ClientDisconnected(GatewayError):
    """The client disconnected before it had the whole response.

    The status is nginx's for the same event, since HTTP defines none.
    """

    status = 499
    code = "caller_gone"

    def __init__(self) -> None:
        super().__init__("The client disconnected.")


class UpstreamErrorResponse(GatewayError):
    """An error response of Azure's that the caller should read: status, body and the allowed headers, verbatim."""

    code = None

    def __init__(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        super().__init__(f"Azure OpenAI responded with {status}.", headers=headers)
        self.status = status
        self.content = content

    def body(self) -> bytes:
        return self.content


class UpstreamFailure(GatewayError):
    """Azure failed, and its response would not help the caller."""

    code = "upstream_error"

    def __init__(
        self, status: int, headers: Mapping[str, str], message: str = "The model service failed. Try again."
    ) -> None:
        super().__init__(message, headers=headers)
        self.status = status


class ReportedError(GatewayError):
    """An error that Azure has reported in a stream, with Azure's code. The client of /api/chat gets it as the last event."""

    status = 502
    code = None

    def __init__(self, code: str, message: str = "The model service failed. Try again.") -> None:
        super().__init__(message)
        self.code = code or UpstreamFailure.code


class UpstreamAuthError(GatewayError):
    """Azure rejected the app's credentials, or no token is available."""

    status = 502
    code = "upstream_auth"

    def __init__(self) -> None:
        super().__init__("This app could not sign in to the model service. Its operator can see why in the log.")


class UpstreamNetworkError(GatewayError):
    """The resource accepts no calls from the app's network, or none with a token at this URL."""

    status = 502
    code = "upstream_network"

    def __init__(self) -> None:
        super().__init__("The model service accepts no calls from this app. Its operator can see why in the log.")


class DeploymentNotFound(GatewayError):
    """A configured deployment does not exist on the endpoint, or its model is retired."""

    status = 502
    code = "deployment_not_found"

    def __init__(self) -> None:
        super().__init__("The model deployment does not exist. The operator of this app can see which one in the log.")


class UpstreamUnreachable(GatewayError):
    """The endpoint sent no response, or its connection broke while the body was read."""

    status = 502
    code = "upstream_unreachable"

    def __init__(self) -> None:
        super().__init__("The model service could not be reached. Try again.")


class StreamInterrupted(GatewayError):
    """A stream ended before its content was complete. The client gets this as the last event."""

    status = 502
    code = "stream_broken"

    def __init__(self, message: str = "The stream was interrupted before its end. Try again.") -> None:
        super().__init__(message)


class StreamTooLong(GatewayError):
    """A response took longer than STREAM_SECONDS. The client of a stream gets this as the last event."""

    status = 502
    code = "stream_too_long"

    def __init__(self) -> None:
        super().__init__("The response took longer than this app allows, and was cut off.")


class SigningKeysUnavailable(GatewayError):
    """Entra ID's signing keys, which check a caller's token, cannot be fetched."""

    status = 503
    code = "signing_keys_unavailable"

    def __init__(self) -> None:
        super().__init__("Entra ID tokens cannot be checked at the moment. Try again.")


class SettingsError(GatewayError):
    """App settings are missing or invalid; reports all of them at once.

    `problems` maps each setting's name to what is wrong with it, in words for the operator and without any
    secret. `str()` is the whole report; callers see the names alone.
    """

    status = 503
    code = "not_configured"

    def __init__(self, problems: Mapping[str, str]) -> None:
        message = f"This app is not configured yet. Missing or invalid app settings: {', '.join(problems)}."
        super().__init__(message, headers=DO_NOT_RETRY)
        self.problems = dict(problems)

    def __str__(self) -> str:
        return "; ".join(f"{name}: {problem}" for name, problem in self.problems.items())


class TooManyConcurrentRequests(GatewayError):
    """This process has MAX_CONCURRENT_CALLS calls in flight."""

    status = 503
    code = "too_many_calls"

    def __init__(self) -> None:
        super().__init__("Too many concurrent requests. Try again.", headers={"retry-after": "1"})


class DeadlineExceeded(GatewayError):
    """Azure did not respond within REQUEST_TIMEOUT_SECONDS."""

    status = 504
    code = "deadline_exceeded"

    def __init__(self, *, was_sent: bool = True) -> None:
        sent = "It may have been at work, so the request may be billed all the same."
        super().__init__(f"The model service did not respond in time. {sent if was_sent else 'Try again.'}")


class InternalError(GatewayError):
    """Any exception other than a `GatewayError`."""

    status = 500
    code = "internal_error"

    def __init__(self) -> None:
        super().__init__("Something went wrong inside this app. Its operator can see where in the log.")


class ErrorDetail(NamedTuple):
    """The `error` object of one of Azure's error responses, with empty texts for what it lacks. The code is safe to log."""

    code: str = ""
    message: str = ""
    param: str = ""
    type: str = ""


def error_detail(body: bytes) -> ErrorDetail:
    """Return the error object in the body of an error response. Some of Azure's gateways send its fields without `error`."""
    try:
        found = msgspec.json.decode(body)
    except INVALID_JSON:
        return ErrorDetail()
    return error_in(found.get("error") or found) if isinstance(found, dict) else ErrorDetail()


def error_in(fields: object) -> ErrorDetail:
    """Return the error object in decoded JSON."""
    if not isinstance(fields, dict):
        return ErrorDetail()
    code, *texts = (str(fields.get(name) or "") for name in ErrorDetail._fields)
    return ErrorDetail(loggable(code), *texts)


def cleaned(text: str) -> str:
    """Return at most 64 characters of a path or a name that a client has sent, fit for the log.

    They are printable ASCII, without blanks and `=`, which separate the fields of a line.
    """
    return re.sub("[^!-<>-~]+", "_", text[:128])[:64]


def loggable(text: str) -> str:
    """Return the letters, digits and `._-` of a text that Azure sent, at most 64 characters."""
    return "".join(c for c in text if c.isalnum() or c in "._-")[:64]
