"""The description of the app's HTTP API, for tools that read OpenAPI 3.1."""

import functools
from collections.abc import Iterable

from shared import errors
from shared.errors import GatewayError
from shared.openai_api import translate
from shared.openapi_parts import (
    CHAT_REPLY,
    CHAT_REQUEST,
    ERROR,
    EVENTS,
    MODEL,
    Json,
    body,
    by_status,
    failures,
    reference,
    success,
)

OPENAI_DOCS = "https://platform.openai.com/docs/api-reference/"
MESSAGES = [{"role": "user", "content": "Hello!"}]
BY_CALLER: list[Json] = [{"bearer": []}, {"apiKey": []}, {"xApiKey": []}]
BY_FUNCTION_KEY: list[Json] = [{"functionKey": []}]
BY_ANYBODY: list[Json] = []


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
        "schema": {"type": "string", "pattern": f"^{translate.RESPONSE_ID.pattern}$"},
    }
    queries = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in translate.RESPONSE_QUERY]
    lists = {"type": "array", "items": {"type": "string"}}
    queries += [{"name": name, "in": "query", "schema": lists} for name in translate.RESPONSE_QUERY_LISTS]

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
