"""Test that README and the guides are true: their commands and programs run, and their tables match the code."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.__main__ import parser
from local.simulator.tokens import TokenIssuer
from shared.openai_api.router import METHODS
from shared.operations import AFTER_STABLE, OPERATIONS, V1, Operation
from shared.settings import SET_BY_AZURE, Settings, health_check_schedule
from tests.support.javascript import NODE_FOLDER, needs_node
from tests.support.pages import blocks, commands, page, table
from tests.support.processes import PROJECT, TIMEOUT, LocalApp, local_app
from tests.support.upstreams import Upstreams

README, API, SETTINGS = page("README.md"), page("docs/api.md"), page("docs/settings.md")
LOCAL = page("local/README.md")
# The pages that show commands and programs. CONTRIBUTING is not one: the tests and .ci/run use its commands themselves.
GUIDES = "\n".join([README, LOCAL, *(path.read_text() for path in sorted(PROJECT.glob("docs/*.md")))])
COMMANDS = commands(GUIDES)
KEY = "a-caller-key-of-the-readme"
# These need Azure, Core Tools or a user's own terminal; docs/deploy.md says that they have not been verified.
ELSEWHERE = re.compile(
    r"az |azd |pip install --target |func |azurite |source |cp local\.settings|curl \$"
    r"|(APP_URL|APP_ID|ACCOUNT|GROUP|KEY|TOKEN)="
)
# The tests and .ci/run install the requirements themselves.
SET_UP = re.compile(r"python3\.13 -m venv |\.venv/bin/python -m pip install -r requirements-(local|dev)\.txt")


@pytest.fixture(scope="module")
def issuer() -> TokenIssuer:
    return TokenIssuer()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, upstreams: Upstreams, issuer: TokenIssuer) -> Iterator[LocalApp]:
    """Return an app that accepts a key, and tokens of `issuer`."""
    _, settings = upstreams.entra(issuer)
    settings |= {"CALLER_KEYS": f"reader={KEY}", "AZURE_OPENAI_DEPLOYMENTS": "embeddings,speech,transcribe,images"}
    with local_app(tmp_path_factory.mktemp("app"), **settings) as app:
        yield app


@pytest.fixture(scope="module")
def environ(upstreams: Upstreams, issuer: TokenIssuer) -> dict[str, str]:
    """Return the environment of a program that has a managed identity, and a token as `TOKEN`."""
    _, _, settings = upstreams.identity(issuer)
    return os.environ | settings | {"TOKEN": issuer.mint()}


def filled_in(text: str, app: LocalApp) -> str:
    """Return `text` with the URL, the key and the audience of `app`."""
    text = text.replace("api://TENANT-ID/azure-openai-functions", TokenIssuer().audience)
    text = text.replace("localhost:7071", f"127.0.0.1:{app.port}").replace("https://APP.azurewebsites.net", app.url)
    return text.replace("CALLER_KEY", KEY)


def test_every_command_is_tested_or_listed_as_an_exception() -> None:
    remaining = [line for line in COMMANDS if not (ELSEWHERE.match(line) or SET_UP.match(line))]
    assert {line.split()[0] for line in remaining} == {"make", "curl", ".venv/bin/python"}
    assert len(remaining) > 6


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("curl") and not ELSEWHERE.match(line)])
def test_curl_commands_succeed(app: LocalApp, environ: dict[str, str], command: str) -> None:
    run = subprocess.run(
        ["bash", "-c", f"{filled_in(command, app)} -sS --fail"], env=environ, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert run.returncode == 0, run.stderr
    assert ("data: [DONE]" in run.stdout) == ('"stream": true' in command)
    assert ("simulator" if " -d " in command else "chat") in run.stdout.replace('","', "")


def test_the_url_in_the_readme_works(app: LocalApp) -> None:
    (url,) = set(re.findall(r"<(http://localhost:7071/\S+)>", README))
    assert app.http.get(filled_in(url, app)).status_code == 200


@pytest.mark.parametrize("target", [line.split()[1] for line in COMMANDS if line.startswith("make")])
def test_make_has_each_target_in_the_guides(target: str) -> None:
    subprocess.run(["make", "-n", target], cwd=PROJECT, capture_output=True, check=True)


def test_the_command_without_make_is_the_one_that_make_runs() -> None:
    make = ["make", "-n", "--no-print-directory", "start"]
    # Drop the variables of a make that may be running the tests, so that this make does not act as its sub-make.
    environ = {"PATH": os.environ["PATH"]}
    run = subprocess.run(make, cwd=PROJECT, env=environ, capture_output=True, text=True, check=True)
    (command,) = (line for line in COMMANDS if line.startswith(".venv/bin/python -m local"))
    assert run.stdout.splitlines()[-1].strip() == command


@pytest.mark.parametrize("program", blocks("python", GUIDES))
def test_python_programs_run(app: LocalApp, environ: dict[str, str], tmp_path: Path, program: str) -> None:
    calls = [
        f'{client}.chat.completions.create(model="chat", messages=[{{"role": "user", "content": "a"}}])'
        for client in re.findall(r"^(\w+) = (?:Azure)?OpenAI\(", program, re.MULTILINE)
    ]
    if "import ChatOpenAI" in program:
        calls = ['print(chat.invoke("Hi"), len(embeddings.embed_query("Hi")))']
    assert calls
    code = "\n".join([filled_in(program, app), *calls])
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert run.returncode == 0, run.stderr


@needs_node
@pytest.mark.parametrize("program", blocks("js", GUIDES))
def test_javascript_programs_run(app: LocalApp, program: str) -> None:
    command = ["node", "--input-type=module", "-e", filled_in(program, app)]
    run = subprocess.run(command, cwd=NODE_FOLDER, capture_output=True, text=True, timeout=TIMEOUT)
    assert run.returncode == 0, run.stderr


def test_the_documented_routes_are_those_that_the_app_prints(app: LocalApp) -> None:
    documented = {
        (method, route)
        for cell, *_ in table("method, route |", API)
        for names, route in re.findall(r"([A-Z, ]+|all methods,) `(/api[^`]+)`", cell)
        for method in (METHODS if names == "all methods," else names.split(", "))
    }
    printed = re.findall(r"^\t\w+: \[(.+)\] http://localhost:\d+(/\S+)$", app.output, re.MULTILINE)
    assert documented == {(method, route) for methods, route in printed for method in methods.split(",")}


def versions_of(operation: Operation) -> str:
    """Return the versions that have an operation, in the words of the page."""
    if not operation.since:
        return "all"
    versions = ["`v1`"]
    if operation.since != V1:
        versions.append(f"previews since {operation.since.removesuffix('-preview')}")
        versions += [f"stable versions since {operation.stable}"] * (operation.stable != AFTER_STABLE)
    return ", ".join(versions)


def test_the_documented_operations_are_those_of_the_table() -> None:
    documented = [(cell, versions, by_deployment) for cell, _, versions, by_deployment in table("method, operation |", API)]
    assert documented == [
        (
            f"{operation.method} `{operation.path}`",
            versions_of(operation),
            "✓" * operation.by_deployment,
        )
        for operation in OPERATIONS
    ]


class RecordingEnviron(dict[str, str]):
    """Record which settings are read from this environment."""

    def __init__(self) -> None:
        super().__init__(
            AZURE_OPENAI_ENDPOINT="https://name.openai.azure.com",
            AZURE_OPENAI_KEY="key",
            AZURE_OPENAI_API_VERSION="v1",
            AZURE_OPENAI_CHATGPT_DEPLOYMENT="chat",
        )
        self.read: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.read.add(name)
        return super().get(name, default)


def test_the_documented_settings_are_those_that_the_code_reads() -> None:
    rows = {re.findall("`(.+?)`", cell)[0]: default.strip("`") for cell, _, default in table("app setting |", SETTINGS)}
    environ = RecordingEnviron()
    found, schedule = Settings.from_env(environ, Path("absent.env")), health_check_schedule(environ, Path("absent.env"))
    set_by_hosts = {"AZURE_FUNCTIONS_ENVIRONMENT", *SET_BY_AZURE}
    assert set(rows) | {"AZURE_OPENAI_API_KEY"} == environ.read - set_by_hosts | {"AZURE_OPENAI_API_KEY"}
    example = json.loads((PROJECT / "local.settings.json.example").read_text())["Values"]
    assert list(rows) == [name for name in example if name not in ("FUNCTIONS_WORKER_RUNTIME", "AzureWebJobsStorage")]
    defaults = {
        "AZURE_OPENAI_TOKEN_SCOPE": found.token_scope,
        "REQUEST_TIMEOUT_SECONDS": f"{found.request_timeout:.0f}",
        "ATTEMPT_TIMEOUT_SECONDS": f"{found.attempt_timeout:.0f}",
        "STREAM_IDLE_SECONDS": f"{found.stream_idle:.0f}",
        "STREAM_SECONDS": f"{found.stream_seconds:.0f}",
        "MAX_CONCURRENT_CALLS": str(found.max_concurrent_calls),
        "MAX_BODY_BYTES": str(found.max_body_bytes),
        "MAX_UPLOAD_BYTES": str(found.max_upload_bytes),
        "STREAM_USAGE": str(found.stream_usage).lower(),
        "HEALTH_CHECK_SCHEDULE": schedule,
        "AUTHENTICATION": "AZURE" if found.use_identity else "KEY",
    }
    assert {name: rows[name] for name in defaults} == defaults


@pytest.mark.parametrize("example", blocks("ini", GUIDES))
def test_the_documented_examples_of_settings_are_valid(example: str, tmp_path: Path) -> None:
    complete, *_ = blocks("ini", SETTINGS)
    (tmp_path / "azureopenai.env").write_text((complete + example).replace("NAME", "name"))
    found = Settings.from_env({}, tmp_path / "azureopenai.env")
    names = {line.partition("=")[0] for line in example.splitlines()}
    assert names <= {re.findall("`(.+?)`", cell)[0] for cell, *_ in table("app setting |", SETTINGS)}
    assert found.use_identity
    assert len(found.endpoints) == 1 + len(re.findall(r"[,|]https://", example))


def test_the_documented_options_are_those_of_the_program() -> None:
    documented = {re.findall("`(.+?)`", row[0])[0] for row in table("option | meaning", LOCAL)}
    assert documented == set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", parser().format_help(), re.MULTILINE)) - {"--help"}


def headings(path: Path) -> set[str]:
    """Return the headings of a page, in the form in which links contain them."""
    found = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in found}


PAGES = [*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), *PROJECT.glob("*/README.md")]


def test_files_that_the_pages_name_exist() -> None:
    pattern = re.compile(r"(?<![\w/])(?:shared|tests|infra)/[\w/]+\.\w+")
    named = {name for path in PAGES for name in pattern.findall(path.read_text())}
    assert len(named) > 10
    assert [name for name in sorted(named) if not (PROJECT / name).exists()] == []


def test_links_between_the_pages_work() -> None:
    links = [(path, link) for path in PAGES for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()) if ":" not in link]
    assert len(links) > 30
    for path, link in links:
        file, _, heading = link.partition("#")
        # These lead to GitHub's page of a workflow. They are relative to GitHub's page of the repository's files.
        file = re.sub(r"^\.\./\.\./actions/(workflows/\w+\.yml)(/badge\.svg)?$", r".github/\1", file)
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), (path.name, link)
        assert not heading or heading in headings(target), (path.name, link)
