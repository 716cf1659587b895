"""Test what clients get when endpoints fail: each fault with one endpoint and with three, over real sockets."""

import asyncio
import json
import re
import time
from email.utils import formatdate

import httpx2
import pytest

from local.serving import free_port
from local.simulator import payloads
from tests.support.gateway_calls import MESSAGES, attempts, call
from tests.support.processes import PROJECT, Json, Simulator
from tests.support.upstreams import CALLER_KEY, Gateway, Upstreams


async def never_respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


@pytest.fixture(scope="module")
def silent(upstreams: Upstreams) -> str:
    """Return the URL of an endpoint that accepts connections and requests, and never responds."""
    return f"http://127.0.0.1:{upstreams.serve(never_respond)}"


# The script of each fault, and what the client gets if every endpoint has it: status, code, Retry-After.
FAULTS: dict[str, tuple[Json, int, str | None, str | None]] = {
    "429 in milliseconds": ({"status": 429, "headers": {"retry-after": "60", "retry-after-ms": "1500"}}, 429, "429", "2"),
    "429 in seconds": ({"status": 429, "headers": {"retry-after": "7"}}, 429, "429", "7"),
    "429 without Retry-After": ({"status": 429}, 429, "429", None),
    "429 with garbage": ({"status": 429, "headers": {"retry-after": "soon", "retry-after-ms": "nan"}}, 429, "429", None),
    "429 with negatives": ({"status": 429, "headers": {"retry-after": "-3", "retry-after-ms": "-1"}}, 429, "429", None),
    "429 with a huge value": ({"status": 429, "headers": {"retry-after": "9" * 12}}, 429, "429", "86400"),
    "401": ({"status": 401, "headers": {"retry-after": "7"}}, 502, "upstream_auth", None),
    "403": ({"status": 403}, 502, "upstream_auth", None),
    "network rules": ({"status": 403, "body": payloads.NETWORK_RULES}, 502, "upstream_network", None),
    "no public access": ({"status": 403, "body": payloads.PUBLIC_ACCESS_DISABLED}, 502, "upstream_network", None),
    "regional endpoint": ({"status": 400, "body": payloads.NO_CUSTOM_SUBDOMAIN}, 502, "upstream_network", None),
    "DeploymentNotFound": ({"status": 404, "headers": {"retry-after": "7"}}, 502, "deployment_not_found", None),
    "no deployment, in v1's words": (
        {"status": 400, "body": payloads.NO_DEPLOYMENT_FOR_MODEL},
        502,
        "deployment_not_found",
        None,
    ),
    "410": ({"status": 410}, 502, "deployment_not_found", None),
    "408": ({"status": 408}, 408, "upstream_error", None),
    "421": ({"status": 421}, 502, "upstream_error", None),
    "424": ({"status": 424}, 502, "upstream_error", None),
    "499": ({"status": 499}, 502, "upstream_error", None),
    "500": ({"status": 500}, 500, "upstream_error", None),
    "502": ({"status": 502, "headers": {"retry-after": "4"}}, 502, "upstream_error", "4"),
    "503": ({"status": 503}, 503, "upstream_error", None),
    "503 with Retry-After": ({"status": 503, "headers": {"retry-after": "3"}}, 503, "upstream_error", "3"),
    "504": ({"status": 504}, 504, "upstream_error", None),
    "reset": ({"reset": True}, 502, "upstream_unreachable", None),
}
OPERATORS_FAULTS = {"upstream_auth", "upstream_network", "deployment_not_found"}


def assert_error(response: httpx2.Response, status: int, code: str | None, retry_after: str | None) -> None:
    """Check the error, and that it advises clients to retry only where that helps."""
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert response.headers.get("retry-after") == retry_after
    assert response.headers.get("x-should-retry") == ("false" if code in OPERATORS_FAULTS else None)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_with_one_endpoint_the_client_learns_when_to_retry(
    gateway: Gateway, models: list[Simulator], fault: str, stream: bool
) -> None:
    script, status, code, retry_after = FAULTS[fault]
    gateway.configure(models[0].url)
    models[0].script(script)
    response = call(gateway, stream=stream)
    assert_error(response, status, code, retry_after)
    assert attempts(models) == [1, 0, 0]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_with_three_endpoints_the_next_one_serves_the_call(
    gateway: Gateway, models: list[Simulator], fault: str, stream: bool
) -> None:
    script, *_ = FAULTS[fault]
    gateway.configure(*(model.url for model in models))
    models[0].script({**script, "times": 1})
    assert call(gateway, stream=stream).status_code == 200
    assert attempts(models) == [1, 1, 0]
    # The first one is still cooling down.
    assert call(gateway, stream=stream).status_code == 200
    assert attempts(models) == [1, 2, 0]


