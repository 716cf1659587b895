"""List the models of a resource: those of its deployments, each with the version that its responses name.

Sources in https://github.com/Azure/azure-rest-api-specs: OpenAI.Model in ai/data-plane/OpenAI.v1/azure-v1-v1-generated.json,
and for Azure's own fields cognitiveservices/data-plane/AzureOpenAI/authoring/stable/2024-06-01/examples/get_model_base.yaml.
"""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from local.simulator import payloads
from local.simulator.payloads import ErrorResponse, Json

CREATED = int(datetime.fromisoformat(payloads.VERSION).replace(tzinfo=UTC).timestamp())


def read_models(deployments: Mapping[str, Collection[str] | None], model_id: str | None) -> Json:
    """Return the model with this id, or a list of all without one. `deployments` have the paths of their operations."""
    models = [model(payloads.model_name(name), operations) for name, operations in deployments.items()]
    if model_id is None:
        return {"object": "list", "data": models}
    for found in models:
        if found["id"] == model_id:
            return found
    raise ErrorResponse(404, payloads.RESOURCE_NOT_FOUND)


def model(model_id: str, operations: Collection[str] | None) -> Json:
    capabilities = {"chat_completion": "chat/completions", "completion": "completions", "embeddings": "embeddings"}
    return {
        "id": model_id,
        "object": "model",
        "created": CREATED,
        "created_at": CREATED,
        "owned_by": "azure",
        "status": "succeeded",
        "lifecycle_status": "generally-available",
        "capabilities": {
            "fine_tune": False,
            "inference": True,
            **{name: operations is None or path in operations for name, path in capabilities.items()},
        },
    }
