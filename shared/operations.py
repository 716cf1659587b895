"""List the operations of the OpenAI API that the app serves: the table that the router, failover and telemetry read.

To add an operation, add a row. Tests compare openapi.json and the documentation with this table.

https://github.com/Azure/azure-rest-api-specs, cognitiveservices/data-plane/AzureOpenAI/inference
"""

from dataclasses import KW_ONLY, dataclass, replace
from enum import Enum, auto

# The API without dated versions, by its name in AZURE_OPENAI_API_VERSION.
V1 = "v1"
# Later than the latest stable version. A later one may have all that the previews had before it.
AFTER_STABLE = "2024-10-22"
# Where the app serves the operations, below its route prefix: for OpenAI clients, for clients that append `/openai/v1` to an
# endpoint, and for the AzureOpenAI client, whose paths are those of dated versions.
SURFACES = OPENAI, AZURE_V1, AZURE = ("v1", "openai/v1", "openai")


class Body(Enum):
    """What a request's body is."""

    NOTHING = auto()
    """The body is ignored."""
    JSON = auto()
    FORM = auto()
    """multipart/form-data, with files."""


@dataclass(frozen=True)
class Operation:
    """An operation: how callers and Azure name it, and how the app treats its calls."""

    path: str
    """Below `/v1`. `{id}` stands for one segment, `{model}` for one or more."""
    _: KW_ONLY
    method: str = "POST"
    body: Body = Body.JSON
    by_deployment: bool = False
    """Whether dated versions have it at `deployments/{deployment}/PATH`. On v1, the body names the deployment."""
    since: str = ""
    """The first preview version that has it. `v1`: no dated version has it. Empty: all have it."""
    stable: str = AFTER_STABLE
    """The first stable version that has it."""
    gen_ai: str = ""
    """The name in OpenTelemetry's GenAI conventions, if they have one."""
    has_default: bool = False
    """Whether the default deployment serves calls that name no model."""
    is_repeatable: bool = True
    """Whether another endpoint may get a call that timed out at the first. It would be paid for twice."""
    is_binary: bool = False
    """Whether the response is binary, and is passed on as it arrives."""
    reports_errors: bool = False
    """Whether the JSON body of a success may report an error."""
    query: tuple[str, ...] = ()
    """The query parameters that go to Azure."""

    @property
    def is_stored(self) -> bool:
        """Return whether it is about a response that Azure has stored."""
        return self.path.startswith("responses/{id}")

    @property
    def name(self) -> str:
        """Return the name in metrics and in the access log."""
        return "stored_response" if self.is_stored else self.path

    @property
    def uses_state(self) -> bool:
        """Return whether its calls may refer to state that only one endpoint has."""
        return self.path.partition("/")[0] == "responses"

    @property
    def uses_tokens(self) -> bool:
        """Return whether the usage in its response is that of the call. A stored response has that of an earlier call."""
        return self.body is not Body.NOTHING

    def paths_on(self, surface: str) -> list[str]:
        """Return its paths on one of `SURFACES`, below the route prefix.

        Azure's dated versions have some operations by deployment only, but some of its clients leave the deployment out.
        """
        paths = [f"{surface}/{self.path}"]
        if surface == AZURE and self.by_deployment:
            paths.insert(0, f"{surface}/deployments/{{deployment}}/{self.path}")
        return paths

    def exists_in(self, api_version: str) -> bool:
        """Return whether `api_version` of Azure's API has it."""
        if api_version == V1 or not self.since:
            return True
        return api_version >= self.since and (api_version.endswith("-preview") or api_version >= self.stable)

    def path_in(self, api_version: str, deployment: str) -> str:
        """Return its path below an endpoint's base URL. If that lacks the deployment, Azure takes it from the body."""
        return f"deployments/{deployment}/{self.path}" if self.by_deployment and api_version != V1 else self.path


def is_since(api_version: str, date: str) -> bool:
    """Return whether `api_version` has the features of the dated version `date`; v1 has all of them."""
    return api_version == V1 or api_version >= date


# The first dated version that stores responses.
RESPONSES_SINCE = "2025-03-01-preview"
CHAT_COMPLETIONS = Operation("chat/completions", by_deployment=True, gen_ai="chat", has_default=True, reports_errors=True)
EMBEDDINGS = Operation("embeddings", by_deployment=True, gen_ai="embeddings", has_default=True)
RESPONSES = Operation("responses", since=RESPONSES_SINCE, gen_ai="chat", has_default=True, reports_errors=True)
STORED_RESPONSE = Operation(
    "responses/{id}",
    method="GET",
    body=Body.NOTHING,
    since=RESPONSES_SINCE,
    query=("include", "include_obfuscation", "starting_after", "stream"),
)
TRANSCRIPTIONS = Operation(
    "audio/transcriptions",
    by_deployment=True,
    since="2023-09-01-preview",
    stable="2024-02-01",
    body=Body.FORM,
    is_repeatable=False,
)
MODELS = Operation("models", method="GET", body=Body.NOTHING)
MODEL = Operation("models/{model}", method="GET", body=Body.NOTHING)

# Of two rows that match a path, the first counts.
OPERATIONS = (
    CHAT_COMPLETIONS,
    RESPONSES,
    Operation("responses/compact", since=V1, has_default=True),
    Operation("responses/input_tokens", since=V1, has_default=True),
    STORED_RESPONSE,
    replace(STORED_RESPONSE, method="DELETE", query=()),
    replace(STORED_RESPONSE, path="responses/{id}/cancel", method="POST", since=V1, query=()),
    replace(STORED_RESPONSE, path="responses/{id}/input_items", query=("after", "before", "include", "limit", "order")),
    EMBEDDINGS,
    Operation("completions", by_deployment=True, gen_ai="text_completion", reports_errors=True),
    Operation(
        "images/generations", by_deployment=True, since="2023-12-01-preview", stable="2024-02-01", is_repeatable=False
    ),
    Operation("images/edits", by_deployment=True, since="2025-04-01-preview", body=Body.FORM, is_repeatable=False),
    Operation("audio/speech", by_deployment=True, since="2024-02-15-preview", is_binary=True, is_repeatable=False),
    TRANSCRIPTIONS,
    replace(TRANSCRIPTIONS, path="audio/translations"),
    MODELS,
    MODEL,
)
