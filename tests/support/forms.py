"""Write forms byte by byte, as no HTTP client would."""

BOUNDARY = "a-boundary"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"

type Part = tuple[str, bytes]
"""The headers of a part, without the last line break, and its content."""


def field(name: str, value: str) -> Part:
    return f'Content-Disposition: form-data; name="{name}"', value.encode()


def file(name: str = "file", content: bytes = b"audio", filename: str = "speech.mp3", kind: str = "audio/mpeg") -> Part:
    header = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"'
    return (f"{header}\r\nContent-Type: {kind}" if kind else header), content


def form(*parts: Part) -> bytes:
    """Return the body with these parts."""
    written = (f"--{BOUNDARY}\r\n{headers}\r\n\r\n".encode() + content + b"\r\n" for headers, content in parts)
    return b"".join(written) + f"--{BOUNDARY}--\r\n".encode()
