"""The models that callers may name: the configured deployments and their aliases."""

import msgspec

from shared.errors import ModelNotFound
from shared.settings import Settings


class Model(msgspec.Struct, frozen=True):
    """https://platform.openai.com/docs/api-reference/models/object. Azure does not tell when a deployment was created."""

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "azure-openai"


def deployment_for(model: str, settings: Settings) -> str:
    """The deployment that answers to `model`. Raises `ModelNotFound` for one that the settings do not list."""
    try:
        return settings.deployments[model]
    except KeyError:
        listed = "GET /api/v1/models lists those there are."
        raise ModelNotFound(f"There is no model {model[:64]!r} here. {listed}", param="model") from None


def listing(settings: Settings) -> bytes:
    """All of them, as JSON in OpenAI's shape."""
    return msgspec.json.encode({"object": "list", "data": [Model(name) for name in settings.deployments]})


def model(name: str, settings: Settings) -> bytes:
    """One of them, as JSON in OpenAI's shape. Raises `ModelNotFound`."""
    deployment_for(name, settings)
    return msgspec.json.encode(Model(name))