@pytest.mark.parametrize("fault", FAULTS)
def test_when_all_three_endpoints_fail_the_client_gets_the_last_error(
    gateway: Gateway, models: list[Simulator], fault: str
) -> None:
    script, status, code, retry_after = FAULTS[fault]
    gateway.configure(*(model.url for model in models))
    for model in models:
        model.script({**script, "times": 1})
    response = call(gateway)
    assert_error(response, status, code, retry_after)
    assert attempts(models) == [1, 1, 1]


def test_a_retry_after_can_be_a_date(gateway: Gateway, models: list[Simulator]) -> None:
    for ahead, expected in ((30, range(27, 31)), (-30, range(1))):
        gateway.configure(models[0].url)
        models[0].script({"status": 429, "headers": {"retry-after": formatdate(time.time() + ahead, usegmt=True)}})
        assert int(call(gateway).headers["retry-after"]) in expected


UNREACHABLE = {
    "connection refused": "http://127.0.0.1:{free}",
    "TLS to a plain port": "https://127.0.0.1:{plain}",
    "a name that does not resolve": "https://no-such-name.invalid",
    "no response": "{silent}",
}


@pytest.fixture(params=UNREACHABLE)
def unreachable(request: pytest.FixtureRequest, models: list[Simulator], silent: str) -> tuple[str, int, str]:
    """Return the URL of an unreachable endpoint, and the status and code of the error if there is no other endpoint."""
    plain = models[0].url.rpartition(":")[2]
    url = UNREACHABLE[request.param].format(free=free_port(), plain=plain, silent=silent)
    return url, *((504, "deadline_exceeded") if url == silent else (502, "upstream_unreachable"))


def test_with_one_unreachable_endpoint_the_client_gets_an_error(gateway: Gateway, unreachable: tuple[str, int, str]) -> None:
    url, status, code = unreachable
    gateway.configure(url, REQUEST_TIMEOUT_SECONDS="2")
    response = call(gateway)
    assert_error(response, status, code, None)


@pytest.mark.parametrize(
    ("endpoints", "may_be_billed"), [(["hangs"], True), (["connects"], False), (["hangs", "connects"], True)]
)
def test_the_error_says_whether_the_request_may_be_billed(
    gateway: Gateway, model: Simulator, silent: str, endpoints: list[str], may_be_billed: bool
) -> None:
    # TLS never gets a response there, so the connection is not complete, and nothing is sent.
    urls = {"hangs": model.url, "connects": silent.replace("http:", "https:")}
    gateway.configure(*map(urls.__getitem__, endpoints), ATTEMPT_TIMEOUT_SECONDS="0.5", REQUEST_TIMEOUT_SECONDS="1")
    model.script({"hang": True})
    response = call(gateway)
    assert_error(response, 504, "deadline_exceeded", None)
    assert ("may be billed" in response.text) == may_be_billed


def test_with_one_unreachable_endpoint_of_three_the_next_one_serves_the_call(
    gateway: Gateway, models: list[Simulator], unreachable: tuple[str, int, str]
) -> None:
    gateway.configure(unreachable[0], models[1].url, models[2].url, ATTEMPT_TIMEOUT_SECONDS="1")
    for calls in (1, 2):
        assert call(gateway).status_code == 200
        assert attempts(models) == [0, calls, 0]


def test_three_unreachable_endpoints_give_the_same_error_as_one(gateway: Gateway, unreachable: tuple[str, int, str]) -> None:
    url, status, code = unreachable
    gateway.configure(url, url, url, ATTEMPT_TIMEOUT_SECONDS="0.5", REQUEST_TIMEOUT_SECONDS="1.5")
    response = call(gateway)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("script", "status"),
    [({"status": status}, status) for status in (400, 409, 413, 422)]
    + [({"status": 404, "body": payloads.RESOURCE_NOT_FOUND}, 502), ({"status": 405}, 502), ({"status": 302}, 502)],
)
def test_an_error_that_every_endpoint_would_return_is_not_retried(
    gateway: Gateway, models: list[Simulator], script: Json, status: int
) -> None:
    gateway.configure(*(model.url for model in models))
    for _ in range(2):
        models[0].script(script)
        response = call(gateway)
        assert response.status_code == status
        assert "retry-after" not in response.headers
    assert attempts(models) == [2, 0, 0]


def test_the_client_gets_the_shortest_retry_after(gateway: Gateway, models: list[Simulator]) -> None:
    gateway.configure(*(model.url for model in models))
    waits = ({"retry-after": "30"}, {"retry-after-ms": "4200"}, {"retry-after": "20"})
    for model, headers in zip(models, waits, strict=True):
        model.script({"status": 429, "headers": headers})
    response = call(gateway)
    assert response.status_code == 429
    assert (response.headers["retry-after"], response.headers["retry-after-ms"]) == ("5", "4200")
    # The next call goes to the endpoint whose cooldown ends first.
    assert call(gateway).status_code == 200
    assert attempts(models) == [1, 2, 1]


