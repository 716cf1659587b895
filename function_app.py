"""Declare the functions: Azure OpenAI behind HTTP endpoints, with no key in anyone's hands."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

import azure.functions as func
from azurefunctions.extensions.http.fastapi import JSONResponse, Request, Response

from shared import health, openapi, playground
from shared.callers.identify import CHAT
from shared.error_responses import as_responses
from shared.gateway import Gateway, health_report, shared_gateway
from shared.openai_api import models, passthrough, simple_chat
from shared.settings import health_check_schedule
from shared.telemetry import exporters, library_loggers
from shared.upstream.request import CHAT_COMPLETIONS, EMBEDDINGS, RESPONSES
from shared.web_server import forward_everything

library_loggers.quiet()
exporters.configure(os.environ)
forward_everything()

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)

# The host lets everybody call a route of this level.
OPEN = func.AuthLevel.ANONYMOUS
NO_STORE = {"cache-control": "no-store"}
JSON = "application/json"

type Handler = Callable[[Request, Gateway, str], Awaitable[Response]]


def openai_route(route: str, *methods: str) -> Callable[[Handler], Any]:
    """Declare a function of the OpenAI API. It checks the caller first, because the host checks only function keys.

    The handler gets the request, the gateway and the caller's name.
    """

    def declare(handler: Handler) -> Any:
        async def function(req: Request) -> Response:
            gateway = shared_gateway()
            return await handler(req, gateway, await gateway.callers.caller_of(req))

        function.__name__ = handler.__name__
        return app.route(route=route, methods=methods, auth_level=OPEN)(as_responses(function))

    return declare


@app.route(route="chat", methods=["POST"])
@as_responses
async def chat(req: Request) -> Response:
    """Reply to a prompt or a conversation, as JSON or, with `"stream": true`, as a stream of events."""
    return await simple_chat.create_chat(req, shared_gateway().failover, CHAT)


@openai_route("v1/chat/completions", "POST")
async def chat_completions(req: Request, gateway: Gateway, caller: str) -> Response:
    return await passthrough.create(req, gateway.failover, caller, CHAT_COMPLETIONS)


@openai_route("v1/embeddings", "POST")
async def embeddings(req: Request, gateway: Gateway, caller: str) -> Response:
    return await passthrough.create(req, gateway.failover, caller, EMBEDDINGS)


@openai_route("v1/responses", "POST")
async def responses(req: Request, gateway: Gateway, caller: str) -> Response:
    return await passthrough.create(req, gateway.failover, caller, RESPONSES)


@openai_route("v1/responses/{id}", "GET", "DELETE")
async def stored_response(req: Request, gateway: Gateway, caller: str) -> Response:
    return await passthrough.stored_response(req, gateway.failover, caller)


@openai_route("v1/responses/{id}/cancel", "POST")
async def stored_response_cancel(req: Request, gateway: Gateway, caller: str) -> Response:
    return await passthrough.stored_response(req, gateway.failover, caller, "cancel")


@openai_route("v1/responses/{id}/input_items", "GET")
async def stored_response_input_items(req: Request, gateway: Gateway, caller: str) -> Response:
    return await passthrough.stored_response(req, gateway.failover, caller, "input_items")


@openai_route("v1/models", "GET", "HEAD")
async def model_list(req: Request, gateway: Gateway, caller: str) -> Response:
    return Response(models.list_models(gateway.settings), media_type=JSON)


@openai_route("v1/models/{id}", "GET", "HEAD")
async def model(req: Request, gateway: Gateway, caller: str) -> Response:
    return Response(models.retrieve_model(models.name_in_path(req, "id"), gateway.settings), media_type=JSON)


# The paths of the SDK's AzureOpenAI client.


@openai_route("openai/deployments/{deployment}/chat/completions", "POST")
async def azure_chat_completions(req: Request, gateway: Gateway, caller: str) -> Response:
    return await passthrough.create(req, gateway.failover, caller, CHAT_COMPLETIONS, models.name_in_path(req, "deployment"))


@openai_route("openai/deployments/{deployment}/embeddings", "POST")
async def azure_embeddings(req: Request, gateway: Gateway, caller: str) -> Response:
    return await passthrough.create(req, gateway.failover, caller, EMBEDDINGS, models.name_in_path(req, "deployment"))


@openai_route("openai/responses", "POST")
async def azure_responses(req: Request, gateway: Gateway, caller: str) -> Response:
    return await passthrough.create(req, gateway.failover, caller, RESPONSES)


@openai_route("openai/responses/{id}", "GET", "DELETE")
async def azure_stored_response(req: Request, gateway: Gateway, caller: str) -> Response:
    return await passthrough.stored_response(req, gateway.failover, caller)


@openai_route("openai/responses/{id}/cancel", "POST")
async def azure_stored_response_cancel(req: Request, gateway: Gateway, caller: str) -> Response:
    return await passthrough.stored_response(req, gateway.failover, caller, "cancel")


@openai_route("openai/responses/{id}/input_items", "GET")
async def azure_stored_response_input_items(req: Request, gateway: Gateway, caller: str) -> Response:
    return await passthrough.stored_response(req, gateway.failover, caller, "input_items")


@app.route(route="playground", methods=["GET", "HEAD"], auth_level=OPEN)
async def playground_page(req: Request) -> Response:
    """Serve the chat page without a key. The API that it calls checks the caller."""
    content, headers = playground.page()
    return Response(content, headers=headers)


@app.route(route="openapi.json", methods=["GET", "HEAD"], auth_level=OPEN)
async def openapi_json(req: Request) -> Response:
    """Serve the OpenAPI description of this API."""
    return JSONResponse(openapi.description(req.url.path))


@app.route(route="health/live", methods=["GET", "HEAD"], auth_level=OPEN)
async def health_live(req: Request) -> Response:
    """Respond whenever the process runs; check nothing else."""
    return JSONResponse({"status": "alive"}, headers=NO_STORE)


@app.route(route="health/ready", methods=["GET", "HEAD"], auth_level=OPEN)
@as_responses
async def health_ready(req: Request) -> Response:
    """Report in one word, fit for the public, whether chats work."""
    report = await health_report()
    return JSONResponse({"status": report.status}, 200 if report.works else 503, NO_STORE)


@app.route(route="health", methods=["GET", "HEAD"])
@as_responses
async def health_detail(req: Request) -> Response:
    """Report the state of each endpoint, and what the operator can do about it."""
    report = await health_report()
    return JSONResponse(report.details(), 200 if report.works else 503, NO_STORE)


watch = health.Watch()


@app.timer_trigger(schedule=health_check_schedule(os.environ), arg_name="timer")
async def health_probe(timer: func.TimerRequest) -> None:
    """Check the endpoints even without calls. HTTP functions do not see the report: timers have instances of their own."""
    watch.note(await health_report())
