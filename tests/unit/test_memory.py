"""Test that a finished call leaves nothing in memory, even if the garbage collector never runs."""

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from azurefunctions.extensions.http.fastapi import Response
from starlette.requests import Request
from starlette.types import Message

from local.simulator.azure_openai import AzureOpenAISimulator
from shared.error_responses import as_responses
from shared.openai_api.passthrough import respond
from shared.streaming.disconnects import cancel_on_disconnect
from shared.upstream.failover import Failover
from shared.upstream.request import InferenceCall
from shared.upstream.response import UpstreamResponse
from tests.support.calls import chat_call
from tests.support.processes import Json

pytestmark = pytest.mark.anyio

HEADERS = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream"}
SCRIPTS: dict[str, Json] = {
    "a response": {},
    "a throttled call": {"status": 429},
    "a rejected request": {"status": 400},
    "a failure": {"status": 500},
    "a wrong key": {"status": 401},
    "a reset": {"reset": True},
    "a response in chunks": {"raw": "{}", "split": 1},
    "a stream": {"raw": "data: 1\n\ndata: [DONE]\n\n", "headers": EVENTS},
    "a stream that falls silent": {"raw": "data: 1\n\n", "headers": {**EVENTS, "content-length": "99"}},
    "a stream that is interrupted": {"cut": 1},
    "an error in the body": {"error": {"code": "rate_limit_exceeded"}},
    "an error in a stream before output": {"error": {"code": "rate_limit_exceeded"}},
    "an error in a stream after output": {"error": {"code": "rate_limit_exceeded"}, "after": 1},
    "a caller's error in a stream": {"error": {"code": "content_filter"}},
    "a body that comes too late": {"raw": "{", "headers": {"content-length": "99"}},
    "headers that come too late": {"delay": 60},
}


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_garbage_collection")
@pytest.mark.parametrize("script", SCRIPTS)
async def test_a_finished_call_leaves_nothing_in_memory(
    resource: AzureOpenAISimulator, failover: Failover, script: str
) -> None:
    resource.journal.scripts.append(SCRIPTS[script])
    failover.settings = replace(failover.settings, request_timeout=0.5, stream_idle=0.5)
    body = b'{"messages":[{"role":"user","content":"Hi"}],"stream":%s}' % (b"true" if "stream" in script else b"false")
    call = chat_call(body, headers=HEADERS, stream="stream" in script)
    disconnected = asyncio.Event()

    async def receive() -> Message:
        await disconnected.wait()
        return {"type": "http.disconnect"}

    async def send(_: Message) -> None:
        pass

    ends = asyncio.get_running_loop().time() + 60

    @as_responses
    async def respond_or_fail(call: InferenceCall) -> Response:
        return await cancel_on_disconnect(Request({"type": "http"}, receive), respond(failover, call, ends))

    response = await respond_or_fail(call)
    await response({"type": "http"}, receive, send)
    references: list[Callable[[], object]] = [weakref.ref(call), weakref.ref(response)]
    del call, response
    # Cancelled tasks end in the next iterations of the loop.
    for _ in range(10):
        await asyncio.sleep(0)
    assert [reference() for reference in references] == [None, None]
    assert not [found for found in gc.get_objects() if type(found) is UpstreamResponse]
