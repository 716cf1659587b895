"""Test that bodies which other programs write, in other encodings or with half characters, are read or rejected clearly."""

import codecs

import httpx2
import pytest

from tests.support.gateway_calls import CALLER
from tests.support.processes import Simulator
from tests.support.upstreams import Gateway

# The smallest body of each operation, with a place for more fields.
BODIES = {
    "/api/chat": b'{"prompt":"Hello"%s}',
    "/api/v1/chat/completions": b'{"messages":[{"role":"user","content":"Hello"}]%s}',
    "/api/v1/responses": b'{"input":"Hello"%s}',
    "/api/v1/embeddings": b'{"input":"Hello"%s}',
    "/api/openai/deployments/chat/chat/completions": b'{"messages":[{"role":"user","content":"Hello"}]%s}',
}

pytestmark = pytest.mark.parametrize("path", BODIES)


@pytest.fixture(params=["v1", "2025-04-01-preview"])
def versions(request: pytest.FixtureRequest, gateway: Gateway, model: Simulator) -> Gateway:
    gateway.configure(model.url, AZURE_OPENAI_API_VERSION=request.param)
    return gateway


def post(gateway: Gateway, path: str, body: bytes, **headers: str) -> httpx2.Response:
    return gateway.http.post(path, content=body, headers=CALLER | headers)


def test_a_byte_order_mark_is_dropped(versions: Gateway, model: Simulator, path: str) -> None:
    body = BODIES[path] % b""
    assert post(versions, path, codecs.BOM_UTF8 + body).status_code == 200
    assert model.journal()[0].body.startswith(b"{")


def test_an_empty_content_encoding_counts_as_none(gateway: Gateway, model: Simulator, path: str) -> None:
    body = BODIES[path] % b""
    for encoding in ("", "identity", "Identity"):
        assert post(gateway, path, body, **{"content-encoding": encoding}).status_code == 200
    assert post(gateway, path, body, **{"content-encoding": "gzip"}).status_code == 415
    assert len(model.journal()) == 3


@pytest.mark.parametrize("name", ["model", "stream", "user", "\\ud83d"])
@pytest.mark.parametrize("half", [rb"\ud83d", rb"\ude00 and more"])
def test_half_a_surrogate_pair_is_named(gateway: Gateway, model: Simulator, path: str, name: str, half: bytes) -> None:
    response = post(gateway, path, BODIES[path] % (b',"%s":"%s"' % (name.encode(), half)))
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "invalid_request")
    assert "has half a surrogate pair" in error["message"]
    assert error["param"] == name.replace("\\ud83d", "\ufffd")
    assert model.journal() == []


def test_half_a_surrogate_pair_in_the_content_is_named(gateway: Gateway, model: Simulator, path: str) -> None:
    response = post(gateway, path, (BODIES[path] % b"").replace(b"Hello", rb"Hello \ud83d"))
    assert response.status_code == 400
    assert response.json()["error"]["param"] in ("prompt", "messages", "input")
    assert "has half a surrogate pair" in response.json()["error"]["message"]
    assert model.journal() == []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_other_encodings_of_unicode_are_named(gateway: Gateway, model: Simulator, path: str, encoding: str) -> None:
    response = post(gateway, path, (BODIES[path] % b"").decode().encode(encoding))
    assert response.status_code == 400
    assert f"seems to be {encoding[:6].upper()}" in response.json()["error"]["message"]
    assert model.journal() == []
