"""Write the access log: one line for each call, when it ends."""

import logging
from collections.abc import Iterable

logger = logging.getLogger(__name__)


def write(fields: Iterable[tuple[str, object]], *, printed: bool) -> None:
    """Write a line of `name=value` for those `fields` that have a value.

    A line is printed if the function has returned its response by then, because the host drops log records from then on.
    """
    line = "Call " + " ".join(f"{name}={value}" for name, value in fields if value is not None and value != "")
    if printed:
        print(line, flush=True)
    else:
        logger.info("%s", line)
