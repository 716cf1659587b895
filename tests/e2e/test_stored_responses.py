"""Test calls about stored responses with several endpoints: only the endpoint that created a response knows it."""

import pytest

from tests.support.gateway_calls import CALLER, attempts
from tests.support.processes import Simulator
from tests.support.upstreams import Gateway


class TestStoredResponses:
    @pytest.fixture
    def response_ids(self, gateway: Gateway, models: list[Simulator]) -> list[str]:
        """Return the ids of two responses: the first endpoint created one, and the second endpoint the other."""
        gateway.configure(*(model.url for model in models))
        first = gateway.http.post("/api/v1/responses", json={"input": "Hello"}, headers=CALLER).json()["id"]
        models[0].script({"status": 429, "headers": {"retry-after": "60"}})
        second = gateway.http.post("/api/v1/responses", json={"input": "Hello"}, headers=CALLER).json()["id"]
        assert attempts(models) == [2, 1, 0]
        return [first, second]

    def test_a_response_is_found_whichever_endpoint_created_it(self, gateway: Gateway, response_ids: list[str]) -> None:
        for response_id in response_ids:
            for method, suffix in (("GET", ""), ("GET", "/input_items"), ("DELETE", "")):
                response = gateway.http.request(method, f"/api/v1/responses/{response_id}{suffix}", headers=CALLER)
                assert response.status_code == 200, response.text

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_response_can_be_continued_whichever_endpoint_created_it(
        self, gateway: Gateway, response_ids: list[str], stream: bool
    ) -> None:
        for response_id in response_ids:
            body = {"input": "And?", "previous_response_id": response_id, "stream": stream}
            response = gateway.http.post("/api/v1/responses", json=body, headers=CALLER)
            assert response.status_code == 200
            assert response_id in response.text

    def test_an_unknown_response_gets_azures_404(
        self, gateway: Gateway, models: list[Simulator], response_ids: list[str]
    ) -> None:
        response = gateway.http.get("/api/v1/responses/resp_unknown", headers=CALLER)
        assert response.status_code == 404
        assert "Response with id 'resp_unknown' not found" in response.text
        assert attempts(models) == [3, 2, 1]
        assert gateway.state()["cooldowns"] == [1, 0, 0]

    def test_a_response_that_may_be_at_a_failing_endpoint_is_not_reported_as_unknown(
        self, gateway: Gateway, models: list[Simulator], response_ids: list[str]
    ) -> None:
        models[0].script({"status": 503})
        response = gateway.http.get(f"/api/v1/responses/{response_ids[0]}", headers=CALLER)
        assert response.status_code == 503

    def test_a_bad_request_without_a_stored_response_goes_to_no_other_endpoint(
        self, gateway: Gateway, models: list[Simulator]
    ) -> None:
        gateway.configure(*(model.url for model in models))
        response = gateway.http.post("/api/v1/responses", json={"input": []}, headers=CALLER)
        assert response.status_code == 400
        assert attempts(models) == [1, 0, 0]
