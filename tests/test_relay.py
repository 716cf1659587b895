"""Streams in silence, and failures in mid-stream, with a real answer of the stand-in."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import pytest

from local.azure_openai import AzureOpenAI
from local.serving import Servers
from shared import sse
from shared.chat import events
from shared.clients import Clients, InferenceCall
from shared.failover import Answer, Failover
from shared.relay import SILENCE, chunks_or_silence, failure_as_event
from shared.settings import Settings

pytestmark = pytest.mark.anyio

KEY = "a-key-of-the-stand-in"
CALL = InferenceCall("chat/completions", "chat", b'{"messages":[{"role":"user","content":"Hi"}],"stream":true}', True, {})
INTERVAL = 0.05


@pytest.fixture
async def model() -> AsyncIterator[tuple[AzureOpenAI, Failover]]:
    model = AzureOpenAI(["chat"], keys=[KEY])
    async with Servers() as servers:
        environ = {
            "AZURE_OPENAI_ENDPOINT": await servers.start(model.application()),
            "AZURE_OPENAI_KEY": KEY,
            "AZURE_OPENAI_API_VERSION": "2024-10-21",
            "AZURE_OPENAI_CHATGPT_DEPLOYMENT": "chat",
        }
        clients = Clients(Settings.from_env(environ, Path("absent.env")))
        yield model, Failover(clients)
        await clients.http.aclose()


@pytest.fixture
async def answer(model: tuple[AzureOpenAI, Failover]) -> AsyncIterator[Answer]:
    """A stream of two pieces, each sent when the test permits it."""
    stand_in, failover = model
    stand_in.journal.scripts.append({"reply": "one and two", "step": True})
    answer = await failover.send(CALL)
    yield answer
    await answer.aclose()


async def test_silence_is_told_until_a_piece_comes(model: tuple[AzureOpenAI, Failover], answer: Answer) -> None:
    chunks = chunks_or_silence(answer, INTERVAL, idle=60)
    seen = b""
    while (chunk := await anext(chunks)) != SILENCE:
        seen += chunk
    assert await anext(chunks) == SILENCE
    assert b"one and" not in seen
    model[0].journal.permits.release()
    while (chunk := await anext(chunks)) == SILENCE:
        pass
    assert b"one and" in chunk
    await chunks.aclose()


async def test_silence_becomes_a_comment_between_the_events(answer: Answer) -> None:
    stream = events(chunks_or_silence(answer, INTERVAL, idle=60), answer.record)
    assert await anext(stream) == sse.COMMENT
    assert sse.EventParser().feed(sse.COMMENT) == []
    await stream.aclose()


async def test_too_long_a_silence_is_a_failure(answer: Answer) -> None:
    with pytest.raises(TimeoutError):
        async for _ in chunks_or_silence(answer, INTERVAL, idle=3 * INTERVAL):
            pass


async def test_leaving_a_stream_in_a_silence_leaves_no_task_behind(answer: Answer) -> None:
    before = asyncio.all_tasks()
    stream = failure_as_event(events(chunks_or_silence(answer, INTERVAL, idle=60), answer.record), answer.record)
    assert await anext(stream) == sse.COMMENT
    await stream.aclose()
    await answer.aclose()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() <= before


async def test_a_closed_answer_frees_its_place(model: tuple[AzureOpenAI, Failover], answer: Answer) -> None:
    assert model[1].calls_in_flight == 1
    await answer.aclose()
    await answer.aclose()
    assert model[1].calls_in_flight == 0


async def test_a_stream_read_to_its_end_leaves_its_connection_for_the_next(model: tuple[AzureOpenAI, Failover]) -> None:
    stand_in, failover = model
    for _ in range(2):
        answer = await failover.send(CALL)
        stream = events(chunks_or_silence(answer, 15, 60), answer.record)
        assert [event async for event in stream][-1] == b"data: [DONE]\n\n"
        await answer.aclose()
    assert len({entry.caller for entry in stand_in.journal.entries}) == 1


async def test_an_unexpected_failure_in_a_stream_keeps_its_text_to_itself(
    answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    async def failing() -> AsyncGenerator[bytes]:
        yield b"data: 1\n\n"
        raise RuntimeError("the reply itself")

    first, last = [event async for event in failure_as_event(failing(), answer.record)]
    assert first == b"data: 1\n\n"
    assert b"internal_error" in last
    assert b"the reply itself" not in last
    await answer.aclose()
    output = capsys.readouterr().out
    assert "error=internal_error cause=RuntimeError" in output
    assert "the reply itself" not in output
