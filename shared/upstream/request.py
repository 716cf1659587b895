"""Describe one call to Azure OpenAI, independent of the endpoint that will serve it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

# The API without dated versions, by its name in AZURE_OPENAI_API_VERSION.
V1 = "v1"
# The operations, by their paths.
CHAT_COMPLETIONS = "chat/completions"
EMBEDDINGS = "embeddings"
RESPONSES = "responses"
# Stands for all operations on a response that Azure has stored.
STORED_RESPONSE = "stored_response"


def path_of(operation: str, deployment: str, api_version: str) -> str:
    """Return the path of `operation` below the endpoint's base URL.

    If it lacks the deployment, Azure takes that from the body, as `model`.
    https://learn.microsoft.com/azure/ai-foundry/openai/reference
    """
    if api_version != V1 and operation in (CHAT_COMPLETIONS, EMBEDDINGS):
        return f"deployments/{deployment}/{operation}"
    return operation


def is_since(api_version: str, date: str) -> bool:
    """Return whether `api_version` has the features of the dated version `date`; v1 has all of them."""
    return api_version == V1 or api_version >= date


class State(NamedTuple):
    """What a call refers to and only one endpoint has, such as a stored response, as keys (see `affinity`)."""

    keys: tuple[bytes, ...] = ()
    is_needed: bool = False
    """Whether Azure needs it to serve the call. Otherwise, the keys are those of items that the call contains in full. Azure
    rejects some of them if another resource has created them.
    """


NO_STATE = State()


@dataclass(frozen=True, kw_only=True)
class InferenceCall:
    """A call: the operation and its path, the deployment, the body, the caller, and the form of the response."""

    operation: str
    path: str
    """Below the endpoint's base URL."""
    deployment: str
    """Empty for a stored response."""
    body: bytes
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
