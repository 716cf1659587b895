"""Serve the OpenAPI description of this app's API, openapi.json."""

import functools
import json
from pathlib import Path
from typing import Any


def description(path: str) -> dict[str, Any]:
    """Return the OpenAPI document for a request to `path`. Its server URL is the folder of `path`, for any route prefix."""
    return {**document(), "servers": [{"url": path.rstrip("/").rpartition("/")[0] or "/"}]}


@functools.cache
def document() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))
    return content
