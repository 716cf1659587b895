"""Write the access log: one line for each call when it ends, and one for each request that was rejected before."""

import logging
from collections.abc import Iterable

from starlette.types import Scope

from shared.error_responses import as_gateway_error
from shared.errors import GatewayError, ModelNotFound, cleaned
from shared.operations import Operation

logger = logging.getLogger(__name__)

# All lines begin with a caller, so that a query finds them. No caller's name has parentheses.
UNKNOWN = "(unknown)"


def write(fields: Iterable[tuple[str, object]], *, printed: bool = False) -> None:
    """Write a line of `name=value` for those `fields` that have a value.

    A line is printed if the function has returned its response by then, because the host drops log records from then on.
    """
    line = "Call " + " ".join(f"{name}={value}" for name, value in fields if value is not None and value != "")
    if printed:
        print(line, flush=True)
    else:
        logger.info("%s", line)


def rejected(exc: Exception, scope: Scope, *, caller: str, operation: Operation | None) -> GatewayError:
    """Return the error for a request that failed before any attempt to send it to Azure, and write its line.

    `caller` is empty without a valid key or token, and `operation` is None if it has not been found.
    """
    error = as_gateway_error(exc)
    write(
        [
            ("caller", caller or UNKNOWN),
            ("operation", operation.name if operation else None),
            ("method", None if operation else scope["method"]),
            ("path", None if operation else cleaned(scope["path"])),
            ("model", cleaned(error.model) if isinstance(error, ModelNotFound) else None),
            ("status", error.status),
            ("error", error.code),
            ("attempts", 0),
            ("request_id", error.request_id),
        ]
    )
    return error
