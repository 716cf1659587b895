"""Stored responses, of which only one of several endpoints knows."""

import pytest

from tests.support.gateway_calls import CALLER, attempts
from tests.support.processes import Simulator
from tests.support.upstreams import Gateway


class TestStoredResponses:
    """Only the endpoint that made a response knows it."""

    @pytest.fixture
    def made(self, gateway: Gateway, models: list[Simulator]) -> list[str]:
        """The ids of a response that the first endpoint made, and of one that the second made."""
        gateway.configure(*(model.url for model in models))
        first = gateway.http.post("/api/v1/responses", json={"input": "Hello"}, headers=CALLER).json()["id"]
        models[0].script({"status": 429, "headers": {"retry-after": "60"}})
        second = gateway.http.post("/api/v1/responses", json={"input": "Hello"}, headers=CALLER).json()["id"]
        assert attempts(models) == [2, 1, 0]
        return [first, second]

    def test_one_is_found_whichever_endpoint_made_it(self, gateway: Gateway, made: list[str]) -> None:
        for response_id in made:
            for method, rest in (("GET", ""), ("GET", "/input_items"), ("DELETE", "")):
                response = gateway.http.request(method, f"/api/v1/responses/{response_id}{rest}", headers=CALLER)
                assert response.status_code == 200, response.text

    @pytest.mark.parametrize("stream", [False, True])
    def test_one_is_followed_whichever_endpoint_made_it(self, gateway: Gateway, made: list[str], stream: bool) -> None:
        for response_id in made:
            body = {"input": "And?", "previous_response_id": response_id, "stream": stream}
            response = gateway.http.post("/api/v1/responses", json=body, headers=CALLER)
            assert response.status_code == 200
            assert response_id in response.text

    def test_one_that_nobody_knows_is_azures_404(self, gateway: Gateway, models: list[Simulator], made: list[str]) -> None:
        response = gateway.http.get("/api/v1/responses/resp_unknown", headers=CALLER)
        assert response.status_code == 404
        assert "Response with id 'resp_unknown' not found" in response.text
        assert attempts(models) == [3, 2, 1]
        assert gateway.state()["cooldowns"] == [1, 0, 0]

    def test_one_that_may_be_at_an_endpoint_in_trouble_is_not_called_unknown(
        self, gateway: Gateway, models: list[Simulator], made: list[str]
    ) -> None:
        models[0].script({"status": 503})
        response = gateway.http.get(f"/api/v1/responses/{made[0]}", headers=CALLER)
        assert response.status_code == 503
        assert response.headers["retry-after"] == "10"

    def test_without_a_stored_response_a_refusal_is_final(self, gateway: Gateway, models: list[Simulator]) -> None:
        gateway.configure(*(model.url for model in models))
        response = gateway.http.post("/api/v1/responses", json={"input": []}, headers=CALLER)
        assert response.status_code == 400
        assert attempts(models) == [1, 0, 0]
