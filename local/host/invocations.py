"""What is the same for every invocation, however it was triggered: its id, its trace and its lines in the log."""

import logging
import re
import secrets
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-([0-9a-f]{2})")
CALLED = "This function was programmatically called via the host APIs."


@contextmanager
def invocation(function: str, reason: str) -> Iterator[str]:
    """Yields the invocation's id, and logs its begin and its end; it has failed when an exception comes out."""
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


def traceparent(callers: str) -> str:
    """The W3C trace context of an invocation: a new span, in the caller's trace if there is one."""
    found = TRACEPARENT.fullmatch(callers)
    trace_id, flags = found.groups() if found else (secrets.token_hex(16), "01")
    return f"00-{trace_id}-{secrets.token_hex(8)}-{flags}"
