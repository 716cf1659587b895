"""Test that the next endpoint gets the whole call of each operation that creates something, or none of it."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from local.simulator.payloads import WRONG_TOKEN
from shared.operations import V1, Body
from tests.support.gateway_calls import attempts
from tests.support.operation_calls import CALLS, MODEL, SETTINGS, UPLOAD, audio, check_seen, digest, files_in
from tests.support.processes import Json, Simulator
from tests.support.sdk import SDK
from tests.support.upstreams import ConfigureIdentity, Gateway, Handler, Upstreams

# Of each operation that creates something, the first call in the table.
FIRST = {call.operation: name for name, call in reversed(CALLS.items())}
CREATING = [name for operation, name in FIRST.items() if operation.body is not Body.NOTHING]
UNREPEATABLE = [name for name in CREATING if CALLS[name].path.startswith(("audio/", "images/"))]
REPEATABLE = [name for name in CREATING if name not in UNREPEATABLE]
FAULTS: dict[str, Json] = {
    "429": {"status": 429},
    "500": {"status": 500},
    "no deployment": {"status": 404, "body": {"error": {"code": "DeploymentNotFound", "message": "No deployment."}}},
}


def exists(name: str, version: str) -> bool:
    return CALLS[name].operation.exists_in(version)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", CREATING)
def test_the_second_endpoint_gets_the_whole_call_if_the_first_fails(
    gateway: Gateway, models: list[Simulator], sdk: SDK, version: str, name: str, fault: str
) -> None:
    if not exists(name, version):
        return
    gateway.configure(models[0].url, models[1].url, AZURE_OPENAI_API_VERSION=version, **SETTINGS)
    models[0].script(FAULTS[fault])
    CALLS[name].run(sdk)
    for model in models[:2]:
        (seen,) = model.journal()
        check_seen(CALLS[name], seen, version)
    first, second = (model.journal()[0] for model in models[:2])
    assert (first.body, first.parts) == (second.body, second.parts)


@pytest.mark.parametrize("name", CREATING)
def test_only_calls_that_may_be_repeated_go_on_after_a_reset(
    gateway: Gateway, models: list[Simulator], sdk: SDK, name: str
) -> None:
    gateway.configure(models[0].url, models[1].url, AZURE_OPENAI_API_VERSION=V1, **SETTINGS)
    models[0].script({"reset": True})
    if name in REPEATABLE:
        CALLS[name].run(sdk)
        assert attempts(models) == [1, 1, 0]
    else:
        with pytest.raises(openai.InternalServerError) as raised:
            CALLS[name].run(sdk)
        assert (raised.value.status_code, raised.value.code) == (502, "upstream_unreachable")
        assert attempts(models) == [1, 0, 0]


def test_calls_that_are_paid_for_per_attempt_have_one_attempt_and_all_the_time(
    gateway: Gateway, models: list[Simulator], sdk: SDK
) -> None:
    times = {"ATTEMPT_TIMEOUT_SECONDS": "0.1", "REQUEST_TIMEOUT_SECONDS": "2"}
    gateway.configure(models[0].url, models[1].url, AZURE_OPENAI_API_VERSION=V1, **SETTINGS, **times)
    models[0].script(*[{"hang": True}] * len(UNREPEATABLE))

    def error_of(name: str) -> tuple[int, str | None]:
        with pytest.raises(openai.InternalServerError) as raised:
            CALLS[name].run(sdk)
        return raised.value.status_code, raised.value.code

    with ThreadPoolExecutor() as threads:
        errors = list(threads.map(error_of, UNREPEATABLE))
    assert errors == [(504, "deadline_exceeded")] * len(UNREPEATABLE)
    assert attempts(models) == [len(UNREPEATABLE), 0, 0]


@pytest.mark.parametrize("name", CREATING)
def test_a_call_whose_token_was_rejected_is_sent_again_with_another(
    configure_identity: ConfigureIdentity, sdk: SDK, version: str, name: str
) -> None:
    if not exists(name, version):
        return
    app = configure_identity(AZURE_OPENAI_API_VERSION=version, **SETTINGS)
    app.model.script({"status": 401, "body": WRONG_TOKEN})
    CALLS[name].run(sdk)
    first, second = app.model.journal()
    assert first.token != second.token
    assert (first.body, first.parts) == (second.body, second.parts)
    check_seen(CALLS[name], second, version)


THROTTLED = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 2\r\n\r\n{}"


def responder(response: bytes, then: str, read: int) -> Handler:
    """Return a server that reads the headers and `read` bytes of the body, sends `response`, and does what `then` says.

    It closes or resets the connection, leaves the rest of the body unread, or reads it.
    """

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(read)
        writer.write(response)
        await writer.drain()
        if then == "stall":
            await asyncio.sleep(60)
        if then == "read":
            await reader.read()
        if then == "reset":
            writer.transport.abort()
        writer.close()

    return handle


@pytest.mark.parametrize("read", [0, 5_000_000])
@pytest.mark.parametrize("then", ["close", "stall", "read"])
def test_an_early_response_to_a_large_upload_leaves_it_whole_for_the_second_endpoint(
    gateway: Gateway, models: list[Simulator], upstreams: Upstreams, sdk: SDK, then: str, read: int
) -> None:
    port = upstreams.serve(responder(THROTTLED, then, read))
    gateway.configure(f"http://127.0.0.1:{port}", models[0].url, **SETTINGS)
    sdk.client.audio.transcriptions.create(model=MODEL, file=audio(content=UPLOAD))
    (seen,) = models[0].journal()
    assert files_in(seen) == {"file": [digest(UPLOAD)]}


@pytest.mark.parametrize("then", ["close", "reset"])
def test_an_upload_that_breaks_off_leaves_it_whole_for_the_second_endpoint(
    gateway: Gateway, models: list[Simulator], upstreams: Upstreams, sdk: SDK, then: str
) -> None:
    port = upstreams.serve(responder(b"", then, 5_000_000))
    gateway.configure(f"http://127.0.0.1:{port}", models[0].url, **SETTINGS)
    sdk.client.audio.transcriptions.create(model=MODEL, file=audio(content=UPLOAD))
    (seen,) = models[0].journal()
    assert files_in(seen) == {"file": [digest(UPLOAD)]}
