"""The OpenAI-compatible routes over HTTP: what passes through as it came, and what does not pass."""

import json
import re
import socket
from collections.abc import Iterator

import msgspec
import pytest

from tests.contract import ALLOWED, CALLERS_SECRETS, PASSED_ON
from tests.running import Json, LocalApp, local_app
from tests.upstreams import CALLER_KEY

OLD_KEY = "the-same-callers-former-key"
SDK_SETTINGS = {
    "OPENAI_ORG_ID": "from-the-environment",
    "OPENAI_PROJECT_ID": "from-the-environment",
    "OPENAI_CUSTOM_HEADERS": "X-Extra: 1\nAuthorization: Bearer from-the-environment",
}
SETTINGS = {
    "CALLER_KEYS": f"team-a={CALLER_KEY},team-a={OLD_KEY},team-b=a-key-of-another-team",
    "AZURE_OPENAI_DEPLOYMENTS": "gpt-4o=prod-4o,embed-3",
    **SDK_SETTINGS,
}
BEARER = {"authorization": f"Bearer {CALLER_KEY}"}
CHAT = "/api/v1/chat/completions"
MESSAGES = b'[{"role":"user","content":"Hello"}]'
BODY = b'{"messages":%s}' % MESSAGES
# With an address for each operation, under the key that its body has to have besides `model`.
BODIES = {CHAT: BODY, "/api/v1/embeddings": b'{"input":"Hello"}', "/api/v1/responses": b'{"input":"Hello"}'}


@pytest.fixture(scope="module")
def dated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalApp]:
    with local_app(tmp_path_factory.mktemp("app"), **SETTINGS) as app:
        yield app


@pytest.fixture(scope="module")
def v1(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalApp]:
    with local_app(tmp_path_factory.mktemp("app"), **SETTINGS, AZURE_OPENAI_API_VERSION="v1") as app:
        yield app


@pytest.fixture(autouse=True)
def empty_journals(dated: LocalApp, v1: LocalApp) -> None:
    dated.model.clear()
    v1.model.clear()


@pytest.fixture(params=["dated", "v1"])
def app(request: pytest.FixtureRequest) -> LocalApp:
    app: LocalApp = request.getfixturevalue(request.param)
    return app


def post(app: LocalApp, body: bytes, path: str = CHAT, **headers: str) -> Json:
    """Sends `body` and returns the answer's error, empty when there is none."""
    response = app.http.post(path, content=body, headers=BEARER | headers)
    answer: Json = response.json()
    error: Json = answer.get("error") or {}
    assert error or response.status_code == 200
    return {"status": response.status_code, **error}


VERBATIM = {
    "odd whitespace": b' \n{ "messages"\t: [ {"role" : "user","content":\r\n"Hello"} ]  ,\n"model" :"gpt-4o" }\r\n ',
    "unknown fields": b'{"messages":%s,"model":"gpt-4o","x":{"y":[1,null,{}]},"":0}' % MESSAGES,
    "numbers": b'{"messages":%s,"temperature":0.50,"seed":12345678901234567890,"x":1e+2,"y":-0.0}' % MESSAGES,
    "escapes": rb'{"messages":[{"role":"user","content":"\u0048\/\ud83d\ude00"}],"us\u0065r":"a\tb\u0000"}',
    "non-ASCII": '{"messages":[{"role":"user","content":"Grüße 👋 \u2028"}],"übrig":"é"}'.encode(),
    "5 MB": b'{"messages":[{"role":"user","content":"%s"}]}' % (b"a \\u00e9 \xc3\xa9 " * 400_000),
}


@pytest.mark.parametrize("name", VERBATIM)
def test_on_a_dated_version_azure_gets_the_bytes_that_were_sent(dated: LocalApp, name: str) -> None:
    for path in (CHAT, "/api/openai/deployments/gpt-4o/chat/completions"):
        assert post(dated, VERBATIM[name], path) == {"status": 200}
    assert [seen.body == VERBATIM[name] for seen in dated.model.journal()] == [True, True]


@pytest.mark.parametrize("name", VERBATIM)
def test_on_v1_azure_gets_every_value_but_the_model_as_it_was_sent(v1: LocalApp, name: str) -> None:
    assert post(v1, VERBATIM[name]) == {"status": 200}
    sent, seen = values(VERBATIM[name]), values(v1.model.journal()[0].body)
    assert seen.pop("model") in (b'"prod-4o"', b'"gpt-4o-mini"')
    sent.pop("model", None)
    assert seen == sent


