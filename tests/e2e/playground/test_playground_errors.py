"""Test what the chat page shows when a chat fails, and that it offers to try again."""

import json
import re

from playwright.sync_api import Page, expect

from tests.support.browser import needs_chromium, request_body, send_message
from tests.support.processes import Simulator
from tests.support.upstreams import Gateway

pytestmark = needs_chromium


def test_a_throttled_chat_can_be_tried_again_after_a_countdown(chat: Page, model: Simulator) -> None:
    model.script({"status": 429, "headers": {"retry-after": "3"}})
    send_message(chat, "Hello")
    expect(chat.get_by_role("alert")).to_contain_text("The model has reached its rate limit.")
    expect(chat.get_by_role("button", name=re.compile("Try again in [123] s"))).to_be_disabled()
    again = chat.get_by_role("button", name="Try again", exact=True)
    expect(again).to_be_enabled()
    again.click()
    expect(chat.get_by_text("first token after")).to_be_visible()
    expect(chat.get_by_role("alert")).to_have_count(0)
    assert request_body(model)["messages"] == [{"role": "user", "content": "Hello"}]


def test_an_interrupted_reply_stays_visible_and_can_be_tried_again(chat: Page, model: Simulator) -> None:
    model.script({"reply": "one and two and three", "cut": 1})
    send_message(chat, "Hello")
    expect(chat.get_by_role("alert")).to_contain_text("The reply was interrupted.")
    expect(chat.get_by_role("alert")).to_contain_text("The stream was interrupted before its end.")
    expect(chat.locator("article .text").last).to_have_text("one and")
    chat.get_by_role("button", name="Try again").click()
    expect(chat.get_by_role("article")).to_have_count(2)
    expect(chat.get_by_role("alert")).to_have_count(0)
    assert request_body(model)["messages"] == [{"role": "user", "content": "Hello"}]


def test_the_message_of_an_error_in_the_stream_is_shown(chat: Page, gateway: Gateway, model: Simulator) -> None:
    gateway.configure(model.url, CALLER_KEYS="", STREAM_IDLE_SECONDS="0.5")
    chunk = '{"choices":[{"delta":{"content":"one"}}]}'
    error = '{"error":{"code":"rate_limit_exceeded","message":"Slow down"}}'
    headers = {"content-type": "text/event-stream"}
    model.script({"raw": f"data: {chunk}\n\ndata: {error}\n\n", "headers": headers}, {"step": True})
    for expected in ("Slow down", "The model sent nothing for 0.5 seconds"):
        send_message(chat, "Hello")
        expect(chat.get_by_role("alert")).to_contain_text(expected)
        model.permit()


def test_a_filtered_message_is_reported_and_left_out_of_the_next_request(chat: Page, model: Simulator) -> None:
    model.script({"status": 400, "body": {"error": {"code": "content_filter", "message": "<b>filtered</b>"}}})
    send_message(chat, "Hello")
    expect(chat.get_by_role("alert")).to_contain_text("The content filter blocked this message.")
    expect(chat.get_by_role("alert")).to_contain_text("<b>filtered</b>")
    send_message(chat, "Something else")
    expect(chat.get_by_text("first token after")).to_be_visible()
    assert request_body(model)["messages"] == [{"role": "user", "content": "Something else"}]


def test_the_page_retries_without_stream_options_if_azure_rejects_them(chat: Page, model: Simulator) -> None:
    error = {"error": {"message": "Unrecognized request argument supplied: stream_options", "param": None}}
    model.script({"status": 400, "body": error})
    send_message(chat, "Hello")
    expect(chat.get_by_text("first token after")).to_be_visible()
    assert ["stream_options" in json.loads(entry.body) for entry in model.journal()] == [True, False]


def test_the_page_reports_missing_settings(page: Page, gateway: Gateway) -> None:
    gateway.configure(CALLER_KEYS="")
    page.goto(f"{gateway.app.url}/api/playground")
    expect(page.get_by_role("alert")).to_contain_text("This app is not configured yet.")
    expect(page.get_by_role("alert")).to_contain_text("AZURE_OPENAI_ENDPOINT")
    expect(page.get_by_role("status")).to_have_text("not configured")


def test_the_page_reports_an_unreachable_app(chat: Page) -> None:
    chat.context.set_offline(True)
    send_message(chat, "Hello")
    expect(chat.get_by_role("alert")).to_contain_text("The app cannot be reached.")
    expect(chat.get_by_role("status")).to_have_text("unreachable")
