"""Test that GET /api/openapi.json returns a document that is valid, complete and true."""

import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from shared import errors, openapi
from shared.operations import AZURE, OPENAI, OPERATIONS, V1, Body, Operation
from tests.support.processes import Json, LocalApp, local_app
from tests.support.sdk import DATED
from tests.support.upstreams import CALLER_KEY
from tests.unit.test_docs_operations import known_errors

JSON, FORM, EVENTS = "application/json", "multipart/form-data", "text/event-stream"
# The operations of the table by the methods and paths at which the document has them.
ROWS = {
    (operation.method, f"/{operation.paths_on(surface)[0]}"): operation
    for surface in (OPENAI, AZURE)
    for operation in OPERATIONS
}


@pytest.fixture(scope="module", params=[V1, DATED])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def keyed_app(version: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalApp]:
    settings = {"CALLER_KEYS": f"tests={CALLER_KEY}", "AZURE_OPENAI_API_VERSION": version}
    with local_app(tmp_path_factory.mktemp("app"), "--enable-auth", **settings) as app:
        yield app


@pytest.fixture(scope="module")
def document(keyed_app: LocalApp) -> Json:
    response = keyed_app.http.get("/api/openapi.json")
    assert response.status_code == 200
    document: Json = response.json()
    return document


def function_key(app: LocalApp) -> str:
    found = re.search(r"x-functions-key: (\S+) \(all functions\)", app.output)
    assert found, app.output
    return found[1]


def operations(document: Json) -> list[tuple[str, str, Json]]:
    paths = document["paths"].items()
    return [(method.upper(), path, described) for path, item in paths for method, described in item.items()]


def resolved(document: Json, item: Json) -> Json:
    """Return the component that `item` refers to, or `item` itself."""
    if "$ref" not in item:
        return item
    *_, kind, name = item["$ref"].split("/")
    component: Json = document["components"][kind][name]
    return component


def request_content(document: Json, described: Json) -> tuple[str, Json]:
    """Return the content type of an operation's request, and what the document says about it. Both may be empty."""
    content: Json = resolved(document, described.get("requestBody", {})).get("content", {})
    assert len(content) <= 1
    return next(iter(content.items()), ("", {}))


def parts_of(document: Json, schema: Json) -> list[Json]:
    """Return the schemas that apply together."""
    schema = resolved(document, schema)
    return [schema, *(part for item in schema.get("allOf", ()) for part in parts_of(document, item))]


def test_the_document_is_valid() -> None:
    document = openapi.document()
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


def test_the_document_has_exactly_the_functions_of_the_host_and_the_operations_of_the_table(
    keyed_app: LocalApp, document: Json
) -> None:
    routes = re.findall(r"\t\w+: \[([A-Z,]+)\] http://localhost:\d+(/\S+)", keyed_app.output)
    server = document["servers"][0]["url"]
    functions = {
        # HEAD is the same as GET, without the body.
        (method, route.removeprefix(server))
        for methods, route in routes
        for method in methods.split(",")
        if method != "HEAD" and "{*path}" not in route
    }
    assert {(method, path) for method, path, _ in operations(document)} == functions | ROWS.keys()


@pytest.mark.parametrize(("method", "path"), ROWS)
def test_an_operation_has_the_body_and_the_parameters_of_the_table(method: str, path: str) -> None:
    document, operation = openapi.document(), ROWS[method, path]
    described = document["paths"][path][method.lower()]
    content_type, content = request_content(document, described)
    assert content_type == {Body.NOTHING: "", Body.JSON: JSON, Body.FORM: FORM}[operation.body]
    parameters = [resolved(document, item) for item in described["parameters"]]
    assert {item["name"] for item in parameters if item["in"] == "query"} == {*operation.query, "api-version"}
    assert [item["name"] for item in parameters if item["in"] == "path"] == re.findall(r"\{(\w+)\}", path)
    assert any(name.startswith("audio/") for name in success(document, described)) == operation.is_binary
    if content:
        parts = parts_of(document, content["schema"])
        assert any("model" in part.get("properties", {}) for part in parts)
        needs_model = not operation.has_default and "{deployment}" not in path
        assert any("model" in part.get("required", ()) for part in parts) == needs_model


