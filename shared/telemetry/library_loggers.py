"""Keeps other people's loggers from writing down what nobody may read."""

import logging

# At DEBUG, which `func start` turns on for every library, these write down requests and answers, those of the
# identity endpoint among them.
TALKATIVE = ("azure.core", "azure.monitor", "httpcore2", "httpx2", "msal", "openai", "urllib3")


def quiet() -> None:
    """Sets the levels of libraries' loggers; to be called once, when the app loads."""
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    # Talkative as well, and its warnings repeat what the token provider's errors say.
    logging.getLogger("azure.identity").setLevel(logging.ERROR)
    # Quotes what callers send for a `tracestate`.
    logging.getLogger("opentelemetry.trace.span").setLevel(logging.ERROR)
    # Function keys can come in the query string (`?code=`), and uvicorn writes it out. A filter, since the runtime
    # sets that logger's level and handlers after the app has loaded.
    logging.getLogger("uvicorn.access").addFilter(lambda _: False)
