"""Open the chat page in a browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.support.browser import checked_page, launch_browser, open_page
from tests.support.processes import Simulator
from tests.support.upstreams import Gateway


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launch_browser() as browser:
        yield browser


@pytest.fixture
def model(shared_model: Simulator, gateway: Gateway) -> Simulator:
    """Return the only endpoint of an app that needs no caller key."""
    shared_model.clear()
    gateway.configure(shared_model.url, CALLER_KEYS="")
    return shared_model


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with checked_page(browser) as page:
        yield page


@pytest.fixture
def chat(page: Page, gateway: Gateway, model: Simulator) -> Page:
    """Return the page, ready for a first message. The simulator's journal is empty."""
    open_page(page, f"{gateway.app.url}/api")
    model.clear()
    return page
