"""AUTHENTICATION=AZURE end to end: real azure-identity, against the simulator of the identity endpoint."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from local.simulator import payloads
from tests.support.processes import LocalApp, local_app
from tests.support.upstreams import Gateway, Upstreams

USER_ASSIGNED = "11111111-2222-3333-4444-555555555555"
# A token with this many seconds to live is valid, and old enough to be renewed in the background.
SOON_TO_RENEW = 200
# The app holds a token with less to live for expired.
EXPIRED = 5


type Configure = Callable[..., LocalApp]


@pytest.fixture
def configure(upstreams: Upstreams, gateway: Gateway) -> Iterator[Configure]:
    """Return a function that gives the app an identity, no token yet, and more settings."""
    model, identity, settings = upstreams.identity([USER_ASSIGNED])

    def configure(**more: str) -> LocalApp:
        gateway.configure(model.url, **settings, **more)
        gateway.app.model, gateway.app.identity = model, identity
        return gateway.app

    yield configure
    model.http.close()
    identity.http.close()


@pytest.fixture
def app(configure: Configure) -> LocalApp:
    """Return the app with a system-assigned identity and no token yet, although its environment has keys."""
    return configure(AZURE_OPENAI_KEY="left-behind", AZURE_OPENAI_API_KEY="left-behind")


def chats(app: LocalApp, count: int) -> list[httpx2.Response]:
    """That many chats at once."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: app.chat({"prompt": "Hello"}), range(count)))


def test_a_reply_and_a_stream_with_tokens_alone(app: LocalApp) -> None:
    assert app.chat({"prompt": "Hello"}).json()["reply"]
    with app.stream_chat() as events:
        assert list(events)[-1] == "[DONE]"
    for seen in app.model.journal(requests=2):
        # The simulator has answered, so it has verified the token's signature, audience and life time.
        assert seen.status == 200
        assert len(seen.token.split(".")) == 3
        assert "api-key" not in seen.headers
        assert "left-behind" not in str(seen)
    assert "left-behind" not in app.output


def test_v1_takes_tokens_too(configure: Configure) -> None:
    app = configure(AZURE_OPENAI_API_VERSION="v1")
    assert app.chat({"prompt": "Hello"}).status_code == 200
    (seen,) = app.model.journal()
    assert seen.path == "/openai/v1/chat/completions"
    assert seen.token
    assert "api-key" not in seen.headers


def test_the_identity_endpoint_is_asked_for_the_cognitive_services_scope(app: LocalApp) -> None:
    app.chat({"prompt": "Hello"})
    (seen,) = app.identity.journal()
    assert seen.query == {"api-version": "2019-08-01", "resource": "https://cognitiveservices.azure.com"}


def test_a_user_assigned_identity_is_named_by_its_client_id(configure: Configure) -> None:
    app = configure(AZURE_CLIENT_ID=USER_ASSIGNED)
    assert app.chat({"prompt": "Hello"}).status_code == 200
    (seen,) = app.identity.journal()
    assert seen.query["client_id"] == USER_ASSIGNED


def test_a_user_assigned_identity_can_be_named_in_the_dotenv_file(folder: Path) -> None:
    folder.mkdir()
    (folder / "azureopenai.env").write_text(f"AZURE_CLIENT_ID={USER_ASSIGNED}\n")
    with local_app(folder, "--identity") as app:
        assert app.chat({"prompt": "Hello"}).status_code == 200
        (seen,) = app.identity.journal()
        assert seen.query["client_id"] == USER_ASSIGNED


def test_100_cold_callers_cost_one_token_and_one_set_of_clients(app: LocalApp) -> None:
    assert {response.status_code for response in chats(app, 100)} == {200}
    assert len(app.identity.journal()) == 1
    assert len({seen.token for seen in app.model.journal(requests=100)}) == 1
    assert app.output.count("Built the clients") == 1


def test_a_hanging_identity_endpoint_delays_nobody_while_the_token_is_valid(app: LocalApp) -> None:
    app.identity.script({"lifetime": SOON_TO_RENEW}, {"hang": True, "times": 9})
    app.chat({"prompt": "Hello"})
    assert {response.status_code for response in chats(app, 100)} == {200}
    first, *others = app.identity.journal(requests=2)
    # The renewal was asked for, and is still unanswered.
    assert first.status == 200
    assert all(request.status is None for request in others)


