"""Test calls about stored responses with several endpoints: only the endpoint that created a response knows it."""

from typing import Any

import pytest
from openai import OpenAI

from tests.support.gateway_calls import CALLER, attempts
from tests.support.processes import Simulator
from tests.support.upstreams import CALLER_KEY, Gateway


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


@pytest.mark.parametrize("endpoint", [0, 1])
def test_a_stream_in_the_background_is_read_again_from_its_endpoint(
    gateway: Gateway, models: list[Simulator], endpoint: int
) -> None:
    gateway.configure(models[0].url, models[1].url, AZURE_OPENAI_API_VERSION="v1")
    if endpoint:
        models[0].script({"status": 429, "headers": {"retry-after-ms": "1"}})
    with OpenAI(base_url=f"{gateway.app.url}/api/v1", api_key=CALLER_KEY, max_retries=0) as client:
        created = client.responses.create(model="chat", input="Hello", background=True, stream=True)
        events: list[Any] = [next(created) for _ in range(4)]
        created.close()
        response_id = events[0].response.id
        rest: list[Any] = [*client.responses.retrieve(response_id, stream=True, starting_after=events[-1].sequence_number)]
    numbers = [event.sequence_number for event in (*events, *rest)]
    assert numbers == list(range(len(numbers)))
    assert (rest[-1].type, rest[-1].response.id) == ("response.completed", response_id)
    assert models[endpoint].journal()[-1].query == {"stream": "true", "starting_after": "3"}
