"""Test the chat page in a real browser: Debian's Chromium, driven by Playwright."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import needs_chromium, open_page, request_body, send_message, violations
from tests.support.processes import Simulator, local_app
from tests.support.upstreams import CALLER_KEY, Gateway, Upstreams

INJECTION = """<script>window.hacked = 1</script><img src=x onerror="window.hacked = 2"> [a](javascript:hacked=3)
```html
</code></pre><svg onload="window.hacked = 4">
```
<iframe srcdoc="<script>parent.hacked = 5</script>"></iframe>"""

pytestmark = needs_chromium


def test_chunks_appear_as_they_arrive(chat: Page, model: Simulator) -> None:
    model.script({"reply": "one and two and three", "step": True})
    send_message(chat, "Hello")
    reply = chat.get_by_role("article").nth(1)
    for shown in ("one and", "one and two and", "one and two and three"):
        model.permit()
        expect(reply.locator(".text")).to_have_text(shown)
    expect(reply).to_contain_text(re.compile(r"first token after \d+ ms\d+ tokens in, \d+ out"))
    body = request_body(model)
    assert body["messages"] == [{"role": "user", "content": "Hello"}]
    assert body["model"] == "chat"


def test_stop_ends_the_call_to_azure(chat: Page, model: Simulator) -> None:
    model.script({"reply": "one and two and three", "step": True})
    model.permit()
    send_message(chat, "Hello")
    expect(chat.locator("article .text").last).to_have_text("one and")
    chat.get_by_role("button", name="Stop").click()
    (entry,) = model.journal(ended=1)
    assert entry.disconnected
    expect(chat.get_by_text("stopped", exact=True)).to_be_visible()
    expect(chat.get_by_role("button", name="Send")).to_be_visible()


def test_the_page_works_by_keyboard_alone(chat: Page, model: Simulator) -> None:
    model.script({"reply": "one and two", "step": True})
    model.permit()
    expect(chat.get_by_role("textbox", name="Message")).to_be_focused()
    chat.keyboard.type("Hello")
    chat.keyboard.press("Shift+Enter")
    chat.keyboard.type("you")
    chat.keyboard.press("Enter")
    expect(chat.locator("article .text").last).to_have_text("one and")
    chat.keyboard.press("Escape")
    assert model.journal(ended=1)[0].disconnected
    assert request_body(model)["messages"][0]["content"] == "Hello\nyou"
    # Tab reaches all other controls.
    reached = set()
    for _ in range(10):
        chat.keyboard.press("Tab")
        reached.add(chat.evaluate("document.activeElement.textContent.trim().slice(0, 20) || document.activeElement.id"))
    assert {"Send", "New chat", "System prompt", "Copy"} <= reached


def test_a_second_message_continues_the_conversation(chat: Page, model: Simulator) -> None:
    chat.get_by_text("System prompt").first.click()
    chat.get_by_role("textbox", name="System prompt").fill("Be brief.")
    model.script({"reply": "A first reply"})
    send_message(chat, "First")
    expect(chat.get_by_text("first token after")).to_have_count(1)
    send_message(chat, "Second")
    expect(chat.get_by_text("first token after")).to_have_count(2)
    assert request_body(model)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "First"},
        {"role": "assistant", "content": "A first reply"},
        {"role": "user", "content": "Second"},
    ]


def test_a_new_chat_forgets_the_previous_one(chat: Page, model: Simulator) -> None:
    model.script({"reply": "one and two", "step": True})
    model.permit()
    send_message(chat, "First")
    expect(chat.locator("article .text").last).to_have_text("one and")
    chat.get_by_role("button", name="New chat").click()
    assert model.journal(ended=1)[0].disconnected
    expect(chat.get_by_role("article")).to_have_count(0)
    chat.get_by_role("combobox", name="Model").select_option("other")
    send_message(chat, "Second")
    expect(chat.get_by_text("first token after")).to_have_count(1)
    body = request_body(model)
    assert (body["messages"], body["model"]) == ([{"role": "user", "content": "Second"}], "other")


def test_a_reply_can_be_copied(chat: Page, model: Simulator) -> None:
    chat.context.grant_permissions(["clipboard-read", "clipboard-write"])
    model.script({"reply": "To be\n```\ncopied\n```"})
    send_message(chat, "Hello")
    chat.get_by_role("button", name="Copy").click()
    expect(chat.get_by_role("button", name="Copied")).to_be_visible()
    assert chat.evaluate("navigator.clipboard.readText()") == "To be\n```\ncopied\n```"


class TestCallerKeys:
    def test_the_page_asks_for_no_key_if_the_app_requires_none(self, chat: Page) -> None:
        expect(chat.get_by_label("Caller key")).to_be_hidden()

    def test_a_wrong_key_is_rejected_and_the_right_one_stays_in_the_tab(
        self, page: Page, gateway: Gateway, shared_model: Simulator
    ) -> None:
        gateway.configure(shared_model.url)
        url = f"{gateway.app.url}/api/playground"
        page.goto(url)
        key = page.get_by_label("Caller key")
        expect(key).to_be_focused()
        key.fill("an-unknown-caller-key")
        key.press("Enter")
        expect(page.get_by_text("This caller key is not valid.")).to_be_visible()
        key.fill(CALLER_KEY)
        page.get_by_role("button", name="Continue").click()
        expect(key).to_be_hidden()
        send_message(page, "Hello")
        expect(page.get_by_text("first token after")).to_be_visible()
        page.reload()
        expect(page.get_by_role("combobox", name="Model")).to_be_enabled()
        assert CALLER_KEY in page.evaluate("JSON.stringify(sessionStorage)")
        assert page.evaluate("localStorage.length + document.cookie.length") == 0
        assert CALLER_KEY not in page.url
        other = page.context.new_page()
        other.goto(url)
        expect(other.get_by_label("Caller key")).to_be_visible()

    def test_a_token_takes_the_place_of_a_key(
        self, page: Page, gateway: Gateway, shared_model: Simulator, upstreams: Upstreams
    ) -> None:
        entra, settings = upstreams.entra()
        gateway.configure(shared_model.url, CALLER_KEYS="", **settings)
        page.goto(f"{gateway.app.url}/api/playground")
        key, hint = page.get_by_label("Caller key or token"), page.locator("#key-hint")
        for rejected, message in [
            (entra.mint(claims={"exp": 1}), "not valid here: expired. Enter a new one."),
            (entra.mint(claims={"roles": []}), "lacks the role for this app."),
            ("no-token", "An Entra ID token for this app is needed"),
        ]:
            key.fill(rejected)
            key.press("Enter")
            expect(hint).to_contain_text(message)
        token = entra.mint(claims={"groups": "g" * 4000})
        assert len(token) > 4000
        key.fill(token)
        key.press("Enter")
        expect(key).to_be_hidden()
        entra.rotate(drop=True)
        gateway.configure(shared_model.url, CALLER_KEYS="", **settings)
        send_message(page, "A long message")
        expect(hint).to_have_text("This Entra ID token is not valid here. Enter a new one.")
        expect(page.get_by_role("textbox", name="Message")).to_have_value("A long message")
        assert token not in page.evaluate("JSON.stringify(sessionStorage)")
        entra.http.close()

    def test_the_message_is_kept_if_a_key_becomes_necessary(
        self, page: Page, gateway: Gateway, shared_model: Simulator
    ) -> None:
        gateway.configure(shared_model.url, CALLER_KEYS="")
        open_page(page, f"{gateway.app.url}/api")
        gateway.configure(shared_model.url)
        send_message(page, "A long message")
        page.get_by_label("Caller key").fill(CALLER_KEY)
        page.keyboard.press("Enter")
        expect(page.get_by_role("textbox", name="Message")).to_have_value("A long message")
        expect(page.get_by_role("article")).to_have_count(0)


def test_messages_are_shown_as_text_and_never_as_html(chat: Page, model: Simulator) -> None:
    requested: list[str] = []
    chat.on("request", lambda request: requested.append(request.url))
    model.script({"reply": INJECTION})
    send_message(chat, '<img src=y onerror="window.hacked = 6">')
    expect(chat.get_by_text("first token after")).to_be_visible()
    reply = chat.get_by_role("article").nth(1)
    expect(reply).to_contain_text('<script>window.hacked = 1</script><img src=x onerror="window.hacked = 2">')
    expect(reply.locator("pre")).to_have_text('</code></pre><svg onload="window.hacked = 4">')
    assert chat.evaluate("window.hacked") is None
    assert chat.evaluate("document.querySelectorAll('#log :is(script, img, svg, iframe, a)').length") == 0
    origin = chat.url.removesuffix("/playground")
    assert {url.removeprefix(origin) for url in requested} == {"/v1/chat/completions"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1000, 360])
def test_axe_finds_no_accessibility_violations(
    browser: Browser, gateway: Gateway, shared_model: Simulator, scheme: Any, width: int
) -> None:
    shared_model.clear()
    gateway.configure(shared_model.url)
    with browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 700}) as context:
        page = context.new_page()
        page.goto(f"{gateway.app.url}/api/playground")
        page.get_by_label("Caller key").fill(CALLER_KEY)
        assert violations(page) == []
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_have_text("healthy")
        assert violations(page) == []
        shared_model.script({"reply": "Some text\n```\nand code of one line that is much too long for a narrow screen\n```"})
        send_message(page, "Hello" * 40)
        expect(page.get_by_text("first token after")).to_be_visible()
        shared_model.script({"status": 429})
        send_message(page, "Hello")
        expect(page.get_by_role("alert")).to_be_visible()
        page.get_by_text("System prompt").first.click()
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("prefix", ["", "ai/v2"])
def test_the_page_works_with_any_route_prefix(page: Page, folder: Path, prefix: str) -> None:
    with local_app(folder, prefix=prefix) as app:
        open_page(page, f"{app.url}/{prefix}".rstrip("/"))
        send_message(page, "Hello")
        expect(page.get_by_text("first token after")).to_be_visible()


def test_a_trailing_slash_makes_no_difference(page: Page, gateway: Gateway, model: Simulator) -> None:
    page.goto(f"{gateway.app.url}/api/playground/")
    expect(page.get_by_role("combobox", name="Model")).to_be_enabled()


def test_the_page_is_small_and_cannot_load_anything_else(gateway: Gateway) -> None:
    response = gateway.http.get("/api/playground")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert len(response.content) < 60_000
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; connect-src 'self';")
    assert "unsafe" not in policy
    assert "http" not in re.sub(r"<script>.*</script>", "", response.text, flags=re.DOTALL)
    assert gateway.http.post("/api/playground").status_code == 404
