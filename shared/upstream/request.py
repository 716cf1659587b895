"""Describe one call to Azure OpenAI, independent of the endpoint that will serve it."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import httpx2

from shared.operations import Operation


class State(NamedTuple):
    """What a call refers to and only one endpoint has, such as a stored response, as keys (see `affinity`)."""

    keys: tuple[bytes, ...] = ()
    is_needed: bool = False
    """Whether Azure needs it to serve the call. Otherwise, the keys are those of items that the call contains in full. Azure
    rejects some of them if another resource has created them.
    """


NO_STATE = State()


class FormBody(httpx2.AsyncByteStream):
    """An encoded form and its headers, `content-type` and `content-length`. It can be read again for another attempt."""

    def __init__(self, encoded: httpx2.Request) -> None:
        self.headers = encoded.headers
        assert isinstance(encoded.stream, httpx2.AsyncByteStream)
        self.stream = encoded.stream
        self.size = int(encoded.headers["content-length"])
        self.is_sent = False
        """Whether the latest attempt has come to the end. Azure cannot work on a form without its end."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.is_sent, left = False, self.size
        async for chunk in self.stream:
            left -= len(chunk)
            self.is_sent = not left
            yield chunk


@dataclass(frozen=True, kw_only=True)
class InferenceCall:
    """A call: the operation and its path, the deployment, the body, the caller, and the form of the response."""

    operation: Operation
    path: str
    """Below the endpoint's base URL."""
    deployment: str
    """Empty for a stored response."""
    body: bytes | FormBody
    headers: Mapping[str, str]
    caller: str = ""
    """The caller's name in the log; empty for the app itself."""
    stream: bool = False
    method: str = "POST"
    state: State = NO_STATE
    names_own_resources: bool = False
    """Whether it names services of the caller's own, whose failures say nothing about the endpoint."""
    is_repeatable: bool = True
    """Whether another endpoint may get the call after this one got it and did not respond."""
    query: Mapping[str, str | list[str]] = field(default_factory=dict)
    hides_usage: bool = False
    """Whether the app itself requested the usage of a stream. If so, it removes the usage before the client gets it."""

    @property
    def size(self) -> int:
        """Return the size of the body in bytes."""
        return len(self.body) if isinstance(self.body, bytes) else self.body.size
