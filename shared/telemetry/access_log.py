"""Write the access log: one line for each call, when it ends."""

import logging
from collections.abc import Iterable

logger = logging.getLogger(__name__)


def write(fields: Iterable[tuple[str, object]], *, stream: bool) -> None:
    """Write a line of `name=value` for those `fields` that have a value.

    The lines of streams are printed: the host drops log records that a stream writes, because to the host its
    invocation has ended.
    """
    line = "Call " + " ".join(f"{name}={value}" for name, value in fields if value is not None and value != "")
    if stream:
        print(line, flush=True)
    else:
        logger.info("%s", line)
