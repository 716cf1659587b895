"""Test which forms reach Azure, and that nothing of their encoding does: only fields, files and one `model`."""

from typing import Any

import httpx2
import pytest
from openai import OpenAI

from shared.openai_api.forms import MOST_FIELDS, MOST_FILES
from shared.operations import OPERATIONS, SURFACES, V1, Body
from tests.support.forms import BOUNDARY, CONTENT_TYPE, Part, field, file, form
from tests.support.gateway_calls import CALLER
from tests.support.operation_calls import DEPLOYMENT, MODEL, SETTINGS, audio, digest
from tests.support.processes import Json, RecordedRequest, Simulator
from tests.support.sdk import DATED, SDK
from tests.support.upstreams import Gateway

FORMS = [operation.path for operation in OPERATIONS if operation.body is Body.FORM]
TRANSCRIPTIONS = "/api/v1/audio/transcriptions"
# Enough for each operation.
OTHERS = (field("prompt", "A cat"), file("image", b"png", "image.png", "image/png"), file())


class Uploads:
    """Send forms to the app, and read what Azure got."""

    def __init__(self, gateway: Gateway, model: Simulator) -> None:
        self.gateway = gateway
        self.model = model

    def post(self, *parts: Part, path: str = TRANSCRIPTIONS) -> httpx2.Response:
        return self.post_body(form(*parts), path)

    def post_body(self, body: bytes, path: str = TRANSCRIPTIONS, content_type: str = CONTENT_TYPE) -> httpx2.Response:
        headers = httpx2.Headers({**CALLER, "content-type": content_type}, encoding="latin-1")
        return self.gateway.http.post(path, content=body, headers=headers)

    def seen(self) -> RecordedRequest:
        (seen,) = self.model.journal()
        return seen


@pytest.fixture(params=[DATED, V1])
def uploads(request: pytest.FixtureRequest, gateway: Gateway, model: Simulator) -> Uploads:
    """Return the app with each kind of API version."""
    gateway.configure(model.url, AZURE_OPENAI_API_VERSION=request.param, **SETTINGS)
    return Uploads(gateway, model)


@pytest.fixture
def v1_uploads(gateway: Gateway, model: Simulator) -> Uploads:
    gateway.configure(model.url, AZURE_OPENAI_API_VERSION=V1, **SETTINGS)
    return Uploads(gateway, model)


def error_of(response: httpx2.Response) -> tuple[int, str | None, str | None]:
    """Return the status, the code and the parameter of an error."""
    error: Json = response.json()["error"]
    return response.status_code, error["code"], error["param"]


WRONG_MODEL = 400, "invalid_request", "model"
HIDDEN = field("model", "hidden")
GOOD = field("model", MODEL)
SPELLINGS = ("MODEL", "Model", " model", "model ", "model[]", "model[0]", "[model]", "_model", "model.", "model\t", "model1")
MODELS: dict[str, tuple[list[Part], tuple[int, str, str]]] = {
    "unknown": ([HIDDEN], (404, "model_not_found", "model")),
    "missing": ([], WRONG_MODEL),
    "empty": ([field("model", "")], WRONG_MODEL),
    "twice": ([GOOD, GOOD], WRONG_MODEL),
    "a second one": ([GOOD, HIDDEN], WRONG_MODEL),
    "a file": ([file("model", MODEL.encode(), "model.txt", "text/plain")], WRONG_MODEL),
    "a file without a name": ([file("model", MODEL.encode(), "", "")], WRONG_MODEL),
    "a second one, a file": ([GOOD, file("model", b"hidden")], WRONG_MODEL),
    **{
        f"another spelling, {name!r}": ([GOOD, field(name, "hidden")], WRONG_MODEL)
        for name in (
            "MODEL",
            "Model",
            " model",
            "model ",
            "model[]",
            "model[0]",
            "[model]",
            "_model",
            "model.",
            "model\t",
            "model1",
        )
    },
    "only another spelling": ([field("MODEL", MODEL)], WRONG_MODEL),
}


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize("name", MODELS)
def test_only_a_listed_deployment_is_reached_by_a_form(v1_uploads: Uploads, name: str, path: str) -> None:
    parts, expected = MODELS[name]
    for order in ((*parts, *OTHERS), (*OTHERS, *parts)):
        assert error_of(v1_uploads.post(*order, path=f"/api/v1/{path}")) == expected
    assert v1_uploads.model.journal() == []


# Some clients for Azure leave the deployment out of the path.
@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("path", FORMS)
def test_the_model_may_come_last_and_goes_out_first(uploads: Uploads, path: str, surface: str) -> None:
    assert uploads.post(*OTHERS, GOOD, path=f"/api/{surface}/{path}").status_code == 200
    assert [part["name"] for part in uploads.seen().parts] == ["model", "prompt", "image", "file"]
    assert uploads.seen().parts[0]["value"] == DEPLOYMENT


