"""Test `python -m local` as a user runs it: its output, the sources of its settings, and how it ends."""

import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx2
import jwt
import pytest
from azure.identity import ManagedIdentityCredential

from local.simulator.tokens import TENANT_ID
from shared.settings import SET_BY_AZURE
from tests.support.processes import PROJECT, TIMEOUT, LocalApp, copy_app, local_app, settings_for, start_local

# Besides the settings, shared/settings reads these, to find out whether the app runs in Azure.
SET_BY_HOSTS = ("AZURE_FUNCTIONS_ENVIRONMENT", *SET_BY_AZURE)


def test_functions_are_printed_as_func_start_prints_them(app: LocalApp) -> None:
    port = app.url.rpartition(":")[2]
    assert "\nFunctions:\n\n\tazure_openai_api: " in app.output
    methods = "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
    assert f"\n\topenai_api: [{methods}] http://localhost:{port}/api/v1/{{*path}}\n" in app.output
    assert f"\n\tchat: [POST] http://localhost:{port}/api/chat\n" in app.output
    assert "made up for the simulators (AZURE_OPENAI_ENDPOINT is not set)" in app.output
    assert re.search(r"simulator of Azure OpenAI at http://127\.0\.0\.1:\d+; it replies without a model", app.output)


def test_the_url_of_the_chat_page_comes_first(folder: Path) -> None:
    with local_app(folder, PYTHONDEVMODE="") as app:
        first = app.output.splitlines()[0]
        assert first == f"Chat page: http://localhost:{app.port}/api/playground"
        assert app.http.get("/api/playground").status_code == 200


def test_invocations_are_logged_as_the_host_logs_them(app: LocalApp) -> None:
    app.chat({"prompt": "Hello"})
    stamp = r"\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\]"
    assert re.search(stamp + r" Executing 'Functions\.chat' \(Reason='This function was programmatically called", app.output)
    app.wait_for("Executed 'Functions.chat' (Succeeded, Id=")


def test_ask_prints_a_streamed_reply(folder: Path) -> None:
    process = start_local(copy_app(folder), "--port", "0", "--ask", "What's up?")
    app = LocalApp(process)
    try:
        app.wait_for("data: [DONE]")
        assert "$ curl -N http://localhost:" in app.output
        assert app.output.count('data: {"delta":') > 5
        reply = "".join(json.loads(delta)["delta"] for delta in re.findall(r'data: (\{"delta":.*\})', app.output))
        assert "“What's up?”" in reply
    finally:
        assert app.stop() == 0


def test_ask_prints_the_error_of_an_interrupted_stream_and_no_other(app: LocalApp, folder: Path) -> None:
    settings = settings_for(app)
    app.model.script({"reply": "one and two", "cut": 1})
    asking = LocalApp(start_local(copy_app(folder), "--port", "0", "--ask", "Hello", **settings))
    try:
        asking.wait_for('"code":"stream_broken"')
        asking.wait_for("    Ctrl-C stops.")
        assert "The response was interrupted" not in asking.output
    finally:
        asking.stop()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("state", ["idle", "streaming", "waiting for a token"])
def test_a_signal_stops_it_and_leaves_no_process_and_no_open_port(folder: Path, number: signal.Signals, state: str) -> None:
    app = LocalApp(start_local(copy_app(folder), "--port", "0", "--identity"))
    with app.connection() as client:
        if state == "idle":
            # A response shows that the connection is accepted: asyncio fails if one arrives while it stops listening.
            client.sendall(b"GET /api/health/live HTTP/1.1\r\nhost: a\r\n\r\n")
            assert client.recv(12) == b"HTTP/1.1 200"
        else:
            app.model.script({"step": True})
            app.identity.script({"hang": state == "waiting for a token", "times": 9})
            client.sendall(b'POST /api/chat HTTP/1.1\r\nhost: a\r\ncontent-length: 29\r\n\r\n{"prompt":"Hi","stream":true}')
            (app.identity if state == "waiting for a token" else app.model).journal(requests=1)
        children = Path(f"/proc/{app.process.pid}/task/{app.process.pid}/children")
        assert children.read_text() == ""
        assert app.stop(number) == (-number if number == signal.SIGKILL else 0)
    if number != signal.SIGKILL:
        # On a slow machine, asyncio's development mode may report the last step after it.
        assert "\nStopped.\n" in app.output
        assert "Traceback" not in app.output
    for url in (app.url, app.model.url, app.identity.url):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))