def success(document: Json, described: Json) -> Json:
    """Return the contents of a success by their types."""
    content: Json = resolved(document, described["responses"]["200"])["content"]
    return content


def test_operation_ids_are_unique() -> None:
    ids = [described["operationId"] for _, _, described in operations(openapi.document())]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("path", "server"),
    [("/api/openapi.json", "/api"), ("/openapi.json", "/"), ("/a/b/OPENAPI.json", "/a/b"), ("/api/openapi.json/", "/api")],
)
def test_the_servers_url_follows_the_route_prefix(path: str, server: str) -> None:
    assert openapi.description(path)["servers"] == [{"url": server}]


def codes(document: Json, described: Json) -> set[tuple[int, str]]:
    """Return the error responses of an operation: their statuses, with the app's codes in their descriptions."""
    known = {error.code for error in known_errors()}
    return {
        (int(status), word)
        for status, item in described["responses"].items()
        if status.isdecimal()
        for word in re.findall(r"\w+", resolved(document, item)["description"])
        if word in known
    }


def test_each_operation_lists_the_errors_that_the_app_can_return() -> None:
    document = openapi.document()
    call_errors = {
        (error.status, str(error.code))
        for error in (
            errors.BadRequest,
            errors.RequestTimeout,
            errors.RequestTooLarge,
            errors.UnsupportedEncoding,
            errors.UpstreamAuthError,
            errors.UpstreamNetworkError,
            errors.DeploymentNotFound,
            errors.UpstreamUnreachable,
            errors.SettingsError,
            errors.TooManyConcurrentRequests,
            errors.DeadlineExceeded,
            errors.InternalError,
        )
    }
    # What the router and its check of the caller's key or token raise.
    router_errors = {
        (error.status, str(error.code))
        for error in (
            errors.Unauthorized,
            errors.InvalidToken,
            errors.MissingRole,
            errors.OperationNotAvailable,
            errors.WebSocketNotSupported,
            errors.SigningKeysUnavailable,
        )
    }
    internal_error = {(500, "internal_error")}
    model_not_found = {(404, "model_not_found")}
    response_not_found = {(404, "response_not_found")}
    model_errors = router_errors | internal_error | {(503, "not_configured")}
    for method, path, described in operations(document):
        if path in ("/health", "/health/ready"):
            expected = internal_error
        elif path.startswith(("/playground", "/openapi.json", "/health")):
            expected = set()
        elif path.endswith("/models"):
            expected = model_errors
        elif path.endswith("/models/{model}"):
            expected = model_errors | model_not_found
        elif path == "/chat":
            expected = call_errors | model_not_found
        else:
            expected = call_errors | router_errors | (response_not_found if "{id}" in path else model_not_found)
        assert codes(document, described) == expected, (method, path)


def validate(document: Json, described: Json, response: httpx2.Response) -> None:
    """Raise an error unless the operation's description covers this response."""
    expected = resolved(document, described["responses"].get(str(response.status_code)) or described["responses"]["default"])
    if "content" not in expected:
        assert not response.content
        return
    assert not expected.get("headers", {}).keys() - response.headers.keys()
    content_type = response.headers["content-type"].partition(";")[0]
    kind = content_type.partition("/")[0]
    content = expected["content"]
    schema = content[content_type if content_type in content else f"{kind}/*"].get("schema", {})
    received = response.json() if content_type == JSON else response.text if kind == "text" else ""
    Draft202012Validator({**schema, "components": document["components"]}).validate(received)


def security(document: Json, described: Json) -> list[Json]:
    """Return the ways to authenticate for an operation: its own, or those of the document."""
    schemes: list[Json] = (described if "security" in described else document)["security"]
    return schemes


def credentials(app: LocalApp, document: Json, described: Json) -> list[dict[str, str]]:
    """Return the headers for each way to authenticate that the operation lists, or no headers if it lists none."""
    headers = {
        "bearer": {"authorization": f"Bearer {CALLER_KEY}"},
        "apiKey": {"api-key": CALLER_KEY},
        "xApiKey": {"x-api-key": CALLER_KEY},
        "functionKey": {"x-functions-key": function_key(app)},
    }
    return [headers[next(iter(scheme))] for scheme in security(document, described)] or [{}]


