"""Print to the terminal: log records, the list of functions, and a first chat."""

import json
import logging
import os
import shlex
import sys
import time

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from local.app_settings import LOG_LEVELS
from local.host.server import Host
from local.simulator.tokens import TokenIssuer
from shared.settings import Settings


def configure_logging(level: str) -> None:
    """Print log records as the host does: those of the app from host.json's `level`, the runtime's from Warning."""
    level = os.environ.get("AzureFunctionsJobHost__logging__logLevel__default") or level
    handler = logging.StreamHandler(sys.stdout)
    handler.setLevel(LOG_LEVELS.get(level.title(), logging.INFO))
    formatter = logging.Formatter("[%(asctime)s.%(msecs)03dZ] %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or not record.name.startswith("azure.functions"))
    # A malformed request gets 400. It is the client's error, so drop the stack trace that aiohttp logs.
    logging.getLogger("aiohttp.server").addFilter(
        lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
    )
    debug = os.environ.get("PYTHON_ENABLE_DEBUG_LOGGING") == "1"
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[handler])


def callers(settings: Settings) -> str:
    """Return a phrase that says who may call the OpenAI-compatible routes."""
    ways = []
    if settings.caller_keys:
        ways.append(f"with the key of {', '.join(sorted({key.name for key in settings.caller_keys}))} (CALLER_KEYS)")
    if entra := settings.entra:
        ways.append(f"with a token for {' or '.join(entra.audiences)} and the role {entra.role} (CALLER_AUDIENCE)")
    if ways:
        return ", or ".join(ways)
    if settings.is_local:
        return "anybody on this machine, with any key or none; CALLER_KEYS is not set"
    return "nobody: CALLER_KEYS is not set, and the app seems to run in Azure"


def print_functions(host: Host, port: int) -> None:
    for name, error in host.function_errors.items():
        print(f"\nThe '{name}' function is in error: {error}")
    print("\nFunctions:\n")
    for route in host.routes:
        methods = f"[{','.join(route.methods)}]" if route.methods else ""
        print(f"\t{route.function.name}: {methods} http://localhost:{port}/{route.template}")
    for timer in host.timers.values():
        print(f"\t{timer.function.name}: timerTrigger")
    if host.keys:
        print("\nKeys:\n")
        for name, key in {"master": host.keys.master, "all functions": host.keys.host, **host.keys.of_function}.items():
            print(f"\tx-functions-key: {key} ({name})")
    print()


def print_call_with_token(host: Host, port: int, issuer: TokenIssuer, *, with_identity: bool) -> None:
    """Print a call with a token of `issuer` and, `with_identity`, how programs get tokens from the simulated identity."""
    url = f"http://localhost:{port}/{host.path('openai_api')}".replace("{*path}", "chat/completions")
    body = json.dumps({"messages": [{"role": "user", "content": "Hello"}]})
    print("With a token that is valid for an hour:\n")
    print(f"\tcurl {url} -H {shlex.quote(f'Authorization: Bearer {issuer.mint(1)}')} -d {shlex.quote(body)}\n")
    if with_identity:
        endpoint, header = os.environ["IDENTITY_ENDPOINT"], os.environ["IDENTITY_HEADER"]
        print(f"With tokens that azure-identity gets for the scope {issuer.audience}/.default:\n")
        print(f"\texport IDENTITY_ENDPOINT={endpoint} IDENTITY_HEADER={header}\n")


async def ask(port: int, host: Host, prompt: str) -> None:
    """Send one chat to the app, and print the stream as `curl -N` does."""
    url = f"http://localhost:{port}/{host.path('chat')}"
    body = json.dumps({"prompt": prompt, "stream": True}, ensure_ascii=False)
    headers = {"x-functions-key": host.keys.host} if host.keys else {}
    key = f" -H {shlex.quote(f'x-functions-key: {host.keys.host}')}" if host.keys else ""
    print(f"$ curl -N {url}{key} -d {shlex.quote(body)}", flush=True)
    reports_error = False
    try:
        async with aiohttp.ClientSession() as session, session.post(url, data=body.encode(), headers=headers) as response:
            async for line in response.content:
                print(line.decode(), end="", flush=True)
                reports_error = reports_error or line.startswith(b'data: {"error"')
    except aiohttp.ClientError as exc:
        # After an error event, the app leaves the response unfinished.
        if not reports_error:
            print(f"The response was interrupted: {exc}")
    page = host.path("playground_page")
    print(f"\nChat page: http://localhost:{port}/{page}    Ctrl-C stops.\n" if page else "", flush=True)
