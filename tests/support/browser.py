"""Drive Debian's Chromium with Playwright, and use the chat page as a user does."""

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
    not (CHROMIUM and AXE.is_file()), reason="needs Chromium and the packages of tests/node: npm ci --prefix tests/node"
)
# Keep Chromium from using the network by itself.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Milliseconds. Long enough for a busy machine.
TIMEOUT = 30_000


@contextmanager
def launch_browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def checked_page(browser: Browser) -> Iterator[Page]:
    """Open a page. At the end, fail if it has raised an error or violated its Content-Security-Policy."""
    context = browser.new_context()
    context.set_default_timeout(TIMEOUT)
    expect.set_options(timeout=TIMEOUT)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if "Content Security Policy" in message.text else None)
    yield page
    context.close()
    assert errors == []


def open_page(page: Page, url: str) -> None:
    """Open the chat page, and wait until it shows the models and the app's health.

    Otherwise the health probe could take the script that a test has for its first message.
    """
    page.goto(f"{url}/playground")
    expect(page.get_by_role("combobox", name="Model")).to_be_enabled()
    expect(page.get_by_role("status")).to_have_text("healthy")


def send_message(page: Page, text: str) -> None:
    page.get_by_role("textbox", name="Message").fill(text)
    page.get_by_role("button", name="Send").click()


def request_body(model: Simulator, at: int = -1) -> Json:
    """Return the body of a request that the simulator has received, by default the last one."""
    body: Json = json.loads(model.journal()[at].body)
    return body


def violations(page: Page) -> list[str]:
    """Return the accessibility violations that axe finds on the page."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run()")["violations"]
    return [f"{violation['impact']}: {violation['id']} {violation['nodes'][0]['html']}" for violation in found]
