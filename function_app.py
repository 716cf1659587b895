"""The functions: Azure OpenAI behind HTTP endpoints, with no key in anyone's hands."""

import azure.functions as func
from azurefunctions.extensions.http.fastapi import Request, Response

from shared import chat as chat_endpoint
from shared import inference, logs, relay
from shared.errors import as_responses
from shared.failover import shared_failover

logs.quiet()

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)


@app.route(route="chat", methods=["POST"])
@as_responses
async def chat(req: Request) -> Response:
    """A prompt or a conversation in, a reply out: JSON, or a stream of events with `"stream": true`."""
    failover = shared_failover()
    body = await inference.read_body(req, failover.settings.max_body_bytes)
    call = chat_endpoint.parse(body, req, failover.settings)
    return await relay.unless_hung_up(req, chat_endpoint.respond(failover, call))