@pytest.mark.parametrize("seconds", [0.1, 0.6, 1.2])
def test_it_can_be_stopped_while_it_starts(folder: Path, seconds: float) -> None:
    process = start_local(copy_app(folder), "--port", "0", "--ask", "Hello")
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.terminate()
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode in (0, -signal.SIGTERM), output


def test_it_can_be_stopped_while_it_waits_for_the_reply_to_ask(app: LocalApp, folder: Path) -> None:
    settings = settings_for(app)
    app.model.script({"hang": True})
    asking = LocalApp(start_local(copy_app(folder), "--port", "0", "--ask", "Hello", **settings))
    app.model.journal(requests=1)
    assert asking.stop() == 0
    assert app.model.journal(ended=1)[0].disconnected


def test_a_port_in_use_is_reported_in_one_line(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start_local(copy_app(folder), "--port", str(port))
        output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert output == (
        f"Port {port} is unavailable. Close the process using that port, or specify another port using --port"
        ' (with make: make start ARGS="--port 8080").\n'
    )


def test_identity_and_no_simulator_are_mutually_exclusive(folder: Path) -> None:
    process = start_local(copy_app(folder), "--identity", "--no-simulator")
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 2
    assert "not allowed with" in output


def test_entra_prints_a_call_with_a_token_that_its_keys_verify(folder: Path) -> None:
    with local_app(folder, "--entra", CALLER_ROLE="Own.Role") as app:
        (call,) = re.findall(r"^\t(curl http://localhost:.*)$", app.output, re.MULTILINE)
        token = call.partition("Bearer ")[2].partition("'")[0]
        url = app.simulator("Entra ID").url
        keys = jwt.PyJWKSet.from_dict(httpx2.get(f"{url}/{TENANT_ID}/discovery/v2.0/keys").json())
        audience = f"api://{TENANT_ID}/local"
        claims = jwt.decode(token, keys[jwt.get_unverified_header(token)["kid"]], ["RS256"], audience=audience)
        assert claims["roles"] == ["Own.Role"]
        assert claims["exp"] - claims["iat"] == 3600
        run = subprocess.run(["bash", "-c", f"{call} -sS --fail"], capture_output=True, text=True, timeout=TIMEOUT)
        assert (run.returncode, run.stderr) == (0, "")
        assert json.loads(run.stdout)["choices"]
        assert "IDENTITY_ENDPOINT" not in app.output


def test_entra_and_identity_give_programs_their_own_tokens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with local_app(folder, "--entra", "--identity") as app:
        scope = re.findall(r"for the scope (\S+):$", app.output, re.MULTILINE)[0]
        for name, value in re.findall(r"(IDENTITY_\w+)=(\S+)", app.output):
            monkeypatch.setenv(name, value)
        with ManagedIdentityCredential() as credential:
            bearer = {"authorization": f"Bearer {credential.get_token(scope).token}"}
        body = {"messages": [{"role": "user", "content": "Hello"}]}
        assert app.http.post("/api/v1/chat/completions", json=body, headers=bearer).status_code == 200
        (seen,) = app.model.journal()
        assert f"Bearer {seen.token}" != bearer["authorization"]


def test_an_endpoint_in_the_settings_replaces_the_simulator(app: LocalApp, folder: Path) -> None:
    with local_app(folder, **settings_for(app)) as configured:
        assert f"Model:     {app.model.url}" in configured.output
        assert f"Settings:  {', '.join(settings_for(app))} from the process environment" in configured.output
        app.model.clear()
        assert "simulator" not in configured.output
        assert configured.chat({"prompt": "Hello"}).status_code == 200
        assert len(app.model.journal()) == 1


def test_an_endpoint_in_quotes_is_reported_and_not_replaced(folder: Path) -> None:
    with local_app(folder, AZURE_OPENAI_ENDPOINT='"https://name.openai.azure.com"') as configured:
        assert "Model:     none: AZURE_OPENAI_ENDPOINT has quotes around it; remove them\n" in configured.output
        assert configured.output.count("Error:     AZURE_OPENAI_ENDPOINT has quotes around it; remove them\n") == 2
        assert "simulator" not in configured.output


def test_settings_come_from_local_settings_json(app: LocalApp, folder: Path) -> None:
    values = {**settings_for(app), "MAX_BODY_BYTES": "200", "REQUEST_TIMEOUT_SECONDS": None, "STREAM_USAGE": True}
    copy_app(folder)
    (folder / "local.settings.json").write_text(json.dumps({"IsEncrypted": False, "Values": values}))
    configured = LocalApp(start_local(folder, "--port", "0", MAX_BODY_BYTES="100", AZURE_OPENAI_ENDPOINT=""))
    try:
        assert "Skipping 'MAX_BODY_BYTES' from local settings as it's already defined" in configured.output
        assert "Skipping 'REQUEST_TIMEOUT_SECONDS' because value is null" in configured.output
        assert "5 value(s) from local.settings.json" in configured.output
        assert configured.chat({"prompt": "Hello"}).status_code == 200
        assert configured.chat({"prompt": "a" * 150}).status_code == 413
        assert len(app.model.journal()) == 1
    finally:
        assert configured.stop() == 0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_json_files_may_have_comments_trailing_commas_and_other_types(folder: Path, encoding: str) -> None:
    local_settings = """// Do not commit this file: it has "keys".
        {"IsEncrypted": false, Values: {'MAX_BODY_BYTES': 100, /* "a // b" */ "STREAM_USAGE": true,
        "STREAM_IDLE_SECONDS": 0.50, /* last */},}
    """
    host_json = '{"version": "2.0", /* none */ "extensions": {"http": {"routePrefix": "",},},} // end'
    copy_app(folder)
    (folder / "local.settings.json").write_text(local_settings, encoding)
    (folder / "host.json").write_text(host_json, encoding)
    app = LocalApp(start_local(folder, "--port", "0"))
    try:
        assert "3 value(s) from local.settings.json" in app.output
        assert "Error:" not in app.output
        assert app.http.post("/chat", json={"prompt": "Hello"}).status_code == 200
        assert app.http.post("/chat", json={"prompt": "a" * 100}).status_code == 413
    finally:
        assert app.stop() == 0


def test_settings_also_come_from_the_dotenv_file(app: LocalApp, folder: Path) -> None:
    copy_app(folder)
    content = "".join(f"{name}={value}\n" for name, value in settings_for(app).items())
    (folder / "azureopenai.env").write_text(content)
    configured = LocalApp(start_local(folder, "--port", "0"))
    try:
        assert (
            "AZURE_OPENAI_KEY, AZURE_OPENAI_API_VERSION, AZURE_OPENAI_CHATGPT_DEPLOYMENT from azureopenai.env"
            in configured.output
        )
        assert configured.chat({"prompt": "Hello"}).status_code == 200
        assert len(app.model.journal()) == 1
    finally:
        assert configured.stop() == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not JSON", "local.settings.json is ignored, because it is not valid JSON: "),
        ('{"Host": {"LocalHttpPort": 65536}}', "Host.LocalHttpPort is not a number from 0 to 65535."),
        ('{"Values": {"STREAM_USAGE": "true"}}', "Failed to decrypt settings."),
    ],
)
def test_unusable_local_settings_are_reported(folder: Path, content: str, message: str) -> None:
    copy_app(folder)
    (folder / "local.settings.json").write_text(content)
    app = LocalApp(start_local(folder, "--port", "0"))
    try:
        # It is printed with the settings, and again after the list of functions, which may scroll them off the screen.
        assert [line.startswith("Error:") for line in app.output.splitlines() if message in line] == [True, True]
    finally:
        assert app.stop() == 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "it cannot be read: No such file or directory"),
        ("", "it holds no JSON object"),
        ('{"version": "2.0" /* }', "it is not valid JSON: Unterminated comment: line 1 column 19 (char 18)"),
        ('{"extensions": {"http": []}}', "extensions.http is not an object"),
        ('{"logging": {"logLevel": {"default": ["Debug"]}}}', "logging.logLevel.default is not a string, number or boolean"),
    ],
)
def test_an_unusable_host_json_is_reported_in_one_line(folder: Path, content: str | None, reason: str) -> None:
    copy_app(folder)
    (folder / "host.json").unlink()
    if content is not None:
        (folder / "host.json").write_text(content)
    process = start_local(folder, "--port", "0", "--ask", "Hello")
    output, _ = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, output) == (1, f"host.json cannot be used, because {reason}.\n")


