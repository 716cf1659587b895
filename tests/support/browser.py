"""Debian's Chromium, driven by Playwright, and what a user does on the chat page."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.javascript import NODE_FOLDER
from tests.support.processes import Json, Simulator

CHROMIUM = shutil.which("chromium")
AXE = NODE_FOLDER / "node_modules" / "axe-core" / "axe.min.js"
needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and AXE.is_file()), reason="needs Chromium, and the packages of Node.js: npm ci --prefix tests/node"
)
# Nothing of Chromium's own goes to the network.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Milliseconds, on a machine that is busy with other things.
PATIENCE = 30_000


@contextmanager
def launched() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def faultless_page(browser: Browser) -> Iterator[Page]:
    """A page that is closed in the end, and has neither raised nor broken its policy by then."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    page = context.new_page()
    failed: list[str] = []
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.on("console", lambda message: failed.append(message.text) if "Content Security Policy" in message.text else None)
    yield page
    context.close()
    assert failed == []


def opened(page: Page, url: str) -> None:
    """Opens the page and waits until it knows the models, and how the app is: its probe would use up a script."""
    page.goto(f"{url}/playground")
    expect(page.get_by_role("combobox", name="Model")).to_be_enabled()
    expect(page.get_by_role("status")).to_have_text("healthy")


def say(page: Page, text: str) -> None:
    page.get_by_role("textbox", name="Message").fill(text)
    page.get_by_role("button", name="Send").click()


def sent(model: Simulator, at: int = -1) -> Json:
    """The body of a request that Azure got."""
    body: Json = json.loads(model.journal()[at].body)
    return body


def violations(page: Page) -> list[str]:
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run()")["violations"]
    return [f"{violation['impact']}: {violation['id']} {violation['nodes'][0]['html']}" for violation in found]
