"""`python -m local`: serves the app as `func start` does, without Core Tools; with no settings at all if need be."""

import argparse
import asyncio
import json
import os
import signal
import sys
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Any

from local import terminal
from local.app_settings import LocalSettings, add_host_settings
from local.host import cors
from local.host.keys import Keys
from local.host.server import Host
from local.host.worker import Worker, WorkerError
from local.serving import Servers, reserve
from local.simulator.start import simulate
from shared.errors import SettingsError
from shared.settings import Settings
from shared.settings.reader import SettingsReader

APP_ROOT = Path(__file__).parent.parent
DEFAULT_PORT = 7071
# How lines begin about settings that must be fixed.
ERROR = "Error:    "
# How the settings begin that decide where answers come from.
SETTINGS_BEGIN = ("AZURE_OPENAI_", "AUTHENTICATION", "AZURE_CLIENT_ID")


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    options.add_argument(
        "-p", "--port", type=port_number, help=f"where to listen; 0 takes any free port (default {DEFAULT_PORT})"
    )
    options.add_argument("--enable-auth", action="store_true", help="ask for function keys, as Azure does, and print them")
    options.add_argument("--cors", metavar="ORIGINS", help="origins that pages may call from, separated by commas; * is any")
    options.add_argument("--ask", metavar="PROMPT", help="after the start, send PROMPT to /api/chat and print the stream")
    model = options.add_mutually_exclusive_group()
    model.add_argument(
        "--identity", action="store_true", help="AUTHENTICATION=AZURE, against stand-ins for Azure OpenAI and its tokens"
    )
    model.add_argument(
        "--no-simulator", action="store_true", help="never start a stand-in: unset settings then show as they would in Azure"
    )
    return options


def port_number(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 65535")
    return int(text)


async def serve(options: argparse.Namespace, stop: asyncio.Event) -> int:
    """Runs all parts until `stop` is set; returns the exit status."""
    local_settings = LocalSettings.read(APP_ROOT / "local.settings.json")
    port = local_settings.host.get("LocalHttpPort", DEFAULT_PORT) if options.port is None else options.port
    try:
        # Held from here on: the runtime takes a free port as well, before this one is listened on.
        reserved = reserve(port)
    except OSError:
        print(
            f"Port {port} is unavailable. Close the process using that port, or specify another port using --port "
            '(with make: make start ARGS="--port 8080").',
            file=sys.stderr,
        )
        return 1
    port = reserved.getsockname()[1]
    lines = [f"Runtime:   azure-functions-runtime {version('azure-functions-runtime')} on Python {sys.version.split()[0]}"]
    lines += environment(local_settings, port)
    host_json = json.loads((APP_ROOT / "host.json").read_text())
    terminal.log_as_the_host_does(host_json)
    async with Servers() as servers:
        servers.enter_context(reserved)
        lines += await upstream(options, servers)
        worker = Worker(APP_ROOT)
        try:
            await worker.start()
        except WorkerError as exc:
            print(*lines, sep="\n")
            print(f"The app could not be loaded. {exc}", file=sys.stderr)
            return 1
        prefix = host_json.get("extensions", {}).get("http", {}).get("routePrefix", "api")
        host = Host(worker, prefix, os.environ, Keys(worker.functions) if options.enable_auth else None)
        await servers.start(host.application(cors_of(options.cors, local_settings.host)), reserved)
        chat_page = host.template("playground_page")
        if chat_page:
            print(f"Chat page: http://localhost:{port}/{chat_page}\n")
        print(*lines, sep="\n")
        terminal.print_functions(host, port)
        # Again, as they may have scrolled away.
        print(*(line for line in lines if line.startswith(ERROR)), "Ctrl-C stops.", "", sep="\n", flush=True)
        asking = asyncio.create_task(terminal.ask(port, host, options.ask)) if options.ask else None
        await stop.wait()
        if asking:
            asking.cancel()
        worker.stop()
    print("\nStopped.")
    return 0


def environment(local_settings: LocalSettings, port: int) -> list[str]:
    """Puts into the environment what Core Tools would; returns what to tell about it."""
    # Over what local.settings.json says, so before it.
    if not os.environ.get("AZURE_FUNCTIONS_ENVIRONMENT"):
        os.environ["AZURE_FUNCTIONS_ENVIRONMENT"] = "Development"
    inherited = [name for name, value in os.environ.items() if value and name.startswith(SETTINGS_BEGIN)]
    lines = [f"Settings:  {', '.join(inherited)} from the process environment"] if inherited else []
    local_settings.add_to(os.environ)
    add_host_settings(os.environ, APP_ROOT, port)
    lines += [f"{ERROR} {local_settings.problem}"] if local_settings.problem else []
    return lines + [f"Settings:  {message}" for message in local_settings.messages]


def cors_of(option: str | None, host: dict[str, Any]) -> cors.Allowed | None:
    origins = option or host.get("CORS")
    return cors.Allowed(tuple(origins.split(",")), bool(host.get("CORSCredentials"))) if origins else None


async def upstream(options: argparse.Namespace, servers: Servers) -> list[str]:
    """Starts stand-ins where they are wanted; returns what to tell about the settings and where answers come from."""
    settings = SettingsReader(os.environ)
    endpoint = settings.text("AZURE_OPENAI_ENDPOINT")
    lines = [f"Model:     {endpoint or 'none: AZURE_OPENAI_ENDPOINT is not set'}"]
    if options.identity or not (endpoint or options.no_simulator):
        reason = "--identity" if options.identity else "no AZURE_OPENAI_ENDPOINT is set"
        lines = [f"Settings:  made up for the stand-ins ({reason})"]
        lines += await simulate(os.environ, settings, servers, identity=options.identity)
    used = [name for name in settings.file if not os.environ.get(name)]
    if used:
        lines.insert(0, f"Settings:  {', '.join(used)} from {settings.dotenv.name}")
    try:
        found = Settings.from_env(os.environ)
        lines += [f"Warning:   {warning}" for warning in found.warnings]
        lines.append(f"Callers:   {terminal.callers(found)}")
    except SettingsError as exc:
        lines += [f"{ERROR} {name} {problem}" for name, problem in exc.problems.items()]
    return lines


def main() -> int:
    """Runs the loop in a thread of its own: on the main thread, the runtime's HTTP server would take over Ctrl-C."""
    options = parser().parse_args()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    status: list[int] = []

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            status.append(runner.run(serve(options, stop)))

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return status[0] if status else 1


if __name__ == "__main__":
    sys.exit(main())