@pytest.mark.parametrize("path", FORMS)
def test_the_deployment_in_the_path_counts(uploads: Uploads, path: str) -> None:
    for given in ([], [HIDDEN], [GOOD]):
        uploads.model.clear()
        assert uploads.post(*given, *OTHERS, path=f"/api/openai/deployments/chat/{path}").status_code == 200
        assert [part["value"] for part in uploads.seen().parts if part["name"] == "model"] == ["chat"]
    uploads.model.clear()
    for name in ("hidden", "GPT-4O", "chat%2f..%2fhidden"):
        assert uploads.post(GOOD, *OTHERS, path=f"/api/openai/deployments/{name}/{path}").status_code == 404
    for wrong in ([GOOD, HIDDEN], [field("MODEL", "hidden")]):
        assert error_of(uploads.post(*wrong, *OTHERS, path=f"/api/openai/deployments/chat/{path}")) == WRONG_MODEL
    assert uploads.model.journal() == []


WHOLE = form(GOOD, *OTHERS)
START = f"--{BOUNDARY}\r\n".encode()
NOT_FORMS: dict[str, tuple[bytes, str]] = {
    "JSON": (b'{"model":"gpt-4o"}', "application/json"),
    "urlencoded": (b"model=gpt-4o", "application/x-www-form-urlencoded"),
    "no content type": (WHOLE, ""),
    "another kind of form": (WHOLE, CONTENT_TYPE.replace("form-data", "mixed")),
    "no boundary": (WHOLE, "multipart/form-data"),
    "an empty boundary": (WHOLE, "multipart/form-data; boundary="),
    "a long boundary": (WHOLE, f"multipart/form-data; boundary={'b' * 5000}"),
    "another boundary": (WHOLE, "multipart/form-data; boundary=other"),
    "a boundary that is not ASCII": (WHOLE, "multipart/form-data; boundary=\xfc"),
    "empty": (b"", CONTENT_TYPE),
    "text": (b"Hello", CONTENT_TYPE),
    "truncated in a boundary": (WHOLE[:-6], CONTENT_TYPE),
    "truncated before the boundary": (WHOLE[: -len(BOUNDARY) - 8], CONTENT_TYPE),
    "truncated in a file": (WHOLE[: -len(BOUNDARY) - 10], CONTENT_TYPE),
    "truncated in a header": (WHOLE[: WHOLE.index(b"filename")], CONTENT_TYPE),
    "a part without headers": (START + b"\r\nHello\r\n" + WHOLE, CONTENT_TYPE),
    "a part without a name": (START + b"Content-Disposition: form-data\r\n\r\nHello\r\n" + WHOLE, CONTENT_TYPE),
    "a header without a colon": (START + b"Content-Disposition\r\n\r\nHello\r\n" + WHOLE, CONTENT_TYPE),
    "a header with NUL": (START + b"Content\0Disposition: form-data\r\n\r\nHello\r\n" + WHOLE, CONTENT_TYPE),
}


@pytest.mark.parametrize("name", NOT_FORMS)
def test_a_body_that_is_not_a_form_is_rejected(v1_uploads: Uploads, name: str) -> None:
    body, content_type = NOT_FORMS[name]
    response = v1_uploads.post_body(body, content_type=content_type)
    assert error_of(response) == (400, "invalid_request", None)
    assert "multipart/form-data" in response.json()["error"]["message"]
    assert v1_uploads.model.journal() == []


def test_a_compressed_form_is_rejected(v1_uploads: Uploads) -> None:
    headers = {**CALLER, "content-type": CONTENT_TYPE, "content-encoding": "gzip"}
    response = v1_uploads.gateway.http.post(TRANSCRIPTIONS, content=WHOLE, headers=headers)
    assert error_of(response) == (415, "unsupported_encoding", None)


INJECTED = 'Content-Disposition: form-data; name="model"'
BREAKS = [
    "\n",
    "\r",
    "\r\n",
    "\r\n\r\n",
    f"\r\n--{BOUNDARY}x\r\n",
    "\0",
    '"',
    '\\"',
    '"\r\n',
    "%0D%0A",
    "%22",
    "\u2028",
    "\x85",
]


@pytest.mark.parametrize("line_break", BREAKS)
def test_no_part_can_add_another_part_or_header(v1_uploads: Uploads, line_break: str) -> None:
    inside = f"a{line_break}{INJECTED}{line_break}hidden"
    for part in (field(inside, "1"), file("file", b"2", f"{inside}.mp3"), file("file", b"3", "a.mp3", inside)):
        v1_uploads.model.clear()
        response = v1_uploads.post(GOOD, part, file())
        seen = v1_uploads.model.journal()
        if response.status_code == 400:
            continue
        assert response.status_code == 200
        assert [found["value"] for found in seen[0].parts if found["name"] == "model"] == [DEPLOYMENT]
        assert len(seen[0].parts) == 3
        assert seen[0].parts[2]["sha256"] == digest(b"audio")