def values(body: bytes) -> dict[str, bytes]:
    """The top-level values of a JSON object, each as its bytes."""
    return {name: bytes(value) for name, value in msgspec.json.decode(body, type=dict[str, msgspec.Raw]).items()}


ANSWER = ' {"choices" : [],"id":"\\u0061", "überraschung":1.0}\n'


@pytest.mark.parametrize("path", BODIES)
def test_the_caller_gets_the_bytes_that_azure_sent(app: LocalApp, path: str) -> None:
    app.model.script({"raw": ANSWER, "headers": {"content-type": "application/json; charset=utf-8"}})
    response = app.http.post(path, content=BODIES[path], headers=BEARER)
    assert response.content == ANSWER.encode()
    assert response.headers["content-type"] == "application/json; charset=utf-8"


@pytest.mark.parametrize("status", [400, 409, 413, 422, 429])
def test_the_caller_gets_the_bytes_of_a_refusal(app: LocalApp, status: int) -> None:
    app.model.script({"raw": ANSWER, "status": status, "headers": {"content-type": "text/plain"}})
    response = app.http.post(CHAT, content=BODY, headers=BEARER)
    assert (response.status_code, response.content) == (status, ANSWER.encode())
    assert response.headers["content-type"] == "text/plain"


STREAM = (
    'data: {"choices":[],"id":""}\n\n'
    "event: x\ndata:  two\ndata: lines \n\n"
    ": a comment of Azure's\r\n\r\n"
    "data: ü 👋\r\rid: 7\r\n\n"
    "data: [DONE]\n\n"
)


@pytest.mark.parametrize("rest", ["", "data: without an end"])
@pytest.mark.parametrize("split", [0, 1, 2, 3, 5, 7, 11])
def test_the_caller_gets_the_bytes_of_a_stream_however_they_are_split(app: LocalApp, split: int, rest: str) -> None:
    headers = {"content-type": "text/event-stream; x=y"}
    app.model.script({"raw": STREAM + rest, "split": split, "headers": headers})
    response = app.http.post(CHAT, content=BODY[:-1] + b',"stream":true}', headers=BEARER)
    assert response.content == (STREAM + rest).encode()
    assert response.headers["content-type"] == "text/event-stream; x=y"


def test_a_stream_comes_piece_by_piece(app: LocalApp) -> None:
    app.model.script({"reply": "one and two", "step": True})
    with app.http.stream("POST", CHAT, content=BODY[:-1] + b',"stream":true}', headers=BEARER) as response:
        lines = (line for line in response.iter_lines() if line)
        for piece in ("one and", " two"):
            # The stand-in sends nothing before this; so each piece is here before the next exists.
            app.model.permit()
            assert any(json.dumps(piece) in line for line in lines)
        assert list(lines)[-1] == "data: [DONE]"


MODELS = {
    "twice": (b'{"model":"gpt-4o","model":"hidden"}', "hidden"),
    "twice, the other way round": (b'{"model":"hidden","model":"gpt-4o"}', None),
    "twice, once with an escape": (rb'{"model":"gpt-4o","mod\u0065l":"hidden"}', "hidden"),
    "twice, the last with an escape": (rb'{"model":"hidden","\u006d\u006f\u0064el":"gpt-4o"}', None),
    "in another case": (b'{"Model":"hidden"}', "small letters"),
    "in another case besides": (b'{"model":"gpt-4o","MODEL":"hidden"}', "small letters"),
    "in another case and with an escape": (rb'{"model":"gpt-4o","mode\u004C":"hidden"}', "small letters"),
    "its value with an escape": (rb'{"model":"h\u0069dden"}', "hidden"),
    "with blanks": (b'{"model":" gpt-4o"}', " gpt-4o"),
    "in capitals": (b'{"model":"GPT-4O"}', "GPT-4O"),
    "a path": (b'{"model":"gpt-4o/../hidden"}', "hidden"),
    "a list": (b'{"model":["gpt-4o"]}', "must be a string"),
    "a number": (b'{"model":4}', "must be a string"),
    "empty": (b'{"model":""}', "There is no model"),
}


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("name", MODELS)
def test_only_a_listed_deployment_is_reached(app: LocalApp, name: str, path: str) -> None:
    body, refusal = MODELS[name]
    answer = post(app, body[:-1] + b"," + BODIES[path][1:], path)
    if refusal is None:
        assert answer == {"status": 200}
        (seen,) = app.model.journal()
        in_path = re.search("/deployments/([^/]+)/", seen.path)
        assert (in_path[1] if in_path else json.loads(seen.body)["model"]) == "prod-4o"
        assert in_path or b"hidden" not in seen.body
    else:
        assert answer["status"] in (400, 404)
        assert refusal in answer["message"]
        assert answer["param"] == "model"
        assert app.model.journal() == []