def test_a_port_in_use_is_reported_with_the_reason_why_the_file_with_another_port_is_ignored(folder: Path) -> None:
    copy_app(folder)
    (folder / "local.settings.json").write_text('{"Host": {"LocalHttpPort": 70700}}')
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start_local(folder, "--port", str(taken.getsockname()[1]))
        output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert output.startswith("Error:     local.settings.json is ignored, because Host.LocalHttpPort is not a number")
    assert "is unavailable" in output.splitlines()[1]


def test_an_unknown_route_or_method_gets_an_empty_404(app: LocalApp) -> None:
    for response in (app.http.get("/api/chat"), app.http.post("/api/chats"), app.http.post("/chat")):
        assert (response.status_code, response.content) == (404, b"")


def test_the_example_files_name_every_setting_and_work(folder: Path) -> None:
    example = json.loads((PROJECT / "local.settings.json.example").read_text())
    modules = ("__init__.py", "entra.py", "disabled.py")
    code = "".join((PROJECT / "shared" / "settings" / name).read_text() for name in modules)
    named = re.findall(r'"([A-Z][A-Z_]+)"', code)
    known = {name for name in named if "_" in name or name == "AUTHENTICATION"}
    known -= {"AZURE_OPENAI_API_KEY", "AZURE_AUTHORITY_HOST", *SET_BY_HOSTS}
    assert set(example["Values"]) - {"FUNCTIONS_WORKER_RUNTIME", "AzureWebJobsStorage"} == known
    env = {name: value for name, value in example["Values"].items() if name != "AzureWebJobsStorage"}
    dotenv = (PROJECT / "azureopenai.env.example").read_text()
    assert {line.partition("=")[0] for line in dotenv.splitlines() if not line.startswith("#")} <= set(env)
    check = "import os; from shared.settings import Settings; Settings.from_env(os.environ)"
    copy_app(folder)
    for filled_in, status in ((str, 1), (fill_in, 0)):
        values = {name: filled_in(value) for name, value in env.items()}
        assert subprocess.run([sys.executable, "-c", check], cwd=folder, env=values, check=False).returncode == status
    (folder / "azureopenai.env").write_text(fill_in(dotenv))
    subprocess.run([sys.executable, "-c", check], cwd=folder, env={}, check=True)


def fill_in(example: str) -> str:
    """Return an example file or value with its placeholders replaced, as a user would replace them."""
    return example.replace("https://NAME.", "https://name.").replace("KEY-OF-THE-RESOURCE", "a-key")
