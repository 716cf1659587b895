"""A page to chat with the app in a browser: one file that brings all it needs, and may load nothing else."""

import base64
import functools
import hashlib
import re
from pathlib import Path

PAGE = Path(__file__).with_name("playground.html")
ELEMENT = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)


@functools.cache
def page() -> tuple[bytes, dict[str, str]]:
    """The page, and the headers to send it with. Its own script and style are allowed by their hashes, others are not.

    https://developer.mozilla.org/docs/Web/HTTP/Guides/CSP
    """
    text = PAGE.read_text()
    hashes = {
        name: base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for name, content in ELEMENT.findall(text)
    }
    policy = (
        "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        f"script-src 'sha256-{hashes['script']}'; style-src 'sha256-{hashes['style']}'; "
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
