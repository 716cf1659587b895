"""Read a description of an API (OpenAPI 3, in JSON), and validate responses with JSON Schema."""

import re
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from tests.support.processes import Json

URI = "urn:description"
# A schema without the cases of its discriminator. Its cases inherit from it.
PLAIN = ".plain"


class Description:
    """Find the operations of a description by their paths, whatever its parameters are called."""

    def __init__(self, document: Json) -> None:
        self.version: str = document["info"]["version"]
        self.document = json_schema(document)
        schemas = self.document.get("components", {}).get("schemas", {})
        for name, schema in list(schemas.items()):
            schemas[name], schemas[name + PLAIN] = with_cases(name, schema)
        resource = Resource.from_contents(self.document, default_specification=DRAFT202012)
        self.registry: Any = Registry().with_resource(URI, resource)
        self.paths = {template(path): path for path in self.document["paths"]}
        self.is_v1 = not any(path.startswith("deployments/") for path in self.paths)

    def has(self, method: str, path: str) -> bool:
        return method.lower() in self.document["paths"].get(self.paths.get(path), {})

    def errors(self, method: str, path: str, status: int, content_type: str, values: list[Any]) -> Iterator[str]:
        """Yield what differs from the schema in each of `values`, which a response has as its content or its events."""
        path = self.paths[path]
        responses = self.document["paths"][path][method.lower()]["responses"]
        found = next((name for name in (str(status), f"{status // 100}XX", "default") if name in responses), None)
        if found is None:
            # Many descriptions leave out the errors.
            if status < 400:
                yield f"The status {status} is not described."
        elif content_type in (responses[found] or {}).get("content", {}):
            names = ("paths", path, method.lower(), "responses", found, "content", content_type, "schema")
            pointer = "/".join(
                name.replace("~", "~0").replace("/", "~1").replace("{", "%7B").replace("}", "%7D") for name in names
            )
            validator = Draft202012Validator({"$ref": f"{URI}#/{pointer}"}, registry=self.registry)
            for value in values:
                for error in validator.iter_errors(value):
                    inner = nearest(error)
                    yield f"/{'/'.join(map(str, inner.absolute_path))}: {inner.message[:200]}"


def nearest(error: ValidationError) -> ValidationError:
    """Return an error of the nearest alternative: the one for the same type, or the one with the fewest errors."""
    alternatives: dict[Any, list[ValidationError]] = {}
    for part in error.context or ():
        alternatives.setdefault(part.schema_path[0], []).append(part)
    if not alternatives:
        return error
    return nearest(
        min(alternatives.values(), key=lambda errors: (any("type" in part.path for part in errors), len(errors)))[0]
    )


def template(path: str) -> str:
    """Return `path` without a prefix, and with {} for each of its parameters."""
    return re.sub(r"\{[^}]+\}", "{}", re.sub(r"^(/openai)?(/v1)?/", "", path))


def json_schema(node: Any) -> Any:
    """Return OpenAPI's kind of schemas, at any depth, as JSON Schema."""
    if isinstance(node, list):
        return [json_schema(part) for part in node]
    if not isinstance(node, dict):
        return node
    schema = {name: json_schema(part) for name, part in node.items()}
    if schema.get("nullable") is True:
        del schema["nullable"]
        schema = {"anyOf": [schema, {"type": "null"}]}
    if isinstance(schema.get("$ref"), str):
        schema["$ref"] = schema["$ref"].replace("#", f"{URI}#", 1)
    # Alternatives of Azure's descriptions overlap.
    return {"anyOf" if name == "oneOf" else name: part for name, part in schema.items()}


def with_cases(name: str, schema: Json) -> tuple[Json, Json]:
    """Return a component with a schema for each value of its discriminator, and its plain schema."""
    parents = [{"$ref": part["$ref"] + PLAIN} if "$ref" in part else part for part in schema.get("allOf", ())]
    plain = {**schema, "allOf": parents} if parents else schema
    discriminator = schema.get("discriminator", {})
    cases = [
        {
            "if": {
                "properties": {discriminator["propertyName"]: {"const": value}},
                "required": [discriminator["propertyName"]],
            },
            "then": {"$ref": reference.replace("#", f"{URI}#", 1)},
        }
        for value, reference in discriminator.get("mapping", {}).items()
    ]
    return {"allOf": [{"$ref": f"{URI}#/components/schemas/{name}{PLAIN}"}, *cases]}, plain
