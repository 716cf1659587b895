"""Loads the app in this process and has it answer one chat, as a cold start does."""

import asyncio

from starlette.requests import Request
from starlette.types import Message

import function_app

SCOPE = {"type": "http", "method": "POST", "path": "/api/chat", "query_string": b"", "headers": []}


async def answered() -> int:
    """The status of the answer to a chat."""
    messages: list[Message] = [{"type": "http.request", "body": b'{"prompt":"Hello"}', "more_body": False}]

    async def receive() -> Message:
        if not messages:
            # Until the caller would hang up.
            await asyncio.Event().wait()
        return messages.pop()

    functions = {function.get_function_name(): function for function in function_app.app.get_functions()}
    response = await functions["chat"].get_user_function()(Request(SCOPE, receive))
    return int(response.status_code)


def call() -> None:
    assert asyncio.run(answered()) == 200
