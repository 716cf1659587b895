"""GET /api/openapi.json: valid, complete, and true."""

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


def test_it_is_valid(document: Json) -> None:
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


def test_it_covers_the_routes_that_the_host_found_and_no_others(keyed_app: LocalApp, document: Json) -> None:
    routes = re.findall(r"\t\w+: \[([A-Z,]+)\] http://localhost:\d+(/\S+)", keyed_app.output)
    server = document["servers"][0]["url"]
    assert {(method, server + path) for method, path, _ in operations(document)} == {
        (method, route) for methods, route in routes for method in methods.split(",")
    }


def test_each_operation_has_a_name_of_its_own(document: Json) -> None:
    names = [described["operationId"] for _, _, described in operations(document)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("path", "server"),
    [("/api/openapi.json", "/api"), ("/openapi.json", "/"), ("/a/b/OPENAPI.json", "/a/b"), ("/api/openapi.json/", "/api")],
)
def test_it_follows_the_route_prefix(path: str, server: str) -> None:
    assert openapi.description(path)["servers"] == [{"url": server}]


def resolved(document: Json, item: Json) -> Json:
    """The component that `item` refers to, or `item` itself."""
    if "$ref" not in item:
        return item
    *_, kind, name = item["$ref"].split("/")
    component: Json = document["components"][kind][name]
    return component


def codes(document: Json, described: Json) -> set[tuple[int, str]]:
    """The statuses of an operation's error responses, each with a code of the app's own that its description names."""
    known = {error.code for error in known_errors()}
    return {
        (int(status), word)
        for status, item in described["responses"].items()
        if status.isdecimal()
        for word in re.findall(r"\w+", resolved(document, item)["description"])
        if word in known
    }


def test_each_operation_lists_the_errors_that_the_app_can_answer_it_with(document: Json) -> None:
    of_calls = {
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
    unauthorized = {(401, "invalid_api_key")}
    model_not_found = {(404, "model_not_found")}
    response_not_found = {(404, "response_not_found")}
    of_models = unauthorized | {(error.status, str(error.code)) for error in (errors.SettingsError, errors.InternalError)}
    for method, path, described in operations(document):
        if path.startswith(("/playground", "/openapi", "/health")):
            expected: set[tuple[int, str]] = set()
        elif path == "/v1/models":
            expected = of_models
        elif path.startswith("/v1/models/"):
            expected = of_models | model_not_found
        elif path == "/chat":
            expected = of_calls | model_not_found
        else:
            expected = of_calls | unauthorized | (response_not_found if "{id}" in path else model_not_found)
        assert codes(document, described) == expected, (method, path)


def validate(document: Json, described: Json, status: int, content_type: str, body: Any) -> None:
    """Fails unless the answer is one that the document foresees."""
    answer = resolved(document, described["responses"].get(str(status)) or described["responses"]["default"])
    schema = answer["content"][content_type.partition(";")[0]].get("schema", {})
    Draft202012Validator({**schema, "components": document["components"]}).validate(body)


def credentials(app: LocalApp, described: Json) -> list[dict[str, str]]:
    """Headers for each of the ways in which the operation says it can be called."""
    ways = {
        "bearer": {"authorization": f"Bearer {CALLER_KEY}"},
        "apiKey": {"api-key": CALLER_KEY},
        "xApiKey": {"x-api-key": CALLER_KEY},
        "functionKey": {"x-functions-key": function_key(app)},
    }
    return [ways[next(iter(way))] for way in described["security"]] or [{}]


def test_every_example_and_every_address_is_answered_as_described(keyed_app: LocalApp, document: Json) -> None:
    made = keyed_app.http.post(
        "/api/v1/responses", json={"input": "Hello", "background": True}, headers={"api-key": CALLER_KEY}
    )
    for method, path, described in operations(document):
        identifier = made.json()["id"] if "/responses/" in path else "gpt-4o-mini"
        url = "/api" + path.replace("{id}", identifier).replace("{deployment}", "gpt-4o-mini")
        content = described.get("requestBody", {}).get("content", {}).get("application/json", {})
        examples = [example["value"] for example in content.get("examples", {}).values()]
        if method == "DELETE":
            # What is left of it is for the others to ask for.
            url = url.replace(identifier, "resp_unknown")
        for body in examples or [None]:
            for headers in credentials(keyed_app, described):
                response = keyed_app.http.request(method, url, json=body, headers=headers)
                assert response.status_code == (404 if method == "DELETE" else 200), (method, url, response.text)
                content_type = response.headers["content-type"]
                answer = response.text if content_type.startswith("text/") else response.json()
                validate(document, described, response.status_code, content_type, answer)


def test_what_needs_a_key_is_described_so(keyed_app: LocalApp, document: Json) -> None:
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
def test_errors_are_answered_as_described(
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
