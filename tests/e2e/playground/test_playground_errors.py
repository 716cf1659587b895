"""What the chat page shows and offers when something is wrong."""

import json
import re

from playwright.sync_api import Page, expect

from tests.support.browser import needs_chromium, request_body, send_message
from tests.support.processes import Simulator
from tests.support.upstreams import Gateway

pytestmark = needs_chromium


class TestTrouble:
    def test_throttled_counts_down_and_then_tries_again(self, chat: Page, model: Simulator) -> None:
        model.script({"status": 429, "headers": {"retry-after": "3"}})
        send_message(chat, "Hello")
        expect(chat.get_by_role("alert")).to_contain_text("The model is throttled")
        expect(chat.get_by_role("button", name=re.compile("Try again in [123] s"))).to_be_disabled()
        again = chat.get_by_role("button", name="Try again", exact=True)
        expect(again).to_be_enabled()
        again.click()
        expect(chat.get_by_text("first token after")).to_be_visible()
        expect(chat.get_by_role("alert")).to_have_count(0)
        assert request_body(model)["messages"] == [{"role": "user", "content": "Hello"}]

    def test_a_stream_that_breaks_off_keeps_its_pieces_and_can_be_tried_again(self, chat: Page, model: Simulator) -> None:
        model.script({"reply": "one and two and three", "cut": 1})
        send_message(chat, "Hello")
        expect(chat.get_by_role("alert")).to_contain_text("The answer broke off.")
        expect(chat.locator("article .text").last).to_have_text("one and")
        chat.get_by_role("button", name="Try again").click()
        expect(chat.get_by_role("article")).to_have_count(2)
        expect(chat.get_by_role("alert")).to_have_count(0)
        assert request_body(model)["messages"] == [{"role": "user", "content": "Hello"}]

    def test_a_filtered_prompt_is_told_and_not_part_of_what_follows(self, chat: Page, model: Simulator) -> None:
        model.script({"status": 400, "body": {"error": {"code": "content_filter", "message": "<b>filtered</b>"}}})
        send_message(chat, "Hello")
        expect(chat.get_by_role("alert")).to_contain_text("The content filter refused this prompt.")
        expect(chat.get_by_role("alert")).to_contain_text("<b>filtered</b>")
        send_message(chat, "Something else")
        expect(chat.get_by_text("first token after")).to_be_visible()
        assert request_body(model)["messages"] == [{"role": "user", "content": "Something else"}]

    def test_api_versions_that_know_no_stream_options_do_without(self, chat: Page, model: Simulator) -> None:
        refusal = {"error": {"message": "Unrecognized request argument supplied: stream_options", "param": None}}
        model.script({"status": 400, "body": refusal})
        send_message(chat, "Hello")
        expect(chat.get_by_text("first token after")).to_be_visible()
        assert ["stream_options" in json.loads(entry.body) for entry in model.journal()] == [True, False]

    def test_an_app_that_is_not_configured_says_so(self, page: Page, gateway: Gateway) -> None:
        gateway.configure(CALLER_KEYS="")
        page.goto(f"{gateway.app.url}/api/playground")
        expect(page.get_by_role("alert")).to_contain_text("The app is not configured yet.")
        expect(page.get_by_role("alert")).to_contain_text("AZURE_OPENAI_ENDPOINT")
        expect(page.get_by_role("status")).to_have_text("not configured")

    def test_an_app_that_is_gone_is_told(self, chat: Page) -> None:
        chat.context.set_offline(True)
        send_message(chat, "Hello")
        expect(chat.get_by_role("alert")).to_contain_text("The app cannot be reached.")
        expect(chat.get_by_role("status")).to_have_text("unreachable")
