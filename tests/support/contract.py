"""Name the request headers that reach Azure and those that do not, and check the shape of errors."""

import json

from tests.support.processes import Json

# Values of the client's own, which must never reach Azure.
DROPPED_HEADERS = {
    "authorization": "Bearer callers-own",
    "cookie": "session=callers-own",
    "x-functions-key": "callers-own",
    "x-api-key": "callers-own",
    "openai-organization": "callers-own",
}
FORWARDED_HEADERS = {
    "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01",
    "tracestate": "a=b",
    "x-client-request-id": "17",
    "x-ms-client-request-id": "18",
}
# Further headers that may reach Azure.
ALLOWED_HEADERS = {"host", "content-length", "content-type", "accept", "accept-encoding", "user-agent", "api-key"}


FIELDS = {"message", "type", "param", "code"}


def error_of(body: bytes) -> Json:
    """Return one of the app's own errors, after a check that it has all fields of OpenAI's errors and a request id."""
    error: Json = json.loads(body)["error"]
    assert set(error) == {*FIELDS, "request_id"}
    return error


def error_in_event(data: str) -> Json:
    """Return the error in a stream's event, whose headers have had the request id."""
    error: Json = json.loads(data)["error"]
    assert set(error) == FIELDS
    return error
