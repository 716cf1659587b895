"""Test that an error has the same id in the response's header and body and in the access log, which has one line for it."""

import msgspec
import pytest

from tests.support.gateway_calls import CALLER, CHAT, MESSAGES
from tests.support.processes import Json, Simulator
from tests.support.recorder import collect_telemetry, logged_fields
from tests.support.upstreams import CALLER_KEY, Gateway

PROMPT, SECRET = "confidential-prompt", "function-key-0123456789"
CHAT_OF: Json = {"messages": [{"role": "user", "content": PROMPT}]}
EMBEDDINGS = "/api/v1/embeddings"
WRONG = {"api-key": "a-wrong-key-0123456789"}
TROUBLES: dict[str, Json] = {"unreachable": {"reset": True}, "in trouble": {"status": 500}, "too slow": {"hang": True}}


class TestRejectedRequests:
    @pytest.mark.parametrize(
        ("method", "path", "headers", "body", "expected"),
        [
            ("POST", CHAT, CALLER, CHAT_OF | {"stream": 1}, "tests chat/completions - - 400 invalid_request"),
            ("POST", "/api/chat", {}, CHAT_OF | {"n": 2}, "(chat) chat/completions - - 400 invalid_request"),
            ("POST", CHAT, WRONG, CHAT_OF, f"(unknown) - {CHAT} - 401 invalid_api_key"),
            ("POST", "/api/v1/nothing", {}, CHAT_OF, "(unknown) - /api/v1/nothing - 401 invalid_api_key"),
            ("POST", CHAT, CALLER, CHAT_OF | {"model": "x"}, "tests chat/completions - x 404 model_not_found"),
            ("GET", "/api/v1/responses/a.b", CALLER, {}, "tests stored_response - - 404 response_not_found"),
            ("GET", "/api/v1/models/x", CALLER, {}, "tests models/{model} - x 404 model_not_found"),
            ("POST", "/api/v1/chat/complet", CALLER, CHAT_OF, "tests - /api/v1/chat/complet - 404 path_not_found"),
            ("PUT", CHAT, CALLER, CHAT_OF, f"tests - {CHAT} - 405 method_not_allowed"),
        ],
    )
    def test_a_rejected_request_leaves_one_line_and_no_other_telemetry(
        self, gateway: Gateway, model: Simulator, method: str, path: str, headers: Json, body: Json, expected: str
    ) -> None:
        response = gateway.http.request(method, path, json=body, headers=headers, params={"code": SECRET})
        request_id = response.json()["error"]["request_id"]
        assert response.headers["x-request-id"] == request_id
        line = logged_fields(gateway, request_id)
        assert line.pop("request_id") == request_id
        assert line.pop("attempts") == "0"
        assert line.pop("method", method) == method
        names = ("caller", "operation", "path", "model", "status", "error")
        assert " ".join(line.pop(name, "-") for name in names) == expected
        assert line == {}
        assert collect_telemetry(gateway) == {"spans": [], "points": []}
        assert gateway.app.output.count("Call ") == 1
        for text in (PROMPT, SECRET, CALLER_KEY, *WRONG.values()):
            assert text not in gateway.app.output
        assert model.journal() == []


class TestFailedCalls:
    @pytest.mark.parametrize("path", ["/api/chat", CHAT])
    @pytest.mark.parametrize("kind", TROUBLES)
    def test_a_failed_call_has_the_same_id_everywhere(
        self, gateway: Gateway, model: Simulator, path: str, kind: str
    ) -> None:
        if kind == "too slow":
            gateway.configure(model.url, REQUEST_TIMEOUT_SECONDS="0.3")
        model.script({**TROUBLES[kind], "times": 2})
        response = gateway.http.post(path, json=MESSAGES, headers=CALLER)
        model.permit()
        request_id = response.json()["error"]["request_id"]
        assert response.headers["x-request-id"] == request_id
        line = logged_fields(gateway, f"request_id={request_id}")
        assert (line["status"], line["error"]) == (str(response.status_code), response.json()["error"]["code"])

    def test_a_call_above_the_limit_has_the_same_id_everywhere(self, gateway: Gateway, model: Simulator) -> None:
        gateway.configure(model.url, MAX_CONCURRENT_CALLS="1")
        model.script({"hang": True})
        with gateway.app.send_raw("POST", CHAT, msgspec.json.encode(MESSAGES), api_key=CALLER_KEY):
            model.journal(requests=1)
            response = gateway.http.post(CHAT, json=MESSAGES, headers=CALLER)
        request_id = response.json()["error"]["request_id"]
        assert response.headers["x-request-id"] == request_id
        assert logged_fields(gateway, f"request_id={request_id}")["error"] == "too_many_calls"
        model.permit()

    def test_a_response_that_breaks_has_the_id_of_the_error(self, gateway: Gateway, broken: str) -> None:
        gateway.configure(broken)
        response = gateway.http.post(EMBEDDINGS, json={"input": "Hello"}, headers=CALLER)
        request_id = response.json()["error"]["request_id"]
        assert response.headers["x-request-id"] == request_id != "azures"
        line = logged_fields(gateway, f" request_id={request_id}")
        assert (line["error"], line["response_bytes"]) == ("upstream_unreachable", "1")
        assert line["apim_request_id"] == "gateways"

    @pytest.mark.parametrize("status", [400, 429])
    def test_azures_own_error_has_azures_ids(self, gateway: Gateway, model: Simulator, status: int) -> None:
        ids = {"x-request-id": "azures", "apim-request-id": "gateways"}
        model.script({"status": status, "headers": ids, "times": 2})
        response = gateway.http.post(CHAT, json=MESSAGES, headers=CALLER)
        assert response.status_code == status
        assert {name: response.headers[name] for name in ids} == ids
        line = logged_fields(gateway, " request_id=azures")
        assert (line["apim_request_id"], line["status"]) == ("gateways", str(status))

    def test_an_id_from_azure_cannot_forge_fields(self, gateway: Gateway, model: Simulator) -> None:
        headers = {"x-request-id": "forged status=999"}
        # The app's own error has an id of its own then. Azure's error goes to the caller unchanged.
        model.script({"status": 500, "headers": headers}, {"status": 400, "headers": headers})
        response = gateway.http.post(CHAT, json=MESSAGES, headers=CALLER)
        request_id = response.json()["error"]["request_id"]
        assert response.headers["x-request-id"] == request_id
        assert logged_fields(gateway, f" request_id={request_id}")["status"] == "500"
        gateway.http.post(CHAT, json=MESSAGES, headers=CALLER)
        assert logged_fields(gateway, " request_id=forgedstatus999")["status"] == "400"
