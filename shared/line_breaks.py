"""Let paths with a line break reach the functions."""

from starlette.convertors import PathConvertor, register_url_convertor


class AnyPath(PathConvertor):
    regex = "(?s:.*)"


def accept_line_breaks() -> None:
    """Replace Starlette's `path` convertor, whose pattern stops at a line break (`%0A`).

    The runtime's web server would respond 404 to such a path by itself; the function's invocation would wait for its
    request until functionTimeout, and then the host would restart the worker, for everybody. Call it when the app loads.
    """
    register_url_convertor("path", AnyPath())
