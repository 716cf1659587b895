"""Give each invocation, whatever its trigger, an id, a trace context and its log records."""

import logging
import re
import secrets
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-([0-9a-f]{2})")
HOST_API_REASON = "This function was programmatically called via the host APIs."


@contextmanager
def invocation(function: str, reason: str) -> Iterator[str]:
    """Yield a new invocation id, and log the start and the end. An exception in the context marks a failure."""
    invocation_id, started = str(uuid.uuid4()), time.monotonic()
    logger.info("Executing 'Functions.%s' (Reason='%s', Id=%s)", function, reason, invocation_id)
    outcome = "Failed"
    try:
        yield invocation_id
        outcome = "Succeeded"
    finally:
        duration = int((time.monotonic() - started) * 1000)
        level = logging.INFO if outcome == "Succeeded" else logging.ERROR
        logger.log(level, "Executed 'Functions.%s' (%s, Id=%s, Duration=%dms)", function, outcome, invocation_id, duration)


def new_traceparent(incoming: str) -> str:
    """Return the W3C trace context of an invocation: a new span, in the trace of `incoming` if that is valid."""
    found = TRACEPARENT.fullmatch(incoming)
    trace_id, flags = found.groups() if found else (secrets.token_hex(16), "01")
    return f"00-{trace_id}-{secrets.token_hex(8)}-{flags}"