@pytest.mark.parametrize("body", [b'{"MODEL":"hidden"}', rb'{"mode\u004C":"hidden"}'])
def test_another_spelling_is_refused_where_the_address_names_the_deployment_too(app: LocalApp, body: bytes) -> None:
    for operation, fields in (("chat/completions", BODY), ("embeddings", b'{"input":"Hello"}')):
        answer = post(app, body[:-1] + b"," + fields[1:], f"/api/openai/deployments/gpt-4o/{operation}")
        assert answer["status"] == 400
        assert "small letters" in answer["message"]
    assert app.model.journal() == []


@pytest.mark.parametrize("name", ["gpt-5", "..", "%2e%2e", "gpt-4o%2f..%2fhidden", "a" * 5000, "gpt-4o%00", "GPT-4o", "%20"])
def test_only_a_listed_deployment_is_reached_by_its_address(app: LocalApp, name: str) -> None:
    for operation in ("chat/completions", "embeddings"):
        assert raw(app, f"/api/openai/deployments/{name}/{operation}", "POST") == 404
    assert app.model.journal() == []


def raw(app: LocalApp, path: str, method: str = "GET") -> int:
    """The status that a request gets whose path no HTTP client has tidied up."""
    with app.sent(method, path, BODY if method == "POST" else b"", api_key=CALLER_KEY) as connection:
        return status(connection)


def status(connection: socket.socket) -> int:
    with connection.makefile("rb") as answer:
        return int(answer.readline().split()[1])


IDS = [
    "..",
    ".",
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
    "../responses",
    "../../openai/files",
    "resp_1/../../files",
    "resp_1/delete",
    "",
]


@pytest.mark.parametrize("base", ["/api/v1/responses/", "/api/openai/responses/"])
@pytest.mark.parametrize("response_id", IDS)
def test_an_id_that_could_lead_elsewhere_goes_nowhere(dated: LocalApp, base: str, response_id: str) -> None:
    for method in ("GET", "DELETE"):
        assert raw(dated, base + response_id, method) in (400, 404)
    for method, part in (("POST", "cancel"), ("GET", "input_items")):
        assert raw(dated, f"{base}{response_id}/{part}", method) in (400, 404)
    assert dated.model.journal() == []


def test_the_longest_id_is_asked_for(app: LocalApp) -> None:
    assert raw(app, f"/api/v1/responses/{'a' * 128}") == 404
    assert app.model.journal()[0].path.endswith("/" + "a" * 128)


def test_only_listed_query_parameters_reach_azure(app: LocalApp) -> None:
    made = app.http.post("/api/v1/responses", content=BODIES["/api/v1/responses"], headers=BEARER).json()
    query = "?order=asc&after=a%26b&api-version=2020-01-01&code=secret&x=1&include[]=a&include=b&stream=false"
    assert app.http.get(f"/api/v1/responses/{made['id']}{query}", headers=BEARER).status_code == 200
    app.http.post(CHAT + "?api-version=2020-01-01&x=1", content=BODY, headers=BEARER)
    _, stored, chat = app.model.journal()
    assert stored.query.pop("api-version", "2025-04-01-preview") == "2025-04-01-preview"
    assert stored.query.pop("include[]") in ("a", "b")
    assert stored.query == {"order": "asc", "after": "a&b", "stream": "false"}
    assert chat.query.pop("api-version", "2025-04-01-preview") == "2025-04-01-preview"
    assert chat.query == {}


def test_what_this_version_of_azure_does_not_have_is_azures_answer(tmp_path_factory: pytest.TempPathFactory) -> None:
    with local_app(tmp_path_factory.mktemp("app"), AZURE_OPENAI_API_VERSION="2024-10-21") as app:
        response = app.http.post("/api/v1/responses", content=b'{"input":"Hello"}')
        assert (response.status_code, response.json()) == (404, {"error": {"code": "404", "message": "Resource not found"}})
        (seen,) = app.model.journal()
        assert (seen.path, seen.query) == ("/openai/responses", {"api-version": "2024-10-21"})


