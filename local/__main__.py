"""Run the app on this machine as `func start` does, without Core Tools and, if need be, without any settings."""

import argparse
import asyncio
import os
import signal
import sys
import threading
from importlib.metadata import version
from pathlib import Path

from local import terminal
from local.app_settings import DEFAULT_PORT, MAX_PORT, HostJson, LocalSettings, set_host_variables
from local.host.cors import CorsPolicy
from local.host.kestrel import KestrelProtocol
from local.host.keys import Keys
from local.host.server import Host
from local.host.worker import Worker, WorkerError
from local.serving import Servers, reserve
from local.simulator.start import start_entra, start_simulators
from local.simulator.tokens import TokenIssuer
from shared.errors import SettingsError
from shared.settings import Settings
from shared.settings.reader import SettingsReader

APP_ROOT = Path(__file__).parent.parent
# The beginning of each line about invalid settings.
ERROR = "Error:    "
# The prefixes of the settings that decide which model the app calls.
MODEL_SETTINGS = ("AZURE_OPENAI_", "AUTHENTICATION", "AZURE_CLIENT_ID")


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    options.add_argument(
        "-p", "--port", type=port_number, help=f"port to listen on; 0 picks a free one (default {DEFAULT_PORT})"
    )
    options.add_argument("--enable-auth", action="store_true", help="require function keys, as Azure does, and print them")
    options.add_argument("--cors", metavar="ORIGINS", help="comma-separated origins that may call the app; * allows any")
    options.add_argument("--ask", metavar="PROMPT", help="after the start, send PROMPT to /api/chat and print the stream")
    model = options.add_mutually_exclusive_group()
    model.add_argument(
        "--identity", action="store_true", help="simulate Azure OpenAI and a managed identity (AUTHENTICATION=AZURE)"
    )
    model.add_argument(
        "--no-simulator", action="store_true", help="do not simulate Azure OpenAI; missing settings are errors, as in Azure"
    )
    options.add_argument(
        "--entra", action="store_true", help="simulate Entra ID, require its tokens of callers, and print a call with one"
    )
    return options


def port_number(text: str) -> int:
    if not text.isdecimal() or int(text) > MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to {MAX_PORT}")
    return int(text)


async def serve(options: argparse.Namespace, stop: asyncio.Event) -> int:
    """Run everything until `stop` is set, and return the exit status."""
    try:
        host_json = HostJson.read(APP_ROOT / "host.json")
    except ValueError as exc:
        print(exc, file=sys.stderr)
        return 1
    local_settings = LocalSettings.read(APP_ROOT / "local.settings.json")
    port = local_settings.port if options.port is None else options.port
    try:
        # Reserve the port now: the runtime picks a free port before the host listens, and could pick this one.
        reserved = reserve(port)
    except OSError:
        if local_settings.problem:
            # The file may name another port.
            print(ERROR, local_settings.problem, file=sys.stderr)
        print(
            f"Port {port} is unavailable. Close the process using that port, or specify another port using --port "
            '(with make: make start ARGS="--port 8080").',
            file=sys.stderr,
        )
        return 1
    port = reserved.getsockname()[1]
    lines = [f"Runtime:   azure-functions-runtime {version('azure-functions-runtime')} on Python {sys.version.split()[0]}"]
    lines += set_environment(local_settings, port)
    terminal.configure_logging(host_json.log_level)
    async with Servers() as servers:
        servers.enter_context(reserved)
        issuer = TokenIssuer()
        lines += await configure_model(options, servers, issuer)
        worker = Worker(APP_ROOT)
        try:
            await worker.start()
        except WorkerError as exc:
            print(*lines, sep="\n")
            print(f"The app could not be loaded. {exc}", file=sys.stderr)
            return 1
        host = Host(worker, host_json.route_prefix, os.environ, Keys(worker.functions) if options.enable_auth else None)
        await servers.start(host.application(cors_policy(options.cors, local_settings)), reserved, KestrelProtocol)
        chat_page = host.path("playground_page")
        if chat_page:
            print(f"Chat page: http://localhost:{port}/{chat_page}\n")
        print(*lines, sep="\n")
        terminal.print_functions(host, port)
        if options.entra:
            terminal.print_call_with_token(host, port, issuer, with_identity=options.identity)
        # Repeat the errors, since the list of functions may have scrolled them off the screen.
        print(*(line for line in lines if line.startswith(ERROR)), "Ctrl-C stops.", "", sep="\n", flush=True)
        asking = asyncio.create_task(terminal.ask(port, host, options.ask)) if options.ask else None
        await stop.wait()
        if asking:
            asking.cancel()
        worker.stop()
    print("\nStopped.")
    return 0


def set_environment(local_settings: LocalSettings, port: int) -> list[str]:
    """Set the environment variables that Core Tools would set, and return lines for the terminal."""
    # Set this first: it takes precedence over local.settings.json.
    if not os.environ.get("AZURE_FUNCTIONS_ENVIRONMENT"):
        os.environ["AZURE_FUNCTIONS_ENVIRONMENT"] = "Development"
    inherited = [name for name, value in os.environ.items() if value and name.startswith(MODEL_SETTINGS)]
    lines = [f"Settings:  {', '.join(inherited)} from the process environment"] if inherited else []
    local_settings.add_to(os.environ)
    set_host_variables(os.environ, APP_ROOT, port)
    lines += [f"{ERROR} {local_settings.problem}"] if local_settings.problem else []
    return lines + [f"Settings:  {message}" for message in local_settings.messages]


def cors_policy(option: str | None, local_settings: LocalSettings) -> CorsPolicy | None:
    origins = option or local_settings.cors
    return CorsPolicy(tuple(origins.split(",")), local_settings.cors_credentials) if origins else None


async def configure_model(options: argparse.Namespace, servers: Servers, issuer: TokenIssuer) -> list[str]:
    """Start the simulators if they are needed, and return lines for the terminal about the settings and the model."""
    settings = SettingsReader(os.environ)
    endpoint = settings.text("AZURE_OPENAI_ENDPOINT")
    problem = settings.problems.get("AZURE_OPENAI_ENDPOINT")
    # First, because the simulator of Azure OpenAI gets its deployments from settings that are complete.
    entra = [await start_entra(os.environ, settings, servers, issuer)] if options.entra else []
    lines = [f"Model:     {endpoint or f'none: AZURE_OPENAI_ENDPOINT {problem or "is not set"}'}"]
    if options.identity or not (endpoint or problem or options.no_simulator):
        reason = "--identity" if options.identity else "AZURE_OPENAI_ENDPOINT is not set"
        lines = [f"Settings:  made up for the simulators ({reason})"]
        lines += await start_simulators(os.environ, settings, servers, issuer, identity=options.identity)
    lines += entra
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
    """Run the event loop in a thread: on the main thread, the runtime's HTTP server would handle Ctrl-C itself."""
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
