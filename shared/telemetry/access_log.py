"""Write the access log: one line for each call when it ends, and one for each request that was rejected before."""

import logging
from collections.abc import Iterable

from shared.errors import GatewayError, ModelNotFound, cleaned

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


def reject(error: GatewayError, *, caller: str, operation: str | None, path: str | None = None) -> None:
    """Write the line of a request that the app rejected before any attempt to send it to Azure.

    `caller` is empty if there is no valid key or token.
    """
    write(
        [
            ("caller", caller or UNKNOWN),
            ("operation", operation),
            ("path", path),
            ("model", cleaned(error.model) if isinstance(error, ModelNotFound) else None),
            ("status", error.status),
            ("error", error.code),
            ("attempts", 0),
            ("request_id", error.request_id),
        ]
    )
