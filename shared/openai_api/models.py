"""List the models that callers may name: the configured deployments and their aliases."""

import re

import msgspec

from shared.errors import ModelNotFound
from shared.settings import Settings


class Model(msgspec.Struct, frozen=True):
    """A model in OpenAI's format; `created` is always 0, because Azure does not report it.

    https://platform.openai.com/docs/api-reference/models/object
    """

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "azure-openai"


def deployment_for(model: str, settings: Settings) -> str:
    """Return the deployment behind the model `model`. Raise `ModelNotFound` if the settings do not list it."""
    try:
        return settings.deployments[model]
    except KeyError:
        raise ModelNotFound(model) from None


def name_in_path(parameter: str) -> str:
    """Return the model that a route parameter names. The host has decoded everything in it except `%2F`."""
    return re.sub("%2f", "/", parameter, flags=re.IGNORECASE)


def list_models(settings: Settings) -> bytes:
    """Return all models as JSON: `{"object": "list", "data": [...]}`."""
    return msgspec.json.encode({"object": "list", "data": [Model(name) for name in settings.deployments]})


def retrieve_model(name: str, settings: Settings) -> bytes:
    """Return one model as JSON. Raise `ModelNotFound`."""
    deployment_for(name, settings)
    return msgspec.json.encode(Model(name))
