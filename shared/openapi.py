"""The description of the app's HTTP API, for tools that read OpenAPI 3.1."""

import functools
from collections.abc import Iterable
from typing import Any

from shared import errors, inference
from shared.errors import GatewayError

type Json = dict[str, Any]

OPENAI_DOCS = "https://platform.openai.com/docs/api-reference/"
MESSAGES = [{"role": "user", "content": "Hello!"}]
BY_CALLER: list[Json] = [{"bearer": []}, {"apiKey": []}, {"xApiKey": []}]
BY_FUNCTION_KEY: list[Json] = [{"functionKey": []}]
BY_ANYBODY: list[Json] = []

# What can go wrong with every call to a model, besides what Azure answers itself.
CALL_ERRORS: tuple[type[GatewayError], ...] = (
    errors.BadRequest,
    errors.BodyTooSlow,
    errors.BodyTooLarge,
    errors.EncodedBody,
    errors.UpstreamAuthError,
    errors.DeploymentNotFound,
    errors.UpstreamUnreachable,
    errors.SettingsError,
    errors.TooManyCalls,
    errors.DeadlineExceeded,
    errors.UnexpectedError,
)
# Azure's answers that are passed on, and its failures.
AZURES = {
    "409": "Azure's own refusal",
    "422": "Azure's own refusal",
    "429": "Throttled by Azure; `Retry-After` says for how long",
    "default": "Azure's own refusal, or its failure (upstream_error)",
}

# OpenAPI 3.1 has no words for the events of a stream.
EVENTS: Json = {}
ERROR: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": ["string", "null"]},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
MODEL: Json = {
    "type": "object",
    "required": ["id", "object", "created", "owned_by"],
    "properties": {
        "id": {"type": "string", "description": "A deployment or an alias"},
        "object": {"const": "model"},
        "created": {"type": "integer", "description": "Always 0: Azure does not tell"},
        "owned_by": {"type": "string"},
    },
}
CHAT_REQUEST: Json = {
    "type": "object",
    "description": "`prompt` or `messages`, and other parameters of Chat Completions but `tools`, `functions` and `n`.",
    "properties": {
        "prompt": {"type": "string", "minLength": 1},
        "messages": {"type": "array", "minItems": 1, "items": {"type": "object"}},
        "model": {"type": ["string", "null"], "description": "A deployment or an alias; by default the app's"},
        "stream": {"type": ["boolean", "null"]},
    },
    "oneOf": [{"required": ["prompt"]}, {"required": ["messages"]}],
}
CHAT_REPLY: Json = {
    "type": "object",
    "required": ["id", "model", "reply", "finish_reason", "usage"],
    "properties": {
        "id": {"type": "string"},
        "model": {"type": "string"},
        "reply": {"type": "string"},
        "finish_reason": {"type": ["string", "null"]},
        "usage": {"type": ["object", "null"]},
    },
}


def description(path: str) -> Json:
    """The document that is at `path`: the other routes are beside it, whatever the host's route prefix is."""
    return {**document(), "servers": [{"url": path.rstrip("/").rpartition("/")[0] or "/"}]}


@functools.cache
def document() -> Json:
    """All of it but where it is."""
    paths: Json = {
        "/chat": {"post": chat()},
        "/v1/models": {"get": models()},
        "/v1/models/{id}": {"get": model()},
        "/playground": {"get": page()},
        "/openapi.json": {"get": no_call("openapi", "This description", {"type": "object"})},
        "/health/live": {"get": no_call("live", "Whether the process answers", status_of("alive"))},
        "/health/ready": {"get": health("ready", "Whether chats work", BY_ANYBODY)},
        "/health": {"get": health("health", "The state of each endpoint, and what to do about it", BY_FUNCTION_KEY)},
        "/openai/deployments/{deployment}/chat/completions": {"post": chat_completions("azure_", deployment())},
        "/openai/deployments/{deployment}/embeddings": {"post": embeddings("azure_", deployment())},
        "/v1/chat/completions": {"post": chat_completions()},
        "/v1/embeddings": {"post": embeddings()},
        **responses("/v1/responses"),
        **responses("/openai/responses", "azure_"),
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Azure OpenAI on Azure Functions",
            "version": "1",
            "description": "Azure OpenAI behind HTTP endpoints: a simple one for chats, and OpenAI's own wire format.",
        },
        "paths": paths,
        "components": {
            "schemas": {"Error": ERROR, "Model": MODEL, "ChatRequest": CHAT_REQUEST, "ChatReply": CHAT_REPLY},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A caller key"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "api-key", "description": "A caller key"},
                "xApiKey": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "A caller key"},
                "functionKey": {"type": "apiKey", "in": "header", "name": "x-functions-key"},
            },
        },
    }


def chat() -> Json:
    answers = {
        "application/json": {"schema": reference("ChatReply")},
        "text/event-stream": EVENTS,
    }
    return {
        "operationId": "chat",
        "summary": "A prompt or a conversation in, a reply out; with `stream` piece by piece",
        "security": BY_FUNCTION_KEY,
        "requestBody": body(
            reference("ChatRequest"), prompt={"prompt": "Hello!"}, stream={"messages": MESSAGES, "stream": True}
        ),
        "responses": {"200": {"description": "The reply", "content": answers}, **failures(errors.ModelNotFound)},
    }


