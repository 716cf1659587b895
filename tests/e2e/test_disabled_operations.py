"""Test that operations that an operator has switched off are closed on every surface, and only those."""

import re

from shared.openai_api.router import ROUTES
from tests.support.openai_routes import BEARER
from tests.support.processes import Simulator
from tests.support.settings import settings
from tests.support.upstreams import Gateway

DISABLED = {
    "DISABLED_OPERATIONS": "audio,responses/{id}",
    "AzureWebJobs.chat_completions.Disabled": "true",
    "AzureWebJobs.azure_embeddings.Disabled": "true",
    "AzureWebJobs.model_list.Disabled": "1",
}


def test_exactly_what_is_switched_off_is_closed(gateway: Gateway, model: Simulator) -> None:
    gateway.configure(model.url, AZURE_OPENAI_API_VERSION="v1", **DISABLED)
    expected = settings(**DISABLED).disabled_operations
    assert len({operation.path for _, operation in expected}) == 9
    for route in ROUTES.values():
        path = "/api/" + re.sub(r"\{\w+\}", "chat", route.path)
        # HEAD has no body, and is the same as GET.
        for method, operation in (item for item in route.operations.items() if item[0] != "HEAD"):
            response = gateway.http.request(method, path, content=b"{}", headers=BEARER)
            assert ("switched off" in response.text) == ((route.surface, operation) in expected), (method, path)
    assert gateway.app.output.count("is a setting of a former version") == 3


def test_a_switched_off_operation_is_named_and_leaves_a_line_in_the_access_log(gateway: Gateway, model: Simulator) -> None:
    gateway.configure(model.url, DISABLED_OPERATIONS="chat/completions")
    response = gateway.http.post("/api/v1/chat/completions", json={"messages": []}, headers=BEARER)
    error = response.json()["error"]
    assert error["code"] == "operation_not_available"
    assert error["message"] == "The operator of this app has switched off chat/completions."
    gateway.app.wait_for(
        f"Call caller=tests operation=chat/completions status=404 error=operation_not_available attempts=0 "
        f"request_id={error['request_id']}"
    )
    assert model.journal() == []
