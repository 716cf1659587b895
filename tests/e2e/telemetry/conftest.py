"""Run an app that records its telemetry, and discard earlier telemetry before each test."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.support.recorder import RECORDER, collect_telemetry
from tests.support.upstreams import Gateway, Upstreams, gateway_app


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway_app(tmp_path_factory.mktemp("app"), RECORDER) as gateway:
        yield gateway


@pytest.fixture
def broken(upstreams: Upstreams) -> str:
    """Return the URL of an endpoint that interrupts its responses."""
    return f"http://127.0.0.1:{upstreams.serve(interrupt)}"


async def interrupt(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send the headers of a success and one byte of its body."""
    await reader.readuntil(b"}")
    writer.write(b"HTTP/1.1 200 OK\r\nx-request-id: azures\r\napim-request-id: gateways\r\ncontent-length: 9\r\n\r\n{")
    writer.close()


@pytest.fixture(autouse=True)
def discard_earlier_telemetry(gateway: Gateway) -> None:
    collect_telemetry(gateway)