class TestCallerKeys:
    @pytest.mark.parametrize(
        "headers",
        [
            BEARER,
            {"authorization": f"bearer  {CALLER_KEY}"},
            {"api-key": CALLER_KEY},
            {"x-api-key": CALLER_KEY},
            {"api-key": OLD_KEY},
            {"authorization": "Bearer of-something-else", "api-key": CALLER_KEY},
        ],
    )
    def test_a_key_opens_wherever_clients_put_it(self, dated: LocalApp, headers: dict[str, str]) -> None:
        assert dated.http.get("/api/v1/models", headers=headers).status_code == 200
        assert dated.http.post(CHAT, content=BODY, headers=headers).status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"api-key": "wrong"},
            {"api-key": ""},
            {"authorization": "Bearer"},
            {"authorization": f"Basic {CALLER_KEY}"},
            {"api-key": CALLER_KEY[:-1]},
            {"api-key": CALLER_KEY + "x"},
            {"api-key": CALLER_KEY.upper()},
            {"api-key": "team-a"},
            {"api-key": f"team-a={CALLER_KEY}"},
            {"api-key": "k" * 6000},
            {"api-key": "ключ".encode()},
            {"api-key": b"\xff\xfe"},
            {"x-functions-key": CALLER_KEY},
            {"cookie": f"api-key={CALLER_KEY}"},
            {"X-MS-CLIENT-PRINCIPAL-ID": "00000000-0000-0000-0000-000000000000", "X-MS-CLIENT-PRINCIPAL-NAME": "team-a"},
        ],
    )
    def test_anything_else_is_401(self, dated: LocalApp, headers: dict[str, str]) -> None:
        requests = [("POST", path) for path in BODIES] + [
            ("POST", "/api/openai/deployments/gpt-4o/chat/completions"),
            ("POST", "/api/openai/deployments/gpt-4o/embeddings"),
            ("GET", "/api/v1/models"),
            ("GET", "/api/v1/models/gpt-4o"),
            *[
                (method, f"/api/{api}/responses{rest}")
                for api in ("v1", "openai")
                for method, rest in (("GET", "/a"), ("DELETE", "/a"), ("POST", "/a/cancel"), ("GET", "/a/input_items"))
            ],
        ]
        for method, path in requests:
            response = dated.http.request(method, path, headers=headers, params={"code": CALLER_KEY, "api-key": CALLER_KEY})
            assert response.status_code == 401, (method, path)
            assert response.json()["error"]["code"] == "invalid_api_key"
            assert response.headers["www-authenticate"] == "Bearer"
        assert dated.model.journal() == []

    def test_a_key_is_checked_before_the_body_is_read(self, dated: LocalApp) -> None:
        with dated.sent("POST", CHAT, length=1000, api_key="wrong") as connection:
            assert status(connection) == 401

    def test_a_large_body_with_a_wrong_key_is_401_and_not_a_broken_connection(self, dated: LocalApp) -> None:
        response = dated.http.post(CHAT, content=b" " * 8_000_000, headers={"api-key": "wrong"})
        assert response.status_code == 401

    @pytest.mark.parametrize(
        "environ",
        [
            {"AZURE_FUNCTIONS_ENVIRONMENT": "Production"},
            {"WEBSITE_INSTANCE_ID": "0123"},
            {"WEBSITE_POD_NAME": "pod", "AZURE_FUNCTIONS_ENVIRONMENT": "Development"},
            {"CONTAINER_APP_NAME": "app", "AZURE_FUNCTIONS_ENVIRONMENT": "Development"},
        ],
    )
    def test_without_any_key_they_are_closed_in_azure(
        self, tmp_path_factory: pytest.TempPathFactory, environ: dict[str, str]
    ) -> None:
        with local_app(tmp_path_factory.mktemp("app"), **environ) as app:
            for headers in ({}, BEARER):
                response = app.http.post(CHAT, content=BODY, headers=headers)
                assert response.status_code == 401
                assert "CALLER_KEYS" in response.json()["error"]["message"]
            assert app.http.get("/api/v1/models").status_code == 401
            assert app.chat({"prompt": "Hello"}).status_code == 200

    def test_without_any_key_they_are_open_on_a_developers_machine(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        with local_app(tmp_path_factory.mktemp("app")) as app:
            assert app.http.post(CHAT, content=BODY).status_code == 200
            # SDKs insist on sending some key.
            assert app.http.get("/api/v1/models", headers=BEARER).status_code == 200

    @pytest.mark.parametrize(
        ("value", "problem"),
        [
            ("team-a=short", "fewer than 16 characters"),
            (f"team-a={CALLER_KEY},team-b={CALLER_KEY}", "same key twice"),
            ("@Microsoft.KeyVault(SecretUri=https://x.vault.azure.net/secrets/y)", "did not resolve"),
            (f"team-a={CALLER_KEY},team-b=@Microsoft.KeyVault(SecretUri=https://x)", "did not resolve"),
        ],
    )
    def test_a_bad_list_of_keys_is_refused_by_name(
        self, tmp_path_factory: pytest.TempPathFactory, value: str, problem: str
    ) -> None:
        with local_app(tmp_path_factory.mktemp("app"), CALLER_KEYS=value) as app:
            response = app.http.post(CHAT, content=BODY, headers=BEARER)
            assert response.status_code == 503
            assert "CALLER_KEYS" in response.json()["error"]["message"]
            app.wait_for(problem)
            assert CALLER_KEY not in app.output

    def test_the_log_has_the_callers_name_and_no_key(self, dated: LocalApp) -> None:
        dated.model.script({"status": 500}, {"reset": True, "times": 2}, {"status": 401}, {"reply": "one and two", "cut": 1})
        for body in (BODY, BODY, BODY, BODY[:-1] + b',"stream":true}'):
            dated.http.post(CHAT, content=body, headers={"api-key": OLD_KEY})
        dated.wait_for("Endpoint 1, called by team-a, answered 500")
        dated.wait_for("No answer from endpoint 1 to team-a")
        dated.wait_for("Endpoint 1, called by team-a, refused the app's credentials")
        dated.wait_for("stream=true status=200 error=stream_broken")
        assert CALLER_KEY not in dated.output
        assert OLD_KEY not in dated.output


@pytest.mark.parametrize("path", BODIES)
def test_azure_sees_the_listed_headers_and_no_others(dated: LocalApp, path: str) -> None:
    headers = (
        CALLERS_SECRETS | PASSED_ON | {"api-key": CALLER_KEY, "openai-project": "callers-own", "x-stainless-lang": "python"}
    )
    dated.http.post(path, content=BODIES[path], headers=headers)
    made = dated.http.post("/api/v1/responses", content=b'{"input":"a","background":true}', headers=headers).json()
    for method, rest in (("GET", ""), ("GET", "/input_items"), ("POST", "/cancel"), ("DELETE", "")):
        assert dated.http.request(method, f"/api/v1/responses/{made['id']}{rest}", headers=headers).status_code == 200
    journal = dated.model.journal()
    assert len(journal) == 6
    for seen in journal:
        assert set(seen.headers) <= ALLOWED | set(PASSED_ON)
        assert {name: seen.headers[name] for name in PASSED_ON} == PASSED_ON
        for secret in ("callers-own", "from-the-environment", CALLER_KEY):
            assert secret not in str(seen)


def test_v1_has_the_key_in_one_header_alone(v1: LocalApp) -> None:
    v1.http.post(CHAT, content=BODY, headers=CALLERS_SECRETS | {"api-key": CALLER_KEY})
    (seen,) = v1.model.journal()
    assert set(seen.headers) == (ALLOWED - {"api-key"}) | {"authorization"}
    assert "callers-own" not in str(seen)


def test_the_caller_sees_listed_headers_and_no_others(app: LocalApp) -> None:
    secret = {"set-cookie": "a=b", "x-secret": "1", "azureml-model-session": "x", "x-ms-deployment-name": "prod-4o"}
    app.model.script({"raw": "{}", "headers": secret}, {"status": 400, "headers": secret})
    for _ in range(2):
        response = app.http.post(CHAT, content=BODY, headers=BEARER)
        passed = {name for name in response.headers if not name.startswith("x-ratelimit-")}
        assert passed == {
            "apim-request-id",
            "content-length",
            "content-type",
            "date",
            "server",
            "x-ms-region",
            "x-request-id",
        }


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", [CHAT, "/api/v1/responses", "/api/openai/deployments/gpt-4o/chat/completions"])
def test_a_caller_who_leaves_before_the_answer_ends_the_call_to_azure(app: LocalApp, path: str, stream: bool) -> None:
    app.model.script({"hang": True})
    body = b'{"messages":%s,"input":"a","stream":%s}' % (MESSAGES, str(stream).lower().encode())
    with app.sent("POST", path, body, api_key=CALLER_KEY):
        app.model.journal(requests=1)
    assert app.model.journal(ended=1)[0].hung_up


def test_a_caller_who_leaves_a_stored_response_ends_the_call_to_azure(app: LocalApp) -> None:
    for method, rest in (("GET", ""), ("DELETE", ""), ("POST", "/cancel")):
        app.model.clear()
        app.model.script({"hang": True})
        with app.sent(method, f"/api/v1/responses/resp_1{rest}", api_key=CALLER_KEY):
            app.model.journal(requests=1)
        assert app.model.journal(ended=1)[0].hung_up