def test_an_endpoint_is_used_again_after_its_cooldown(gateway: Gateway, models: list[Simulator]) -> None:
    gateway.configure(*(model.url for model in models))
    models[0].script({"status": 503, "headers": {"retry-after-ms": "500"}})
    call(gateway)
    time.sleep(0.6)
    call(gateway)
    assert attempts(models) == [2, 1, 0]


def test_throttling_of_a_deployment_does_not_affect_the_others(gateway: Gateway, models: list[Simulator]) -> None:
    gateway.configure(*(model.url for model in models))
    models[0].script({"status": 429})
    call(gateway, model="chat")
    assert attempts(models) == [1, 1, 0]
    call(gateway, model="other")
    assert attempts(models) == [2, 1, 0]
    call(gateway, model="chat")
    assert attempts(models) == [2, 2, 0]


def test_an_endpoint_that_hangs_is_the_last_choice_of_later_calls(gateway: Gateway, models: list[Simulator]) -> None:
    gateway.configure(*(model.url for model in models), ATTEMPT_TIMEOUT_SECONDS="0.5")
    models[0].script({"hang": True})
    assert call(gateway).status_code == 200
    assert attempts(models) == [1, 1, 0]
    assert models[0].journal()[0].disconnected
    models[1].script({"status": 500})
    models[2].script({"status": 500})
    assert call(gateway).status_code == 200
    assert attempts(models) == [2, 2, 1]


def test_no_attempt_starts_after_the_deadline(gateway: Gateway, models: list[Simulator]) -> None:
    settings = {"ATTEMPT_TIMEOUT_SECONDS": "0.5", "REQUEST_TIMEOUT_SECONDS": "0.8"}
    gateway.configure(*(model.url for model in models), **settings)
    for model in models:
        model.script({"hang": True})
    response = call(gateway)
    assert response.status_code == 504
    assert response.json()["error"]["code"] == "deadline_exceeded"
    assert attempts(models) == [1, 1, 0]
    # The third endpoint was not called, so it does not cool down.
    assert gateway.state()["cooldowns"] == [1, 1, 0]


def test_the_deadline_includes_the_body(gateway: Gateway, models: list[Simulator]) -> None:
    gateway.configure(models[0].url, REQUEST_TIMEOUT_SECONDS="1")
    # At this pace, the response would take a minute.
    models[0].script({"raw": "{" + " " * 600, "split": 10, "pace": 1})
    assert call(gateway).status_code == 504
    assert models[0].journal(ended=1)[0].disconnected


def test_failover_never_sleeps_between_attempts() -> None:
    paths = [*(PROJECT / "shared" / "upstream").rglob("*.py")]
    assert len(paths) > 5
    for path in paths:
        assert not re.search(r"\bsleep\(", path.read_text()), path


class TestPool:
    async def respond_once(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Respond to the first request of a connection, and close it at the second."""
        await self.respond(reader, writer)
        await reader.read(1)
        writer.close()

    async def respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()

    @pytest.mark.parametrize("others", [0, 1])
    def test_a_pooled_connection_that_closes_at_its_next_use_causes_no_error_and_no_cooldown(
        self, gateway: Gateway, upstreams: Upstreams, models: list[Simulator], others: int
    ) -> None:
        endpoints = [f"http://127.0.0.1:{upstreams.serve(self.respond_once)}", models[1].url]
        gateway.configure(*endpoints[: 1 + others])
        for _ in range(6):
            assert call(gateway).status_code == 200
        assert gateway.state()["cooldowns"] == [0] * (1 + others)
        assert attempts(models) == [0, 0, 0]

    async def respond_and_close(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.respond(reader, writer)
        await asyncio.sleep(0.05)
        writer.close()

    def test_a_pooled_connection_that_the_server_closes_while_idle_causes_no_error(
        self, gateway: Gateway, upstreams: Upstreams, models: list[Simulator]
    ) -> None:
        gateway.configure(f"http://127.0.0.1:{upstreams.serve(self.respond_and_close)}", models[1].url)
        for _ in range(4):
            assert call(gateway).status_code == 200
            time.sleep(0.1)
        assert attempts(models) == [0, 0, 0]

    def test_a_call_without_a_free_slot_fails_at_once_and_starts_no_cooldown(
        self, gateway: Gateway, models: list[Simulator]
    ) -> None:
        gateway.configure(models[0].url, models[1].url, MAX_CONCURRENT_CALLS="1")
        models[0].script({"hang": True})
        with gateway.app.send_raw("POST", "/api/v1/chat/completions", json.dumps(MESSAGES).encode(), api_key=CALLER_KEY):
            models[0].journal(requests=1)
            response = call(gateway)
            assert (response.status_code, response.headers["retry-after"]) == (503, "1")
            assert response.json()["error"]["code"] == "too_many_calls"
            assert gateway.state()["cooldowns"] == [0, 0]
            models[0].permit()
        models[0].journal(ended=1)
        assert call(gateway).status_code == 200
        assert attempts(models) == [2, 0, 0]
