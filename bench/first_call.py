"""Load the app in this process and send it one chat, as a cold start does."""

import asyncio

from starlette.requests import Request
from starlette.types import Message

import function_app

SCOPE = {"type": "http", "method": "POST", "path": "/api/chat", "query_string": b"", "headers": []}


async def chat_status() -> int:
    """Send a chat to its function, and return the response's HTTP status."""
    messages: list[Message] = [{"type": "http.request", "body": b'{"prompt":"Hello"}', "more_body": False}]

    async def receive() -> Message:
        if not messages:
            # The next message would be the disconnect, which never comes.
            await asyncio.Event().wait()
        return messages.pop()

    functions = {function.get_function_name(): function for function in function_app.app.get_functions()}
    response = await functions["chat"].get_user_function()(Request(SCOPE, receive))
    return int(response.status_code)


def call() -> None:
    assert asyncio.run(chat_status()) == 200
