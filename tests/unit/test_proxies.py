"""Test that requests go through the proxy in the environment, and that a proxy that fails is named by its variable."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest

from shared.upstream.transport import HttpClient, ProxyError, proxy_for

pytestmark = pytest.mark.anyio

PASSWORD = "the-proxys-password"
# Nobody resolves these names: a proxy would.
URLS = {"http": "http://name.invalid/", "https": "https://name.invalid/"}


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    proxy_for.cache_clear()


@contextlib.asynccontextmanager
async def proxy(response: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Run a proxy that sends `response` to everybody. Yield its host and port, and the requests that it gets."""
    requests = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            requests.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(response)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", requests


async def body_of(url: str) -> bytes:
    async with contextlib.aclosing(HttpClient(1)) as client:
        response = await client.send(client.build_request("POST", url, content=b"{}"))
        return response.content


async def problem(url: str) -> str:
    with pytest.raises(ProxyError) as caught:
        await body_of(url)
    assert isinstance(caught.value, aiohttp.ClientError)
    text = str(caught.value)
    assert PASSWORD not in text
    assert "127.0.0.1" not in text
    return text


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@pytest.mark.parametrize("prefix", ["http://", "HTTP://", "", f"http://user:{PASSWORD}@", f"user:{PASSWORD}@"])
@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
async def test_a_request_goes_through_the_proxy(variable: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxy(OK) as (address, requests):
        monkeypatch.setenv(variable, prefix + address)
        assert await body_of(URLS["http"]) == b"{}"
    assert requests[0].startswith(b"POST http://name.invalid/ HTTP/1.1\r\n")
    assert (b"Proxy-Authorization: Basic " in requests[0]) == (PASSWORD in prefix)


async def test_the_schemes_own_variable_takes_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxy(OK) as (address, requests):
        monkeypatch.setenv("http_proxy", address)
        monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1")
        assert await body_of(URLS["http"]) == b"{}"
    assert len(requests) == 1


async def test_no_proxy_lists_the_exceptions(monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxy(OK) as (address, requests):
        monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert await body_of(f"http://{address}/") == b"{}"
    assert requests[0].startswith(b"POST / HTTP/1.1\r\n")


@pytest.mark.parametrize("scheme", URLS)
@pytest.mark.parametrize("url", ["socks5://{}127.0.0.1:1080", "socks5h://{}127.0.0.1:1080", "SOCKS4://{}127.0.0.1"])
@pytest.mark.parametrize("variable", ["{}_proxy", "all_proxy", "ALL_PROXY"])
async def test_a_socks_proxy_is_named(variable: str, url: str, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = variable.format(scheme)
    monkeypatch.setenv(variable, url.format(f"user:{PASSWORD}@"))
    assert (await problem(URLS[scheme])).startswith(f"the proxy in {variable} is a SOCKS proxy, and those are not supported")


async def test_the_lowercase_variable_takes_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "ftp://127.0.0.1")
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1")
    assert (await problem(URLS["http"])).startswith("the proxy in http_proxy is a SOCKS proxy")


@pytest.mark.parametrize("scheme", URLS)
async def test_a_proxy_that_cannot_be_reached_is_named(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv(f"{scheme}_proxy", f"http://user:{PASSWORD}@127.0.0.1:{closed.getsockname()[1]}")
        found = await problem(URLS[scheme])
        assert found == f"the proxy in {scheme}_proxy cannot be reached (ConnectionRefusedError)"
    proxy_for.cache_clear()
    monkeypatch.setenv(f"{scheme}_proxy", "no-such-proxy.invalid:3128")
    assert (await problem(URLS[scheme])).startswith(f"the proxy in {scheme}_proxy cannot be reached (")


@pytest.mark.parametrize("status", [b"407 Proxy Authentication Required", b"502 Bad Gateway", b"403 Forbidden"])
async def test_a_proxy_that_opens_no_tunnel_is_named(status: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxy(b"HTTP/1.1 %s\r\ncontent-length: 0\r\n\r\n" % status) as (address, requests):
        monkeypatch.setenv("https_proxy", f"user:{PASSWORD}@{address}")
        assert await problem(URLS["https"]) == f"the proxy in https_proxy responded with {status[:3].decode()}"
    assert requests[0].startswith(b"CONNECT name.invalid:443 HTTP/1.1\r\n")


async def test_a_proxy_that_wants_other_credentials_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxy(b"HTTP/1.1 407 Authenticate\r\ncontent-length: 0\r\n\r\n") as (address, _):
        monkeypatch.setenv("http_proxy", address)
        assert await problem(URLS["http"]) == "the proxy in http_proxy responded with 407"


@pytest.mark.parametrize("response", [b"", b"\x05\xff", b"SSH-2.0-x\r\n"])
async def test_a_proxy_that_speaks_no_http_is_named(response: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxy(response) as (address, _):
        monkeypatch.setenv("https_proxy", address)
        assert (await problem(URLS["https"])).startswith("the proxy in https_proxy cannot be reached (")


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http://[::1",
        "http://127.0.0.1:port",
        "127.0.0.1:99999",
        "ftp://127.0.0.1",
        "http://a b",
        "://",
        "127.0.0.1::1",
    ],
)
@pytest.mark.parametrize("scheme", URLS)
async def test_a_malformed_url_of_a_proxy_is_named(scheme: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{scheme}_proxy", url)
    assert (await problem(URLS[scheme])).startswith(f"the proxy in {scheme}_proxy ")


async def test_a_failure_behind_the_proxy_is_not_the_proxys(monkeypatch: pytest.MonkeyPatch) -> None:
    # The tunnel is open, but nobody at its end speaks TLS.
    async with proxy(b"HTTP/1.1 200 OK\r\n\r\n") as (address, _):
        monkeypatch.setenv("https_proxy", address)
        with pytest.raises(aiohttp.ClientConnectorError):
            await body_of(URLS["https"])
    async with proxy(b"HTTP/1.1 200 OK\r\n") as (address, _):
        monkeypatch.setenv("http_proxy", address)
        proxy_for.cache_clear()
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await body_of(URLS["http"])
