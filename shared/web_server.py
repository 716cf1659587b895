"""Configure the runtime's web server to pass every request to its function, instead of responding itself.

Otherwise the function's invocation would wait for its request until functionTimeout, and then the host would restart the
worker, for everybody.
"""

from fastapi.applications import FastAPI
from starlette.convertors import PathConvertor, register_url_convertor
from uvicorn.config import WS_PROTOCOLS


class AnyPath(PathConvertor):
    regex = "(?s:.*)"


def forward_everything() -> None:
    """Change the defaults of the web server that the runtime is about to create. Call it when the app loads."""
    # Starlette's own pattern stops at a line break (`%0A`), and the server would respond 404.
    register_url_convertor("path", AnyPath())
    # If a WebSocket library is installed, the server would respond 403 to a client that asks for a WebSocket.
    WS_PROTOCOLS["auto"] = None
    # FastAPI would serve a description of its own at /openapi.json, which with an empty route prefix is this app's path.
    # The runtime passes it no arguments.
    defaults = FastAPI.__init__.__kwdefaults__
    assert defaults
    defaults["openapi_url"] = None
