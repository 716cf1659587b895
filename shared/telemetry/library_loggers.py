"""Keep the loggers of libraries from writing prompts, replies and keys."""

import logging

# At DEBUG, which `func start` turns on for every library, these write requests and responses, those of the identity
# endpoint among them.
VERBOSE = ("azure.core", "azure.monitor", "httpcore2", "httpx2", "msal", "openai", "urllib3")
# What uvicorn writes about a response that ends without its last chunk.
UNFINISHED = "ASGI callable returned without completing response."


def quiet() -> None:
    """Set the levels of the libraries' loggers. Call it once, when the app loads."""
    for name in VERBOSE:
        logging.getLogger(name).setLevel(logging.WARNING)
    # Its warnings repeat the token provider's errors.
    logging.getLogger("azure.identity").setLevel(logging.ERROR)
    # Its warnings quote the caller's `tracestate`.
    logging.getLogger("opentelemetry.trace.span").setLevel(logging.ERROR)
    # uvicorn writes the query string, which may have a function key (`?code=`). A filter, because the runtime sets this
    # logger's level and handlers after the app has loaded.
    logging.getLogger("uvicorn.access").addFilter(lambda _: False)
    # A stream that breaks ends without its last chunk, on purpose; the access log reports it.
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.msg != UNFINISHED)