def test_a_failing_identity_endpoint_harms_nobody_while_the_token_is_valid(app: LocalApp) -> None:
    app.identity.script({"lifetime": SOON_TO_RENEW}, {"status": 500, "times": 99})
    app.chat({"prompt": "Hello"})
    assert app.chat({"prompt": "Hello"}).status_code == 200
    app.wait_for("No token for the app's identity")
    assert app.chat({"prompt": "Hello"}).status_code == 200


def test_a_token_is_renewed_in_the_background(app: LocalApp) -> None:
    app.identity.script({"lifetime": SOON_TO_RENEW})
    first, second = (app.chat({"prompt": "Hello"}) for _ in range(2))
    assert first.status_code == second.status_code == 200
    app.identity.journal(ended=2)
    while len({seen.token for seen in app.model.journal()}) == 1:
        assert app.chat({"prompt": "Hello"}).status_code == 200
    assert len(app.identity.journal()) == 2


def test_an_expired_token_is_replaced_at_the_next_request(app: LocalApp) -> None:
    app.identity.script({"lifetime": EXPIRED})
    for _ in range(2):
        assert app.chat({"prompt": "Hello"}).status_code == 200
    assert len(app.identity.journal()) == 2
    assert len({seen.token for seen in app.model.journal()}) == 2


def test_a_refused_token_is_replaced_once_and_the_call_repeated_once(app: LocalApp) -> None:
    app.chat({"prompt": "Hello"})
    app.model.script({"status": 401, "body": payloads.WRONG_TOKEN})
    assert app.chat({"prompt": "Hello"}).status_code == 200
    first, refused, repeated = app.model.journal()
    assert first.token == refused.token != repeated.token
    assert refused.body == repeated.body
    assert len(app.identity.journal()) == 2


def test_a_second_refusal_is_final_and_asks_for_no_more_tokens(app: LocalApp) -> None:
    app.model.script({"status": 401, "body": payloads.WRONG_TOKEN, "times": 3})
    for calls in (2, 3):
        response = app.chat({"prompt": "Hello"})
        assert response.status_code == 502
        assert response.json()["error"]["code"] == "upstream_auth"
        assert len(app.model.journal()) == calls
        assert len(app.identity.journal()) == 2


def test_100_refusals_of_one_token_ask_for_one_new_token(app: LocalApp) -> None:
    app.chat({"prompt": "Hello"})
    app.model.script({"status": 401, "body": payloads.WRONG_TOKEN, "times": 100})
    statuses = [response.status_code for response in chats(app, 100)]
    assert len(app.identity.journal()) == 2
    # Refusals that the scripts have left for a second try stay refusals; nobody tries a third time.
    assert set(statuses) <= {200, 502}
    assert 100 < len(app.model.journal()) <= 201


def test_a_missing_role_is_not_tried_again_and_the_log_names_it(configure: Configure) -> None:
    app = configure(AZURE_CLIENT_ID=USER_ASSIGNED)
    app.model.script({"status": 401, "body": payloads.PERMISSION_DENIED})
    response = app.chat({"prompt": "Hello"})
    assert response.status_code == 502
    assert response.json()["error"]["code"] == "upstream_auth"
    assert "role" not in response.text
    assert len(app.model.journal()) == 1
    assert len(app.identity.journal()) == 1
    app.wait_for("Cognitive Services OpenAI User")
    app.wait_for(USER_ASSIGNED)


@pytest.mark.parametrize("status", [400, 500])
def test_no_token_is_502_and_the_log_says_why(app: LocalApp, status: int) -> None:
    app.identity.script({"status": status, "times": 99})
    response = app.chat({"prompt": "Hello"})
    assert response.status_code == 502
    assert response.json()["error"]["code"] == "upstream_auth"
    assert app.model.journal() == []
    app.wait_for("No token for the app's identity")
    app.wait_for("Scripted by a test")
    app.identity.clear()
    # MSAL gives a failing endpoint five seconds of rest.
    while (status := app.chat({"prompt": "Hello"}).status_code) != 200:
        assert status == 502


def test_a_key_from_the_dotenv_file_is_not_used(folder: Path) -> None:
    folder.mkdir()
    (folder / "azureopenai.env").write_text("AZURE_OPENAI_KEY=left-behind\n")
    with local_app(folder, "--identity") as app:
        assert app.chat({"prompt": "Hello"}).status_code == 200
        (seen,) = app.model.journal()
        assert "left-behind" not in json.dumps(seen.headers)
