"""Test AUTHENTICATION=AZURE end to end: the real azure-identity, with the simulator of the identity endpoint."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from local.simulator import payloads
from tests.support.processes import LocalApp, local_app
from tests.support.upstreams import USER_ASSIGNED, ConfigureIdentity

# Seconds. A token that expires in this time is valid, and due for a refresh in the background.
DUE_FOR_REFRESH = 200
# Seconds. The app treats a token that expires in this time as expired.
EXPIRED = 5


@pytest.fixture
def app(configure_identity: ConfigureIdentity) -> LocalApp:
    """Return the app with a system-assigned identity and no token yet. The keys in its environment must stay unused."""
    return configure_identity(AZURE_OPENAI_KEY="left-behind", AZURE_OPENAI_API_KEY="left-behind")


def chats(app: LocalApp, count: int) -> list[httpx2.Response]:
    """Send `count` chats at once."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: app.chat({"prompt": "Hello"}), range(count)))


def test_replies_and_streams_need_only_tokens(app: LocalApp) -> None:
    assert app.chat({"prompt": "Hello"}).json()["reply"]
    with app.stream_chat() as events:
        assert list(events)[-1] == "[DONE]"
    for seen in app.model.journal(requests=2):
        # The simulator has verified the token's signature, audience and lifetime before it responded with 200.
        assert seen.status == 200
        assert len(seen.token.split(".")) == 3
        assert "api-key" not in seen.headers
        assert "left-behind" not in str(seen)
    assert "left-behind" not in app.output


def test_v1_accepts_tokens_too(configure_identity: ConfigureIdentity) -> None:
    app = configure_identity(AZURE_OPENAI_API_VERSION="v1")
    assert app.chat({"prompt": "Hello"}).status_code == 200
    (seen,) = app.model.journal()
    assert seen.path == "/openai/v1/chat/completions"
    assert seen.token
    assert "api-key" not in seen.headers


def test_the_app_requests_a_token_for_cognitive_services(app: LocalApp) -> None:
    app.chat({"prompt": "Hello"})
    (seen,) = app.identity.journal()
    assert seen.query == {"api-version": "2019-08-01", "resource": "https://cognitiveservices.azure.com"}


def test_the_app_requests_a_user_assigned_identity_by_its_client_id(configure_identity: ConfigureIdentity) -> None:
    app = configure_identity(AZURE_CLIENT_ID=USER_ASSIGNED)
    assert app.chat({"prompt": "Hello"}).status_code == 200
    (seen,) = app.identity.journal()
    assert seen.query["client_id"] == USER_ASSIGNED


def test_the_client_id_can_come_from_the_dotenv_file(folder: Path) -> None:
    folder.mkdir()
    (folder / "azureopenai.env").write_text(f"AZURE_CLIENT_ID={USER_ASSIGNED}\n")
    with local_app(folder, "--identity") as app:
        assert app.chat({"prompt": "Hello"}).status_code == 200
        (seen,) = app.identity.journal()
        assert seen.query["client_id"] == USER_ASSIGNED


def test_the_first_100_calls_share_one_token_and_one_set_of_clients(app: LocalApp) -> None:
    assert {response.status_code for response in chats(app, 100)} == {200}
    assert len(app.identity.journal()) == 1
    assert len({seen.token for seen in app.model.journal(requests=100)}) == 1
    assert app.output.count("Built the clients") == 1


def test_a_hanging_identity_endpoint_delays_no_call_while_the_token_is_valid(app: LocalApp) -> None:
    app.identity.script({"lifetime": DUE_FOR_REFRESH}, {"hang": True, "times": 9})
    app.chat({"prompt": "Hello"})
    assert {response.status_code for response in chats(app, 100)} == {200}
    first, *others = app.identity.journal(requests=2)
    # The refresh has started, and still waits for a response.
    assert first.status == 200
    assert all(request.status is None for request in others)


def test_a_failing_identity_endpoint_fails_no_call_while_the_token_is_valid(app: LocalApp) -> None:
    app.identity.script({"lifetime": DUE_FOR_REFRESH}, {"status": 500, "times": 99})
    app.chat({"prompt": "Hello"})
    assert app.chat({"prompt": "Hello"}).status_code == 200
    app.wait_for("No token for the app's identity")
    assert app.chat({"prompt": "Hello"}).status_code == 200


def test_a_token_is_refreshed_in_the_background(app: LocalApp) -> None:
    app.identity.script({"lifetime": DUE_FOR_REFRESH})
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


def test_a_rejected_token_is_replaced_once_and_the_call_repeated_once(app: LocalApp) -> None:
    app.chat({"prompt": "Hello"})
    app.model.script({"status": 401, "body": payloads.WRONG_TOKEN})
    assert app.chat({"prompt": "Hello"}).status_code == 200
    first, rejected, repeated = app.model.journal()
    assert first.token == rejected.token != repeated.token
    assert rejected.body == repeated.body
    assert len(app.identity.journal()) == 2


def test_a_second_rejection_is_final_and_requests_no_more_tokens(app: LocalApp) -> None:
    app.model.script({"status": 401, "body": payloads.WRONG_TOKEN, "times": 3})
    for calls in (2, 3):
        response = app.chat({"prompt": "Hello"})
        assert response.status_code == 502
        assert response.json()["error"]["code"] == "upstream_auth"
        assert len(app.model.journal()) == calls
        assert len(app.identity.journal()) == 2


def test_100_rejections_of_one_token_request_one_new_token(app: LocalApp) -> None:
    app.chat({"prompt": "Hello"})
    app.model.script({"status": 401, "body": payloads.WRONG_TOKEN, "times": 100})
    statuses = [response.status_code for response in chats(app, 100)]
    assert len(app.identity.journal()) == 2
    # Scripts that remain can reject a second attempt. Then the call fails: there is no third attempt.
    assert set(statuses) <= {200, 502}
    assert 100 < len(app.model.journal()) <= 201


def test_a_call_that_lacks_a_role_is_not_repeated_and_the_log_names_the_role(configure_identity: ConfigureIdentity) -> None:
    app = configure_identity(AZURE_CLIENT_ID=USER_ASSIGNED)
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
def test_a_call_without_a_token_is_502_and_the_log_says_why(app: LocalApp, status: int) -> None:
    app.identity.script({"status": status, "times": 99})
    response = app.chat({"prompt": "Hello"})
    assert response.status_code == 502
    assert response.json()["error"]["code"] == "upstream_auth"
    assert app.model.journal() == []
    app.wait_for("No token for the app's identity")
    app.wait_for("Scripted by a test")
    app.identity.clear()
    # For five seconds, MSAL does not call an endpoint that has failed.
    while (status := app.chat({"prompt": "Hello"}).status_code) != 200:
        assert status == 502


def test_a_key_from_the_dotenv_file_is_ignored(folder: Path) -> None:
    folder.mkdir()
    (folder / "azureopenai.env").write_text("AZURE_OPENAI_KEY=left-behind\n")
    with local_app(folder, "--identity") as app:
        assert app.chat({"prompt": "Hello"}).status_code == 200
        (seen,) = app.model.journal()
        assert "left-behind" not in json.dumps(seen.headers)
