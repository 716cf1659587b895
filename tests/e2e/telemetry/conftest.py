"""Run an app that records its telemetry, and discard earlier telemetry before each test."""

from collections.abc import Iterator

import pytest

from tests.support.recorder import RECORDER, collect_telemetry
from tests.support.upstreams import Gateway, gateway_app


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway_app(tmp_path_factory.mktemp("app"), RECORDER) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def discard_earlier_telemetry(gateway: Gateway) -> None:
    collect_telemetry(gateway)
