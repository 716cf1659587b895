"""Define a function app that shows what the host does. `host_app` in local_host.py runs it instead of this project's app."""

import asyncio
import os
from collections.abc import AsyncIterator

import azure.functions as func
from azurefunctions.extensions.http.fastapi import JSONResponse, Request, Response, StreamingResponse
from fastapi import HTTPException
from uvicorn.config import WS_PROTOCOLS

# If a WebSocket library is installed, the runtime's server would respond by itself to a client that asks for a WebSocket.
WS_PROTOCOLS["auto"] = None

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.route(route="echo/{first?}", methods=["GET", "POST"])
async def echo(req: Request, context: func.Context) -> Response:
    return JSONResponse(
        {
            "method": req.method,
            "parameters": req.path_params,
            "path": req.scope["raw_path"].decode(),
            "query": req.scope["query_string"].decode(),
            "headers": [(name.decode(), value.decode()) for name, value in req.headers.raw],
            "url": str(req.url),
            "client": req.client.host if req.client else None,
            "body": len(await req.body()),
            "trace": context.trace_context.Traceparent,
            "invocation": context.invocation_id,
        }
    )


@app.route(route="environ", methods=["GET"])
async def environ(req: Request) -> Response:
    return JSONResponse(dict(os.environ))


@app.route(route="invocations", methods=["GET"])
async def invocations(req: Request) -> Response:
    """Return how many invocations the host waits for, including this one."""
    coroutines = (task.get_coro() for task in asyncio.all_tasks())
    return JSONResponse(sum("Worker.invoke" in str(coroutine) for coroutine in coroutines))


@app.route(route="order/{x}", methods=["GET"])
async def a_parameter(req: Request) -> Response:
    return Response("parameter")


@app.route(route="order/literal", methods=["GET"])
async def b_literal(req: Request) -> Response:
    return Response("literal")


@app.route(route="number/{id:int}", methods=["GET"])
async def number(req: Request) -> Response:
    return JSONResponse(req.path_params)


@app.route(route="rest/{*path}", methods=["GET"])
async def rest(req: Request) -> Response:
    return JSONResponse(req.path_params)


@app.route()
async def unrouted(req: Request) -> Response:
    return Response(req.method)


@app.route(route="administer", methods=["GET"])
async def reserved(req: Request) -> Response:
    return Response("never")


@app.route(route="twin", methods=["GET", "POST"])
async def twin_a(req: Request) -> Response:
    return Response("a")


@app.route(route="Twin", methods=["POST"])
async def twin_b(req: Request) -> Response:
    return Response("b")


@app.route(route="secured", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
async def secured(req: Request) -> Response:
    return JSONResponse({"header": req.headers.get("x-functions-key"), "code": req.query_params.get("code")})


@app.route(route="master_only", methods=["GET"], auth_level=func.AuthLevel.ADMIN)
async def master_only(req: Request) -> Response:
    return Response("admin")


@app.route(route="switched_off", methods=["GET"])
async def switched_off(req: Request) -> Response:
    return Response("on")


@app.route(route="fail", methods=["GET"])
async def fail(req: Request) -> Response:
    raise ValueError("scripted failure")


@app.route(route="reject", methods=["GET"])
async def reject(req: Request) -> Response:
    raise HTTPException(418, "scripted rejection")


@app.route(route="headers", methods=["GET"])
async def headers(req: Request) -> Response:
    dropped = {"alt-svc": "h3", "proxy-authenticate": "Basic", "keep-alive": "timeout=5"}
    return Response("", headers={**dropped, "x-kept": "yes", "set-cookie": "a=b"})


@app.route(route="stream/{kind}", methods=["GET"])
async def stream(req: Request) -> Response:
    return StreamingResponse(chunks(req.path_params["kind"]), media_type="text/plain")


async def chunks(kind: str) -> AsyncIterator[bytes]:
    try:
        yield b"first"
        if kind == "broken":
            raise ValueError("scripted interruption")
        await asyncio.sleep(0.3 if kind == "short" else 3600)
        yield b"last"
    except asyncio.CancelledError:
        print("the stream was cancelled", flush=True)
        raise


@app.route(route="wait", methods=["GET"])
async def wait(req: Request) -> Response:
    print("waiting", flush=True)
    while (await req.receive())["type"] != "http.disconnect":
        pass
    print("the client disconnected", flush=True)
    return Response("nobody receives this")


@app.timer_trigger(schedule="*/2 * * * * *", arg_name="timer")
async def often(timer: func.TimerRequest) -> None:
    print(f"often {timer.schedule_status} {timer.past_due}", flush=True)


@app.timer_trigger(schedule="* * * * * *", arg_name="timer")
async def slow(timer: func.TimerRequest) -> None:
    await asyncio.sleep(2.2)


@app.timer_trigger(schedule="00:00:01", arg_name="timer")
async def every_second(timer: func.TimerRequest) -> None:
    raise ValueError("scripted failure every second")


@app.timer_trigger(schedule="%SCHEDULE%", arg_name="timer", run_on_startup=True)
async def seldom(timer: func.TimerRequest) -> None:
    print(f"seldom {timer.schedule_status} {timer.schedule}", flush=True)


@app.timer_trigger(schedule="1.00:00:00", arg_name="timer")
async def failing(timer: func.TimerRequest) -> None:
    raise ValueError("scripted failure at that time")


@app.timer_trigger(schedule="0 0 9 * * *", arg_name="timer", use_monitor=False)
async def unmonitored(timer: func.TimerRequest) -> None:
    print(f"unmonitored {timer.schedule_status}", flush=True)


@app.timer_trigger(schedule="every now and then", arg_name="timer")
async def unreadable(timer: func.TimerRequest) -> None:
    print("never", flush=True)


@app.timer_trigger(schedule="%UNSET%", arg_name="timer")
async def unresolved(timer: func.TimerRequest) -> None:
    print("never", flush=True)
