"""Provide an SDK's client of the app, and both kinds of API version."""

from collections.abc import Iterator

import pytest
from openai import OpenAI

from shared.operations import V1
from tests.support.sdk import DATED, SDK
from tests.support.upstreams import Gateway


@pytest.fixture(params=[DATED, V1])
def version(request: pytest.FixtureRequest) -> str:
    version: str = request.param
    return version


@pytest.fixture
def sdk(gateway: Gateway) -> Iterator[SDK]:
    sdk = SDK(gateway.app, OpenAI)
    yield sdk
    sdk.close()
