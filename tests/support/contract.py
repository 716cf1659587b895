"""What of a caller's headers goes on to Azure, and what every error tells."""

import json

from tests.support.processes import Json

CALLERS_SECRETS = {
    "authorization": "Bearer callers-own",
    "cookie": "session=callers-own",
    "x-functions-key": "callers-own",
    "x-api-key": "callers-own",
    "openai-organization": "callers-own",
}
PASSED_ON = {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "tracestate": "a=b", "x-client-request-id": "17"}
ALLOWED = {"host", "content-length", "content-type", "accept", "accept-encoding", "user-agent", "api-key"}


def error_of(body: bytes) -> Json:
    error: Json = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error
