"""Test that the OpenAI-compatible routes reach only listed deployments and stored responses in Azure."""

import json
import re

import pytest

from tests.support.openai_routes import BEARER, BODIES, BODY, CHAT, post, read_status
from tests.support.processes import LocalApp, local_app
from tests.support.upstreams import CALLER_KEY

MODELS = {
    "twice": (b'{"model":"gpt-4o","model":"hidden"}', "hidden"),
    "twice, the other way round": (b'{"model":"hidden","model":"gpt-4o"}', None),
    "twice, once with an escape": (rb'{"model":"gpt-4o","mod\u0065l":"hidden"}', "hidden"),
    "twice, the last with an escape": (rb'{"model":"hidden","\u006d\u006f\u0064el":"gpt-4o"}', None),
    "in another case": (b'{"Model":"hidden"}', "lowercase"),
    "again in another case": (b'{"model":"gpt-4o","MODEL":"hidden"}', "lowercase"),
    "in another case and with an escape": (rb'{"model":"gpt-4o","mode\u004C":"hidden"}', "lowercase"),
    "its value with an escape": (rb'{"model":"h\u0069dden"}', "hidden"),
    "with a space": (b'{"model":" gpt-4o"}', " gpt-4o"),
    "in capitals": (b'{"model":"GPT-4O"}', "GPT-4O"),
    "a path": (b'{"model":"gpt-4o/../hidden"}', "hidden"),
    "a list": (b'{"model":["gpt-4o"]}', "must be a string"),
    "a number": (b'{"model":4}', "must be a string"),
    "empty": (b'{"model":""}', "There is no model"),
}


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("name", MODELS)
def test_only_a_listed_deployment_is_reached(app: LocalApp, name: str, path: str) -> None:
    body, problem = MODELS[name]
    result = post(app, body[:-1] + b"," + BODIES[path][1:], path)
    if problem is None:
        assert result == {"status": 200}
        (seen,) = app.model.journal()
        in_path = re.search("/deployments/([^/]+)/", seen.path)
        assert (in_path[1] if in_path else json.loads(seen.body)["model"]) == "prod-4o"
        assert in_path or b"hidden" not in seen.body
    else:
        assert result["status"] in (400, 404)
        assert problem in result["message"]
        assert result["param"] == "model"
        assert app.model.journal() == []


@pytest.mark.parametrize("body", [b'{"MODEL":"hidden"}', rb'{"mode\u004C":"hidden"}'])
def test_another_spelling_of_model_is_rejected_even_if_the_path_names_the_deployment(app: LocalApp, body: bytes) -> None:
    for operation, fields in (("chat/completions", BODY), ("embeddings", b'{"input":"Hello"}')):
        result = post(app, body[:-1] + b"," + fields[1:], f"/api/openai/deployments/gpt-4o/{operation}")
        assert result["status"] == 400
        assert "lowercase" in result["message"]
    assert app.model.journal() == []


@pytest.mark.parametrize("name", ["gpt-5", "...", "gpt-4o%2f..%2fhidden", "a" * 5000, "gpt-4o%00", "GPT-4o", "%20"])
def test_only_a_listed_deployment_is_reached_by_its_path(app: LocalApp, name: str) -> None:
    for operation in ("chat/completions", "embeddings"):
        assert raw_status(app, f"/api/openai/deployments/{name}/{operation}", "POST") in (400, 404)
    assert app.model.journal() == []


def raw_status(app: LocalApp, path: str, method: str = "GET") -> int:
    """Send a request without normalizing its path, and return the status of the response."""
    with app.send_raw(method, path, BODY if method == "POST" else b"", api_key=CALLER_KEY) as connection:
        return read_status(connection)


IDS = [
    "..",
    "%2e%2e",
    "%2e%2e%2fmodels",
    "..%2ffiles",
    "%2e%2e%5cfiles",
    "resp_1%3fapi-version=1",
    "resp_1%23",
    "resp_1%2finput_items",
    "resp_1;x=y",
    "resp_1.json",
    "resp_1%0a",
    "resp_1%00",
    "resp_1%20",
    "résp",
    "r%C3%A9sp",
    "%",
    "%zz",
    "a" * 129,
    "a" * 7000,
    "/resp_1",
    "resp_1//",
    "../../openai/files",
    "resp_1/../../files",
    "resp_1/delete",
    "",
]


@pytest.mark.parametrize("base", ["/api/v1/responses/", "/api/openai/responses/"])
@pytest.mark.parametrize("response_id", IDS)
def test_an_id_that_could_change_the_path_does_not_reach_azure(dated: LocalApp, base: str, response_id: str) -> None:
    for method in ("GET", "DELETE"):
        assert raw_status(dated, base + response_id, method) in (400, 404, 405)
    for method, part in (("POST", "cancel"), ("GET", "input_items")):
        assert raw_status(dated, f"{base}{response_id}/{part}", method) in (400, 404, 405)
    assert dated.model.journal() == []


def test_an_id_of_the_maximum_length_reaches_azure(app: LocalApp) -> None:
    assert raw_status(app, f"/api/v1/responses/{'a' * 128}") == 404
    assert app.model.journal()[0].path.endswith("/" + "a" * 128)


def test_only_listed_query_parameters_reach_azure(app: LocalApp) -> None:
    created = app.http.post("/api/v1/responses", content=BODIES["/api/v1/responses"], headers=BEARER).json()
    query = "?order=asc&after=a%26b&api-version=2020-01-01&code=secret&x=1&include[]=a&include=b&stream=false"
    assert app.http.get(f"/api/v1/responses/{created['id']}{query}", headers=BEARER).status_code == 200
    app.http.post(CHAT + "?api-version=2020-01-01&x=1", content=BODY, headers=BEARER)
    # No item has the id in `after`.
    assert app.http.get(f"/api/v1/responses/{created['id']}/input_items{query}", headers=BEARER).status_code == 400
    _, stored, chat, items = app.model.journal()
    for seen in (stored, items):
        is_dated = seen.query.pop("api-version", None) == "2025-04-01-preview"
        assert seen.query.pop("include" if is_dated else "include[]") in ("a", "b")
    assert stored.query == {"stream": "false"}
    assert items.query == {"order": "asc", "after": "a&b"}
    assert chat.query.pop("api-version", "2025-04-01-preview") == "2025-04-01-preview"
    assert chat.query == {}


def test_an_operation_that_the_api_version_lacks_does_not_reach_azure(tmp_path_factory: pytest.TempPathFactory) -> None:
    with local_app(tmp_path_factory.mktemp("app"), AZURE_OPENAI_API_VERSION="2024-10-21") as app:
        for path in ("responses", "responses/compact", "images/edits", "audio/speech"):
            error = app.http.post(f"/api/v1/{path}", content=b'{"input":"Hello"}').json()["error"]
            assert error["code"] == "operation_not_available"
            assert error["message"] == (
                f"The API version that this app uses does not have {path}. Its operator can change AZURE_OPENAI_API_VERSION."
            )
        assert app.model.journal() == []