def test_a_file_that_contains_forms_arrives_unchanged(uploads: Uploads) -> None:
    content = form(HIDDEN).replace(BOUNDARY.encode(), b"a-boundar") + b"\r\n--\r\n" + INJECTED.encode()
    assert uploads.post(GOOD, file(content=content)).status_code == 200
    assert [(part["name"], part["sha256"]) for part in uploads.seen().parts] == [
        ("model", digest(DEPLOYMENT.encode())),
        ("file", digest(content)),
    ]


TEXTS = ["Grüße 👋", "line\r\nline\nline", "", "a\tb", "x" * 100_000, "\u2028", "--a-boundary"]


@pytest.mark.parametrize("text", TEXTS)
def test_texts_arrive_unchanged(v1_uploads: Uploads, text: str) -> None:
    sdk = SDK(v1_uploads.gateway.app, OpenAI)
    sdk.client.audio.transcriptions.create(model=MODEL, file=audio(), prompt=text, extra_body={"extra.field-1[]": text})
    sdk.close()
    values = {part["name"]: part["value"] for part in v1_uploads.seen().parts}
    assert values == {"model": DEPLOYMENT, "prompt": text, "extra.field-1[]": text, "file": None}


@pytest.mark.parametrize("name", ["Grüße 👋.mp3", "a b;c=d.mp3", "a'b.mp3", "../../etc/x.mp3", "a\\b.mp3"])
def test_names_and_types_of_files_arrive_unchanged(v1_uploads: Uploads, name: str) -> None:
    sdk = SDK(v1_uploads.gateway.app, OpenAI)
    file: Any = (name, b"audio", "audio/x-own; codecs=a")
    sdk.client.audio.transcriptions.create(model=MODEL, file=file)
    sdk.close()
    seen = v1_uploads.seen().parts[-1]
    assert (seen["filename"], seen["content_type"]) == (name, "audio/x-own; codecs=a")


@pytest.mark.parametrize("charset", ["utf-8", '"UTF-8"', "utf8"])
def test_a_form_in_utf_8_may_say_so(v1_uploads: Uploads, charset: str) -> None:
    assert v1_uploads.post_body(WHOLE, content_type=f"{CONTENT_TYPE}; charset={charset}").status_code == 200


# The time of the first is quadratic, the next ones decode to what cannot be encoded, and the last is unknown.
@pytest.mark.parametrize("charset", ["punycode", "unicode_escape", "utf-7", "undefined", "latin-1", "utf-16", "hex", "\xfc"])
def test_a_form_in_another_charset_is_rejected_before_anything_is_decoded(v1_uploads: Uploads, charset: str) -> None:
    body = form(GOOD, field("prompt", "b" * 1_000_000 + "\\ud800+2AA-"), file())
    response = v1_uploads.post_body(body, content_type=f"{CONTENT_TYPE}; charset={charset}")
    assert error_of(response) == (400, "invalid_request", None)
    assert v1_uploads.model.journal() == []


@pytest.mark.parametrize(
    "name",
    [
        "=?utf-8?B?bW9kZWw=?=",
        "=?utf-8?Q?model?=",
        "%6dodel",
        "mod%65l",
        "mod\\u0065l",
        "\uff4dodel",
        "mo\u200bdel",
        "mo\u00addel",
        "übrig",
        "",
        "x" * 101,
    ],
)
def test_a_name_that_might_be_decoded_does_not_reach_azure(v1_uploads: Uploads, name: str) -> None:
    assert error_of(v1_uploads.post(GOOD, field(name, "hidden"), file())) == (400, "invalid_request", None)
    assert v1_uploads.model.journal() == []


@pytest.mark.parametrize("name", ["//[x", "//\u2100.com", "data:a/\x01b,x", "talk"])
def test_a_file_without_a_type_has_the_general_one(v1_uploads: Uploads, name: str) -> None:
    v1_uploads.post(GOOD, file(filename=name, kind=""))
    assert v1_uploads.seen().parts[-1]["content_type"] == "application/octet-stream"


def test_a_form_has_at_most_100_fields_and_20_files(uploads: Uploads) -> None:
    fields = [field(f"field{number}", "x") for number in range(MOST_FIELDS - 1)]
    files = [file("image[]", b"png", f"{number}.png") for number in range(MOST_FILES)]
    most = [GOOD, *fields, *files, field("prompt", "A cat")][1:]
    assert uploads.post(*most, path="/api/openai/deployments/chat/images/edits").status_code == 200
    assert len(uploads.seen().parts) == MOST_FIELDS + MOST_FILES + 1
    for parts in ([*most, GOOD], [*most, files[0]]):
        response = uploads.post(*parts, path="/api/openai/deployments/chat/images/edits")
        assert error_of(response) == (400, "invalid_request", None)
        assert "Maximum number" in response.json()["error"]["message"]
    assert len(uploads.model.journal()) == 1