def creation(name: str, summary: str, docs: str, example: Json, answer: Json, parameters: Iterable[Json]) -> Json:
    """An operation in OpenAI's wire format, whose body and answer are described by OpenAI."""
    schema = {
        "type": "object",
        "properties": {"model": {"type": ["string", "null"]}, "stream": {"type": ["boolean", "null"]}},
        "additionalProperties": True,
    }
    return {
        "operationId": name,
        "summary": summary,
        "externalDocs": {"url": OPENAI_DOCS + docs},
        "security": BY_CALLER,
        "parameters": [*parameters],
        "requestBody": body(schema, plain=example),
        "responses": {"200": success(answer, streams=True), **failures(errors.CallerRefused, errors.ModelNotFound)},
    }


def chat_completions(prefix: str = "", *parameters: Json) -> Json:
    example = {"messages": MESSAGES}
    answer = {"type": "object", "required": ["id", "choices", "usage"]}
    return creation(f"{prefix}chat_completions", "A chat completion", "chat/create", example, answer, parameters)


def embeddings(prefix: str = "", *parameters: Json) -> Json:
    example = {"input": ["Hello!"]}
    answer = {"type": "object", "required": ["data", "usage"]}
    return creation(f"{prefix}embeddings", "Vectors for texts", "embeddings/create", example, answer, parameters)


def responses(path: str, prefix: str = "") -> Json:
    """The paths of the Responses API."""
    identifier = {
        "name": "id",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": f"^{inference.RESPONSE_ID.pattern}$"},
    }
    queries = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in inference.RESPONSE_QUERY]
    lists = {"type": "array", "items": {"type": "string"}}
    queries += [{"name": name, "in": "query", "schema": lists} for name in inference.RESPONSE_QUERY_LISTS]

    def stored(name: str, summary: str, *parameters: Json, streams: bool = False) -> Json:
        answer = success({"type": "object"}, streams=streams)
        return {
            "operationId": prefix + name,
            "summary": summary,
            "security": BY_CALLER,
            "parameters": [identifier, *parameters],
            "responses": {"200": answer, **failures(errors.CallerRefused, errors.ResponseNotFound)},
        }

    answer = {"type": "object", "required": ["id", "output", "status"]}
    create = creation(f"{prefix}responses", "A response", "responses/create", {"input": "Hello!"}, answer, ())
    return {
        path: {"post": create},
        path + "/{id}": {
            "get": stored("get_response", "A stored response; all callers share them", *queries, streams=True),
            "delete": stored("delete_response", "Forgets a stored response"),
        },
        path + "/{id}/cancel": {"post": stored("cancel_response", "Ends a response that is made in the background")},
        path + "/{id}/input_items": {"get": stored("input_items", "What a stored response answers", *queries)},
    }


def models() -> Json:
    schema = {
        "type": "object",
        "required": ["object", "data"],
        "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": reference("Model")}},
    }
    return model_operation("models", "The deployments and aliases that callers may name", schema, errors.CallerRefused)


def model() -> Json:
    known = model_operation("model", "One of them", reference("Model"), errors.CallerRefused, errors.ModelNotFound)
    return {**known, "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]}


def model_operation(name: str, summary: str, schema: Json, *raised: type[GatewayError]) -> Json:
    answers = {"200": success(schema), **by_status((*raised, errors.SettingsError, errors.UnexpectedError))}
    return {"operationId": name, "summary": summary, "security": BY_CALLER, "responses": answers}


def no_call(name: str, summary: str, schema: Json) -> Json:
    return {"operationId": name, "summary": summary, "security": BY_ANYBODY, "responses": {"200": success(schema)}}


def page() -> Json:
    answer = {"description": "The page", "content": {"text/html": {"schema": {"type": "string"}}}}
    return {
        "operationId": "playground",
        "summary": "A page to chat in a browser",
        "security": BY_ANYBODY,
        "responses": {"200": answer},
    }


def health(name: str, summary: str, security: list[Json]) -> Json:
    works, broken = status_of("healthy", "degraded"), status_of("unhealthy", "not_configured")
    answers = {"200": success(works), "503": success(broken)}
    return {"operationId": name, "summary": summary, "security": security, "responses": answers}


def status_of(*words: str) -> Json:
    return {"type": "object", "required": ["status"], "properties": {"status": {"enum": [*words]}}}


def deployment() -> Json:
    return {"name": "deployment", "in": "path", "required": True, "schema": {"type": "string"}}


def reference(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def body(schema: Json, **examples: Json) -> Json:
    named = {name: {"value": example} for name, example in examples.items()}
    return {"required": True, "content": {"application/json": {"schema": schema, "examples": named}}}


def success(schema: Json, *, streams: bool = False) -> Json:
    content: Json = {"application/json": {"schema": schema}}
    if streams:
        content["text/event-stream"] = EVENTS
    return {"description": "The answer", "content": content}


def failures(*more: type[GatewayError]) -> Json:
    """The answers of a call to a model that fails: this app's, and Azure's."""
    azures = {status: failure(text) for status, text in AZURES.items()}
    return azures | by_status((*CALL_ERRORS, *more))


def by_status(raised: Iterable[type[GatewayError]]) -> Json:
    codes: dict[str, list[str]] = {}
    for error in raised:
        codes.setdefault(str(error.status), []).append(str(error.code))
    return {status: failure(" or ".join(sorted(names))) for status, names in sorted(codes.items())}


def failure(text: str) -> Json:
    return {"description": text, "content": {"application/json": {"schema": reference("Error")}}}
