"""Match the paths of Azure OpenAI, and know which API versions have them.

Sources for the dated versions: https://github.com/Azure/azure-rest-api-specs
(cognitiveservices/data-plane/AzureOpenAI/inference/{preview,stable}/*/inference.*, one file per version).
"""

import re
from typing import NamedTuple

from aiohttp import web

from local.simulator import payloads
from local.simulator.payloads import ErrorResponse


class Operation(NamedTuple):
    """Describe an operation: Azure's name for it, and the first dated API versions that have it, of both kinds."""

    azure_name: str
    first_preview: str | None = None
    first_stable: str | None = None
    by_deployment: bool = True
    """Whether the path has the deployment, on dated versions."""

    def exists_in(self, api_version: str) -> bool:
        first = self.first_preview if api_version.endswith("-preview") else self.first_stable
        return first is not None and api_version >= first


# The names of chats, completions, embeddings and images are those in Azure's errors. The others follow their pattern.
OPERATIONS = {
    "chat/completions": Operation("chatCompletion", "2023-03-15-preview", "2023-05-15"),
    "completions": Operation("completion", "2022-03-01-preview", "2022-12-01"),
    "embeddings": Operation("embeddings", "2022-03-01-preview", "2022-12-01"),
    "images/generations": Operation("imageGenerations", "2023-12-01-preview", "2024-02-01"),
    # Version 2025-03-01-preview responds with 404: https://github.com/Azure-Samples/openai/issues/146
    "images/edits": Operation("imageEdits", "2025-04-01-preview"),
    "audio/speech": Operation("audioSpeech", "2024-02-15-preview"),
    "audio/transcriptions": Operation("audioTranscriptions", "2023-09-01-preview", "2024-02-01"),
    "audio/translations": Operation("audioTranslations", "2023-09-01-preview", "2024-02-01"),
    # https://learn.microsoft.com/azure/ai-foundry/openai/how-to/responses
    "responses": Operation("responses", "2025-03-01-preview", by_deployment=False),
    # https://learn.microsoft.com/azure/foundry/openai/how-to/responses#compact-a-response,
    # https://github.com/openai/codex/issues/25939
    "responses/compact": Operation("responses"),
    # OpenAI has it. Azure responded with 404 in May 2026: https://github.com/openai/openai-dotnet/issues/1165
    "responses/input_tokens": Operation("responses"),
}
MODELS = Operation("models", "2022-03-01-preview", "2022-12-01", by_deployment=False)
PATH = re.compile(
    r"/openai/(?P<v1>v1/)?(?:deployments/(?P<deployment>[^/]+)/)?"
    rf"(?:(?P<operation>{'|'.join(OPERATIONS)})|(?P<models>models)(?:/(?P<model>[^/]+))?"
    r"|responses/(?P<id>[^/]+)(?:/(?P<action>cancel|input_items))?)"
)
API_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")


def match_path(request: web.Request) -> re.Match[str]:
    """Return the match of `PATH`. Raise the error that Azure returns for a wrong path, method or API version."""
    path = PATH.fullmatch(request.path)
    api_version = request.query.get("api-version")
    if not path:
        raise ErrorResponse(404, payloads.RESOURCE_NOT_FOUND)
    operation = MODELS if path["models"] else OPERATIONS[path["operation"] or "responses"]
    if path["v1"]:
        if api_version not in (None, "v1", "preview"):
            raise ErrorResponse(400, payloads.API_VERSION_ON_V1)
        exists = not path["deployment"]
    else:
        exists = bool(API_VERSION.fullmatch(api_version or "")) and operation.exists_in(api_version or "")
        # Background responses, and so their cancellation, came with v1.
        exists = exists and operation.by_deployment == bool(path["deployment"]) and path["action"] != "cancel"
    method = "POST" if path["operation"] else "GET" if path["models"] else request.method
    if not exists or request.method != method:
        raise ErrorResponse(404, payloads.RESOURCE_NOT_FOUND)
    return path
