"""Decide which headers of Azure's responses clients may see."""

from collections.abc import Mapping

import httpx2

# These pass, besides the content type.
RETURNED_HEADERS = (
    "apim-request-id",
    "x-request-id",
    "x-ms-request-id",
    "x-ms-client-request-id",
    "x-ms-region",
    "retry-after",
    "retry-after-ms",
)
RETURNED_PREFIX = "x-ratelimit-"


def returned_headers(response: httpx2.Response) -> dict[str, str]:
    """Return the headers of Azure's response that clients may see."""
    return header_safe(
        {
            name: value
            for name, value in response.headers.items()
            if name in RETURNED_HEADERS or name.startswith(RETURNED_PREFIX)
        }
    )


def content_type(response: httpx2.Response) -> str:
    """Return the content type of Azure's response, JSON where it is missing or unusable."""
    text: str = response.headers.get("content-type", "")
    return text if text and is_header_safe(text) else "application/json"


def header_safe(headers: Mapping[str, str]) -> dict[str, str]:
    """Return those of `headers` whose values are printable ASCII, because every server can send these."""
    return {name: value for name, value in headers.items() if is_header_safe(value)}


def is_header_safe(value: str) -> bool:
    return value.isascii() and value.isprintable()