def request_options(document: Json, content_type: str, content: Json, example: Json) -> dict[str, Any]:
    """Return the options for httpx2 that send an example. The binary parts of a form are files."""
    if content_type != FORM:
        return {"json": example}
    properties = {
        name: item for part in parts_of(document, content["schema"]) for name, item in part.get("properties", {}).items()
    }
    files = {name: value for name, value in example.items() if properties[name].get("format") == "binary"}
    fields = {name: value for name, value in example.items() if name not in files}
    return {"data": fields, "files": {name: ("sample.mp3", value.encode()) for name, value in files.items()}}


def test_responses_to_every_example_and_on_every_path_are_as_described(
    keyed_app: LocalApp, document: Json, version: str
) -> None:
    keyed_app.model.clear()
    # One deployment serves the examples of all operations.
    keyed_app.model.http.put("/control/deployments", json={"chat": None, "embeddings": None}).raise_for_status()
    keyed_app.model.script({"pace": 0, "times": 1000})
    # Dated versions know no background, and cannot cancel.
    body = {"input": "Hello", **({"background": True} if version == V1 else {})}
    stored = keyed_app.http.post("/api/v1/responses", json=body, headers={"api-key": CALLER_KEY})
    for method, path, described in operations(document):
        identifier = stored.json()["id"]
        url = "/api" + path.replace("{id}", identifier).replace("{deployment}", "chat").replace("{model}", "chat")
        content_type, content = request_content(document, described)
        bodies = [example["value"] for example in content["examples"].values()] if content else []
        for body in bodies:
            Draft202012Validator({**content["schema"], "components": document["components"]}).validate(body)
        status = status_on(version, ROWS.get((method, path)))
        if method == "DELETE":
            # The other operations still need the stored response.
            url, status = url.replace(identifier, "resp_unknown"), 404
        types = set()
        for options in [request_options(document, content_type, content, body) for body in bodies] or [{}]:
            for headers in credentials(keyed_app, document, described):
                response = keyed_app.http.request(method, url, headers=headers, **options)
                assert response.status_code == status, (method, url, response.text)
                validate(document, described, response)
                types.add(response.headers["content-type"].partition(";")[0])
        if bodies and status == 200:
            assert (EVENTS in types) == (EVENTS in success(document, described)), (method, path)


def status_on(version: str, operation: Operation | None) -> int:
    """Return the status with which the app responds to an example. Some operations need another version of Azure's API."""
    return 200 if operation is None or operation.exists_in(version) else 404


def test_the_document_says_which_operations_need_a_key(keyed_app: LocalApp, document: Json) -> None:
    for method, path, described in operations(document):
        response = keyed_app.http.request(method, "/api" + path.replace("{", "").replace("}", ""))
        assert (response.status_code == 401) == bool(security(document, described)), (method, path)
        validate(document, described, response)


@pytest.mark.parametrize(
    ("script", "body", "status"),
    [
        ({}, {"model": "gpt-5"}, 404),
        ({}, {"model": 5}, 400),
        ({"status": 400}, {}, 400),
        ({"status": 401}, {}, 502),
        ({"status": 404}, {}, 502),
        ({"status": 429, "headers": {"retry-after": "1"}}, {}, 429),
        ({"status": 503, "headers": {"retry-after": "1"}}, {}, 503),
        ({"reset": True, "times": 2}, {}, 502),
    ],
)
def test_error_responses_are_as_described(
    keyed_app: LocalApp, document: Json, script: Json, body: Json, status: int
) -> None:
    keyed_app.model.clear()
    if script:
        keyed_app.model.script(script)
    body = {"messages": [{"role": "user", "content": "Hello"}], **body}
    response = keyed_app.http.post("/api/v1/chat/completions", json=body, headers={"api-key": CALLER_KEY})
    assert response.status_code == status
    described = document["paths"]["/v1/chat/completions"]["post"]
    validate(document, described, response)
