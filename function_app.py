"""Declare the functions: Azure OpenAI behind HTTP endpoints, with no key in anyone's hands."""

import os

import azure.functions as func
from azurefunctions.extensions.http.fastapi import JSONResponse, Request, Response

from shared import health, openapi, playground
from shared.callers.identify import CHAT
from shared.error_responses import as_responses
from shared.gateway import health_report, shared_gateway
from shared.openai_api import router, simple_chat
from shared.settings import health_check_schedule
from shared.telemetry import exporters, library_loggers
from shared.web_server import forward_everything

library_loggers.quiet()
exporters.configure(os.environ)
forward_everything()

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)

# The host lets everybody call a route of this level.
OPEN = func.AuthLevel.ANONYMOUS
NO_STORE = {"cache-control": "no-store"}


@app.route(route="chat", methods=["POST"])
@as_responses
async def chat(req: Request) -> Response:
    """Reply to a prompt or a conversation, as JSON or, with `"stream": true`, as a stream of events."""
    return await simple_chat.create_chat(req, shared_gateway().failover, CHAT)


@app.route(route="v1/{*path}", methods=router.METHODS, auth_level=OPEN)
@as_responses
async def openai_api(req: Request) -> Response:
    """Serve the OpenAI API to OpenAI's clients. The app checks the caller, because the host checks only function keys."""
    return await serve(req, "v1")


@app.route(route="openai/{*path}", methods=router.METHODS, auth_level=OPEN)
@as_responses
async def azure_openai_api(req: Request) -> Response:
    """Serve the OpenAI API at the paths of Azure OpenAI, those of v1 and those of dated versions."""
    return await serve(req, "openai")


async def serve(req: Request, root: str) -> Response:
    """Serve a request below `root`. OPTIONS needs no caller, and works without settings."""
    if req.method == "OPTIONS":
        return router.options(req, root)
    gateway = shared_gateway()
    return await router.serve(req, root, gateway.failover, gateway.callers.caller_of)


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
