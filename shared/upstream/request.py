"""What to ask of Azure, before it is known how."""

from collections.abc import Mapping
from dataclasses import dataclass, field

# The API without versions, by its name in AZURE_OPENAI_API_VERSION.
V1 = "v1"
# The operations, by their addresses.
CHAT_COMPLETIONS = "chat/completions"
EMBEDDINGS = "embeddings"
RESPONSES = "responses"


def is_in_address(operation: str, api_version: str) -> bool:
    """Whether Azure finds the deployment in the address of `operation`, and not in the body, as `model`.

    https://learn.microsoft.com/azure/ai-foundry/openai/reference
    """
    return api_version != V1 and operation in (CHAT_COMPLETIONS, EMBEDDINGS)


def is_since(api_version: str, date: str) -> bool:
    """Whether `api_version` has what came with the dated version `date`; v1 has all of it."""
    return api_version == V1 or api_version >= date


@dataclass(frozen=True)
class InferenceCall:
    """An operation of Azure's API, the body, who asks, and how the answer should come."""

    operation: str
    deployment: str
    """Empty for what is about no deployment, such as a stored response."""
    body: bytes
    headers: Mapping[str, str]
    caller: str = ""
    """As the log shall have it, never a key; empty for the app itself."""
    stream: bool = False
    method: str = "POST"
    is_about_stored: bool = False
    """Whether it names a stored response, which only the endpoint that made it knows."""
    query: Mapping[str, str | list[str]] = field(default_factory=dict)
    adds_usage: bool = False
    """Whether the app has asked for the usage of a stream, and not the caller, who shall not see it."""
