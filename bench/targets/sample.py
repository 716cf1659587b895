"""Respond as the usual sample does: a sync handler with a client for each request, or one for all (`SHARED=1`)."""

import os
from collections.abc import Iterator

import azure.functions as func
from azurefunctions.extensions.http.fastapi import JSONResponse, Request, Response, StreamingResponse
from openai import AzureOpenAI, Stream
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


def new_client() -> AzureOpenAI:
    return AzureOpenAI(
        azure_endpoint=os.environ["AZURE_OPENAI_ENDPOINT"],
        api_version=os.environ["AZURE_OPENAI_API_VERSION"],
        api_key=os.environ["AZURE_OPENAI_KEY"],
    )


shared_client = new_client() if os.environ.get("SHARED") else None


@app.route(route="chat", methods=["POST"])
def chat(req: Request) -> Response:
    """Read the input from the query string, because a sync handler cannot read the body with this extension."""
    client = shared_client or new_client()
    options = req.query_params.get("user", "")
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]
    if "chunks" in options:
        stream = client.chat.completions.create(model="bench", messages=messages, user=options, stream=True)
        return StreamingResponse(chunks(stream), media_type="text/event-stream")
    completion = client.chat.completions.create(model="bench", messages=messages, user=options)
    return JSONResponse({"reply": completion.choices[0].message.content})


def chunks(stream: Stream[ChatCompletionChunk]) -> Iterator[str]:
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            yield f"data: {chunk.choices[0].delta.content}\n\n"
    yield "data: [DONE]\n\n"
