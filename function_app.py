"""The functions: Azure OpenAI behind HTTP endpoints, with no key in anyone's hands."""

import os

import azure.functions as func
from azurefunctions.extensions.http.fastapi import JSONResponse, Request, Response

from shared import chat as chat_endpoint
from shared import health, inference, logs, relay
from shared.errors import as_responses
from shared.failover import shared_failover
from shared.settings import health_check_schedule

logs.quiet()

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)

NO_STORE = {"cache-control": "no-store"}


@app.route(route="chat", methods=["POST"])
@as_responses
async def chat(req: Request) -> Response:
    """A prompt or a conversation in, a reply out: JSON, or a stream of events with `"stream": true`."""
    failover = shared_failover()
    body = await inference.read_body(req, failover.settings.max_body_bytes)
    call = chat_endpoint.parse(body, req, failover.settings)
    return await relay.unless_hung_up(req, chat_endpoint.respond(failover, call))


@app.route(route="health/live", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def health_live(req: Request) -> Response:
    """Whether the process answers at all; looks at nothing else."""
    return JSONResponse({"status": "alive"}, headers=NO_STORE)


@app.route(route="health/ready", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
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
