"""A browser, and the chat page in it."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.playground.browser import faultless_page, launched, opened
from tests.running import StandIn
from tests.upstreams import Gateway


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture
def model(shared_model: StandIn, gateway: Gateway) -> StandIn:
    """The only endpoint of an app that anybody may call."""
    shared_model.clear()
    gateway.configure(shared_model.address, CALLER_KEYS="")
    return shared_model


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with faultless_page(browser) as page:
        yield page


@pytest.fixture
def chat(page: Page, gateway: Gateway, model: StandIn) -> Page:
    """The page, ready for a first message; the stand-in's journal is empty."""
    opened(page, f"{gateway.app.url}/api")
    model.clear()
    return page
