"""Repair half a surrogate pair: in JSON, an escape such as `\\ud83d` without its other half, which msgspec rejects."""

import re

# In JSON without escaped backslashes.
HALF_PAIR = re.compile(rb"\\u[dD][89abAB]\w\w(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]\w\w)\\u[dD][c-fC-F]\w\w")
SURROGATE = re.compile("[\ud800-\udfff]")


def replace_half_pairs(json: bytes, replacement: bytes = rb"\ufffd") -> tuple[bytes, int]:
    """Return JSON of the same meaning with `replacement`, an escape, for each half of a pair, and their number."""
    return HALF_PAIR.subn(lambda _: replacement, json.replace(rb"\\", rb"\u005c"))


def whole_characters(text: str) -> str:
    """Return `text` with the two halves of each pair joined, and U+FFFD for each half that is alone."""
    if not SURROGATE.search(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
