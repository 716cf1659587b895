"""Test that GET /api/openapi.json returns a document that is valid, complete and true."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from shared import errors, openapi
from tests.support.processes import Json, LocalApp, local_app
from tests.support.upstreams import CALLER_KEY
from tests.unit.test_docs_operations import known_errors


@pytest.fixture(scope="module")
def keyed_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalApp]:
    with local_app(tmp_path_factory.mktemp("app"), "--enable-auth", CALLER_KEYS=f"tests={CALLER_KEY}") as app:
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


def test_the_document_is_valid(document: Json) -> None:
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


def test_the_document_has_exactly_the_routes_that_the_host_finds(keyed_app: LocalApp, document: Json) -> None:
    routes = re.findall(r"\t\w+: \[([A-Z,]+)\] http://localhost:\d+(/\S+)", keyed_app.output)
    server = document["servers"][0]["url"]
    assert {(method, server + path) for method, path, _ in operations(document)} == {
        # HEAD is the same as GET, without the body.
        (method, route)
        for methods, route in routes
        for method in methods.split(",")
        if method != "HEAD"
    }


def test_operation_ids_are_unique(document: Json) -> None:
    ids = [described["operationId"] for _, _, described in operations(document)]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("path", "server"),
    [("/api/openapi.json", "/api"), ("/openapi.json", "/"), ("/a/b/OPENAPI.json", "/a/b"), ("/api/openapi.json/", "/api")],
)
def test_the_servers_url_follows_the_route_prefix(path: str, server: str) -> None:
    assert openapi.description(path)["servers"] == [{"url": server}]


def resolved(document: Json, item: Json) -> Json:
    """Return the component that `item` refers to, or `item` itself."""
    if "$ref" not in item:
        return item
    *_, kind, name = item["$ref"].split("/")
    component: Json = document["components"][kind][name]
    return component


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


def test_each_operation_lists_the_errors_that_the_app_can_return(document: Json) -> None:
    call_errors = {
        (error.status, str(error.code))
        for error in (
            errors.BadRequest,
            errors.RequestTimeout,
            errors.RequestTooLarge,
            errors.UnsupportedEncoding,
            errors.UpstreamAuthError,
            errors.DeploymentNotFound,
            errors.UpstreamUnreachable,
            errors.SettingsError,
            errors.TooManyConcurrentRequests,
            errors.DeadlineExceeded,
            errors.InternalError,
        )
    }
    # What the check of the caller's key or token raises.
    unauthorized = {
        (error.status, str(error.code))
        for error in (errors.Unauthorized, errors.InvalidToken, errors.MissingRole, errors.SigningKeysUnavailable)
    }
    model_not_found = {(404, "model_not_found")}
    response_not_found = {(404, "response_not_found")}
    model_errors = unauthorized | {(error.status, str(error.code)) for error in (errors.SettingsError, errors.InternalError)}
    for method, path, described in operations(document):
        if path.startswith(("/playground", "/openapi", "/health")):
            expected: set[tuple[int, str]] = set()
        elif path == "/v1/models":
            expected = model_errors
        elif path.startswith("/v1/models/"):
            expected = model_errors | model_not_found
        elif path == "/chat":
            expected = call_errors | model_not_found
        else:
            expected = call_errors | unauthorized | (response_not_found if "{id}" in path else model_not_found)
        assert codes(document, described) == expected, (method, path)


def validate(document: Json, described: Json, status: int, content_type: str, body: Any) -> None:
    """Raise an error unless the operation's description covers this response."""
    response = resolved(document, described["responses"].get(str(status)) or described["responses"]["default"])
    schema = response["content"][content_type.partition(";")[0]].get("schema", {})
    Draft202012Validator({**schema, "components": document["components"]}).validate(body)


def credentials(app: LocalApp, described: Json) -> list[dict[str, str]]:
    """Return the headers for each way to authenticate that the operation lists, or no headers if it lists none."""
    headers = {
        "bearer": {"authorization": f"Bearer {CALLER_KEY}"},
        "apiKey": {"api-key": CALLER_KEY},
        "xApiKey": {"x-api-key": CALLER_KEY},
        "functionKey": {"x-functions-key": function_key(app)},
    }
    return [headers[next(iter(scheme))] for scheme in described["security"]] or [{}]


def test_responses_to_every_example_and_on_every_path_are_as_described(keyed_app: LocalApp, document: Json) -> None:
    stored = keyed_app.http.post(
        "/api/v1/responses", json={"input": "Hello", "background": True}, headers={"api-key": CALLER_KEY}
    )
    for method, path, described in operations(document):
        identifier = stored.json()["id"] if "/responses/" in path else "chat"
        url = "/api" + path.replace("{id}", identifier).replace("{deployment}", "chat")
        content = described.get("requestBody", {}).get("content", {}).get("application/json", {})
        examples = [example["value"] for example in content.get("examples", {}).values()]
        if method == "DELETE":
            # The other operations still need the stored response.
            url = url.replace(identifier, "resp_unknown")
        for body in examples or [None]:
            for headers in credentials(keyed_app, described):
                response = keyed_app.http.request(method, url, json=body, headers=headers)
                assert response.status_code == (404 if method == "DELETE" else 200), (method, url, response.text)
                content_type = response.headers["content-type"]
                received = response.text if content_type.startswith("text/") else response.json()
                validate(document, described, response.status_code, content_type, received)


def test_the_document_says_which_operations_need_a_key(keyed_app: LocalApp, document: Json) -> None:
    for method, path, described in operations(document):
        response = keyed_app.http.request(method, "/api" + path.replace("{", "").replace("}", ""))
        assert (response.status_code == 401) == bool(described["security"]), (method, path)


@pytest.mark.parametrize(
    ("script", "body", "status"),
    [
        ({}, {"model": "gpt-5"}, 404),
        ({}, {"model": 5}, 400),
        ({"status": 400}, {}, 400),
        ({"status": 401}, {}, 502),
        ({"status": 404}, {}, 502),
        ({"status": 429}, {}, 429),
        ({"status": 503}, {}, 503),
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
    validate(document, described, status, response.headers["content-type"], response.json())
