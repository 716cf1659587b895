"""The functions: Azure OpenAI behind HTTP endpoints, with no key in anyone's hands."""

import os

import azure.functions as func
from azurefunctions.extensions.http.fastapi import JSONResponse, Request, Response

from shared import health, openapi, playground
from shared.callers import keys
from shared.errors import as_responses
from shared.openai_api import chat as chat_endpoint
from shared.openai_api import models, passthrough, translate
from shared.openai_api.request_body import read_body
from shared.settings import health_check_schedule
from shared.telemetry import exporters, library_loggers
from shared.upstream.failover import shared_failover
from shared.upstream.request import CHAT_COMPLETIONS, EMBEDDINGS, RESPONSES

library_loggers.quiet()
exporters.configure(os.environ)

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)

# Routes that the host lets everybody call. Most of them ask for a caller key, which the host would not know how to read.
OPEN = func.AuthLevel.ANONYMOUS
NO_STORE = {"cache-control": "no-store"}
JSON = "application/json"


@app.route(route="chat", methods=["POST"])
@as_responses
async def chat(req: Request) -> Response:
    """A prompt or a conversation in, a reply out: JSON, or a stream of events with `"stream": true`."""
    failover = shared_failover()
    body = await read_body(req, failover.settings)
    call = chat_endpoint.parse(body, req, failover.settings)
    return await passthrough.unless_hung_up(req, chat_endpoint.respond(failover, call))


@app.route(route="v1/chat/completions", methods=["POST"], auth_level=OPEN)
@as_responses
async def chat_completions(req: Request) -> Response:
    return await create(req, CHAT_COMPLETIONS)


@app.route(route="v1/embeddings", methods=["POST"], auth_level=OPEN)
@as_responses
async def embeddings(req: Request) -> Response:
    return await create(req, EMBEDDINGS)


@app.route(route="v1/responses", methods=["POST"], auth_level=OPEN)
@as_responses
async def responses(req: Request) -> Response:
    return await create(req, RESPONSES)


@app.route(route="v1/responses/{id}", methods=["GET", "DELETE"], auth_level=OPEN)
@as_responses
async def stored_response(req: Request) -> Response:
    return await about_stored_response(req)


@app.route(route="v1/responses/{id}/cancel", methods=["POST"], auth_level=OPEN)
@as_responses
async def stored_response_cancel(req: Request) -> Response:
    return await about_stored_response(req, "cancel")


@app.route(route="v1/responses/{id}/input_items", methods=["GET"], auth_level=OPEN)
@as_responses
async def stored_response_input_items(req: Request) -> Response:
    return await about_stored_response(req, "input_items")


@app.route(route="v1/models", methods=["GET"], auth_level=OPEN)
@as_responses
async def model_list(req: Request) -> Response:
    settings = shared_failover().settings
    keys.caller_of(req, settings)
    return Response(models.listing(settings), media_type=JSON)


@app.route(route="v1/models/{id}", methods=["GET"], auth_level=OPEN)
@as_responses
async def model(req: Request) -> Response:
    settings = shared_failover().settings
    keys.caller_of(req, settings)
    return Response(models.model(req.path_params["id"], settings), media_type=JSON)


# The addresses at which the SDK's AzureOpenAI client calls.


@app.route(route="openai/deployments/{deployment}/chat/completions", methods=["POST"], auth_level=OPEN)
@as_responses
async def azure_chat_completions(req: Request) -> Response:
    return await create(req, CHAT_COMPLETIONS, req.path_params["deployment"])


@app.route(route="openai/deployments/{deployment}/embeddings", methods=["POST"], auth_level=OPEN)
@as_responses
async def azure_embeddings(req: Request) -> Response:
    return await create(req, EMBEDDINGS, req.path_params["deployment"])


@app.route(route="openai/responses", methods=["POST"], auth_level=OPEN)
@as_responses
async def azure_responses(req: Request) -> Response:
    return await create(req, RESPONSES)


@app.route(route="openai/responses/{id}", methods=["GET", "DELETE"], auth_level=OPEN)
@as_responses
async def azure_stored_response(req: Request) -> Response:
    return await about_stored_response(req)


@app.route(route="openai/responses/{id}/cancel", methods=["POST"], auth_level=OPEN)
@as_responses
async def azure_stored_response_cancel(req: Request) -> Response:
    return await about_stored_response(req, "cancel")


@app.route(route="openai/responses/{id}/input_items", methods=["GET"], auth_level=OPEN)
@as_responses
async def azure_stored_response_input_items(req: Request) -> Response:
    return await about_stored_response(req, "input_items")


async def create(req: Request, operation: str, named: str | None = None) -> Response:
    """Passes a request in OpenAI's wire format on to a deployment, the one `named` or the body's, and the answer back."""
    failover = shared_failover()
    caller = keys.caller_of(req, failover.settings)
    body = await read_body(req, failover.settings)
    call = translate.creation(operation, body, req, failover.settings, caller, named)
    return await passthrough.unless_hung_up(req, passthrough.respond(failover, call))


async def about_stored_response(req: Request, part: str = "") -> Response:
    """Passes a request about a response that Azure has stored on, and the answer back."""
    failover = shared_failover()
    caller = keys.caller_of(req, failover.settings)
    call = translate.stored_response(req, caller, part)
    await read_body(req, failover.settings)
    return await passthrough.unless_hung_up(req, passthrough.respond(failover, call))


@app.route(route="playground", methods=["GET"], auth_level=OPEN)
async def playground_page(req: Request) -> Response:
    """A page to chat in a browser; what it calls asks for a caller key, if the app does."""
    content, headers = playground.page()
    return Response(content, headers=headers)


@app.route(route="openapi.json", methods=["GET"], auth_level=OPEN)
async def openapi_json(req: Request) -> Response:
    """This API, described for tools."""
    return JSONResponse(openapi.description(req.url.path))


@app.route(route="health/live", methods=["GET"], auth_level=OPEN)
async def health_live(req: Request) -> Response:
    """Whether the process answers at all; looks at nothing else."""
    return JSONResponse({"status": "alive"}, headers=NO_STORE)


@app.route(route="health/ready", methods=["GET"], auth_level=OPEN)
@as_responses
async def health_ready(req: Request) -> Response:
    """Whether chats work, in one word that strangers may see."""
    report = await health.report()
    return JSONResponse({"status": report.status}, 200 if report.works else 503, NO_STORE)


@app.route(route="health", methods=["GET"])
@as_responses
async def health_detail(req: Request) -> Response:
    """The same for operators: what each endpoint's state is, and what to do about it."""
    report = await health.report()
    return JSONResponse(report.details(), 200 if report.works else 503, NO_STORE)


@app.timer_trigger(schedule=health_check_schedule(os.environ), arg_name="timer")
async def health_probe(timer: func.TimerRequest) -> None:
    """Notices trouble when nobody calls. Its instance is its own: the HTTP functions never see what it finds."""
    health.shared_watch().note(await health.report())
