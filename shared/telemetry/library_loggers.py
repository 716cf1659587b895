"""Keep the loggers of libraries from writing prompts, replies and keys."""

import logging

# At DEBUG, which `func start` turns on for every library, these write requests and responses, those of the identity
# endpoint among them.
VERBOSE = ("azure.core", "azure.monitor", "httpcore2", "httpx2", "msal", "openai", "urllib3")
# What uvicorn writes about a response that ends without its last chunk, and about a client that asks for a WebSocket.
EXPECTED = (
    "ASGI callable returned without completing response.",
    "Unsupported upgrade request.",
    "No supported WebSocket library detected.",
)


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
    # A stream that breaks ends without its last chunk, on purpose, and Codex tries a WebSocket first. The access log reports
    # both.
    logging.getLogger("uvicorn.error").addFilter(lambda record: not str(record.msg).startswith(EXPECTED))
