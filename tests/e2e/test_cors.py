"""Call the app from pages of other origins, in a real browser: Debian's Chromium, driven by Playwright."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Error, Page

from tests.support.browser import launch_browser, needs_chromium
from tests.support.gateway_calls import CHAT, MESSAGES
from tests.support.processes import Json, LocalApp, Simulator, local_app
from tests.support.upstreams import CALLER_KEY

pytestmark = needs_chromium

CALLS = {
    CHAT: ({"authorization": f"Bearer {CALLER_KEY}"}, MESSAGES),
    "/api/chat": ({"x-functions-key": "any"}, {"prompt": "Hello"}),
}
# The content type and the header with the key make the browser send a preflight first.
FETCH = """async ([url, headers, body]) => {
    const response = await fetch(url, {method: "POST", headers: {"content-type": "application/json", ...headers}, body});
    return {status: response.status, headers: Object.fromEntries(response.headers), text: await response.text()};
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launch_browser() as browser:
        yield browser


@pytest.fixture(scope="module", params=["--cors", "local.settings.json"])
def app(
    request: pytest.FixtureRequest, shared_models: list[Simulator], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalApp]:
    """Run an app that pages of the first simulator's origin may call."""
    folder, origins = tmp_path_factory.mktemp("app"), f"https://app.example,{shared_models[0].url}"
    if request.param == "--cors":
        options = ["--cors", origins]
    else:
        options = []
        (folder / "local.settings.json").write_text(json.dumps({"IsEncrypted": False, "Host": {"CORS": origins}}))
    with local_app(folder, *options, CALLER_KEYS=f"page={CALLER_KEY}") as app:
        yield app


@pytest.fixture
def pages(browser: Browser, models: list[Simulator]) -> Iterator[list[Page]]:
    """Open a page of each simulator. Their ports make them different origins."""
    with browser.new_context() as context:
        pages = [context.new_page() for _ in models]
        for page, model in zip(pages, models, strict=True):
            page.goto(f"{model.url}/control/journal")
        yield pages


def fetch(page: Page, app: LocalApp, path: str, **fields: object) -> Json:
    """Call the app by a script in `page`. Return the status, the headers that the script can read, and the text."""
    headers, body = CALLS[path]
    response: Json = page.evaluate(FETCH, [f"{app.url}{path}", headers, json.dumps({**body, **fields})])
    return response


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_page_of_an_allowed_origin_gets_replies(app: LocalApp, pages: list[Page], path: str, stream: bool) -> None:
    app.model.clear()
    app.model.script({"reply": "cross-origin"})
    response = fetch(pages[0], app, path, stream=stream)
    assert response["status"] == 200
    assert "cross-origin" in response["text"]
    assert response["text"].endswith("data: [DONE]\n\n") == stream


@pytest.mark.parametrize("path", CALLS)
def test_the_browser_sends_no_call_of_another_origin(app: LocalApp, pages: list[Page], path: str) -> None:
    app.model.clear()
    with pytest.raises(Error, match="Failed to fetch"):
        fetch(pages[1], app, path)
    assert app.model.journal() == []


@pytest.mark.parametrize("path", CALLS)
def test_a_page_can_read_errors_but_not_how_long_to_wait(app: LocalApp, pages: list[Page], path: str) -> None:
    app.model.clear()
    app.model.script(*[{"status": 429, "headers": {"retry-after": "30"}}] * 2)
    headers, body = CALLS[path]
    direct = app.http.post(path, json=body, headers=headers)
    response = fetch(pages[0], app, path)
    assert response["status"] == direct.status_code == 429
    assert json.loads(response["text"])["error"]["code"] == direct.json()["error"]["code"]
    hidden = {"retry-after", "x-request-id", "x-ratelimit-remaining-tokens"}
    assert hidden & set(direct.headers) == hidden
    assert hidden & set(response["headers"]) == set()
