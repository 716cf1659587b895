"""Simulate embeddings."""

import array
import base64
import json
from typing import Any

from local.simulator import model, payloads
from local.simulator.payloads import ErrorResponse, Json, invalid_request

MAX_DIMENSIONS = 3072


def embed(body: Json, script: Json) -> Json:
    """Return an embedding for each input, as a list of numbers or as 32-bit floats in base64."""
    inputs = embedding_inputs(body.get("input"))
    encoding = body.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise ErrorResponse(400, invalid_request(f"'{encoding}' is not one of ['float', 'base64'] - 'encoding_format'"))
    dimensions = payloads.bounded(body, "dimensions", model.DIMENSIONS, 1, MAX_DIMENSIONS)
    data = []
    for index, text in enumerate(inputs):
        numbers: Any = model.embedding(text, dimensions)
        if encoding == "base64":
            numbers = base64.b64encode(array.array("f", numbers).tobytes()).decode()
        data.append({"object": "embedding", "index": index, "embedding": numbers})
    tokens = sum(len(text) // 4 + 1 for text in inputs)
    return {
        "object": "list",
        "data": data,
        "model": body.get("model") or "simulator",
        "usage": payloads.scripted_usage({"prompt_tokens": tokens, "total_tokens": tokens}, script),
    }


def embedding_inputs(given: Any) -> list[str]:
    """Return the texts to embed. `given` is a text, a list of token numbers, or a list of these."""
    if isinstance(given, str) and given:
        return [given]
    if isinstance(given, list) and given:
        if all(isinstance(item, int) for item in given):
            return [json.dumps(given)]
        if all(isinstance(item, str | list) and item for item in given):
            return [item if isinstance(item, str) else json.dumps(item) for item in given]
    raise ErrorResponse(400, invalid_request("'$.input' is invalid. Please check the API reference."))
