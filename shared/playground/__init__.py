"""Serve the playground, the chat page: one document with its style and scripts, which may load nothing else."""

import base64
import functools
import hashlib
from pathlib import Path

FOLDER = Path(__file__).parent
STYLE, SCRIPTS = "style.css", ("requests.js", "app.js")


@functools.cache
def page() -> tuple[bytes, dict[str, str]]:
    """Return the page and its headers. The content security policy allows its own script and style by their hashes.

    https://developer.mozilla.org/docs/Web/HTTP/Guides/CSP
    """
    style, script = read(STYLE), "".join(map(read, SCRIPTS))
    text = read("page.html").replace("<style></style>", f"<style>{style}</style>")
    text = text.replace("<script></script>", f"<script>{script}</script>")
    policy = (
        "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        f"script-src 'sha256-{digest(script)}'; style-src 'sha256-{digest(style)}'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    headers = {
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": policy,
        "cache-control": "no-cache",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }
    return text.encode(), headers


def read(name: str) -> str:
    return (FOLDER / name).read_text("utf-8")


def digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
