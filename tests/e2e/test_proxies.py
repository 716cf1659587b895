"""Test that a proxy in the environment that fails is named in the log and the health report, without its URL."""

import asyncio

import pytest

from tests.support.gateway_calls import call
from tests.support.processes import Simulator
from tests.support.upstreams import Gateway, Upstreams

CREDENTIALS = "user:the-proxys-password@"
ENDPOINT = "https://name.openai.azure.com"


async def ask_for_credentials(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
    writer.close()


@pytest.fixture
def proxies(upstreams: Upstreams) -> dict[str, str]:
    """Return the URLs of proxies that fail, by what the log says about each."""
    return {
        "responded with 407": f"http://{CREDENTIALS}127.0.0.1:{upstreams.serve(ask_for_credentials)}",
        "cannot be reached (ConnectionRefusedError)": f"{CREDENTIALS}127.0.0.1:9",
        "is a SOCKS proxy, and those are not supported; give the URL of an HTTP proxy": f"socks5://{CREDENTIALS}127.0.0.1:9",
    }


@pytest.mark.parametrize("variable", ["https_proxy", "ALL_PROXY"])
def test_a_failing_proxy_is_named(gateway: Gateway, proxies: dict[str, str], variable: str) -> None:
    for problem, url in proxies.items():
        gateway.configure(ENDPOINT, **{variable: url})
        for stream in (False, True):
            response = call(gateway, stream=stream)
            assert response.status_code == 502
            assert response.json()["error"]["code"] == "upstream_unreachable"
        gateway.app.wait_for(f"No response from endpoint 1 to tests: the proxy in {variable} {problem}\n")
        (endpoint,) = gateway.http.get("/api/health").json()["endpoints"]
        assert (endpoint["state"], endpoint["reason"]) == ("down", f"cannot be reached; the proxy in {variable} {problem}")
        assert CREDENTIALS not in gateway.app.output
        assert "127.0.0.1:9" not in gateway.app.output


def test_the_next_endpoint_may_need_no_proxy(gateway: Gateway, model: Simulator, proxies: dict[str, str]) -> None:
    for url in proxies.values():
        gateway.configure(ENDPOINT, model.url, https_proxy=url)
        assert call(gateway).status_code == 200
    assert len(model.journal()) == len(proxies)
