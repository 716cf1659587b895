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
from shared.settings import SET_BY_AZURE, Settings, health_check_schedule
from tests.support.javascript import NODE_FOLDER, needs_node
from tests.support.pages import blocks, commands, page, table
from tests.support.processes import PROJECT, TIMEOUT, LocalApp, local_app

README, API, SETTINGS = page("README.md"), page("docs/api.md"), page("docs/settings.md")
LOCAL = page("local/README.md")
# The pages that show commands and programs. CONTRIBUTING's are what the tests and .ci/run do themselves.
GUIDES = "\n".join([README, LOCAL, *(path.read_text() for path in sorted(PROJECT.glob("docs/*.md")))])
COMMANDS = commands(GUIDES)
KEY = "a-caller-key-of-the-readme"
# These need Azure, Core Tools or a terminal of one's own; docs/deploy.md says that they have not been verified.
ELSEWHERE = re.compile(r"az |azd |func |azurite |source |cp local\.settings|APP_URL=|GROUP=|KEY=|curl \$")
# Each of these is what tests and .ci/run do themselves.
SET_UP = re.compile(r"python3\.13 -m venv |\.venv/bin/python -m pip install -r requirements-(local|dev)\.txt")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalApp]:
    with local_app(tmp_path_factory.mktemp("app"), CALLER_KEYS=f"reader={KEY}") as app:
        yield app


def here(text: str, app: LocalApp) -> str:
    """Return `text` with the URL and the key of `app`."""
    text = text.replace("localhost:7071", f"127.0.0.1:{app.port}").replace("https://APP.azurewebsites.net", app.url)
    return text.replace("CALLER_KEY", KEY)


def test_every_command_is_run_here_or_known_to_run_elsewhere() -> None:
    left = [line for line in COMMANDS if not (ELSEWHERE.match(line) or SET_UP.match(line))]
    assert {line.split()[0] for line in left} == {"make", "curl", ".venv/bin/python"}
    assert len(left) > 6


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("curl") and not ELSEWHERE.match(line)])
def test_curl_commands_are_answered(app: LocalApp, command: str) -> None:
    run = subprocess.run(["bash", "-c", f"{here(command, app)} -sS --fail"], capture_output=True, text=True, timeout=TIMEOUT)
    assert run.returncode == 0, run.stderr
    assert ("data: [DONE]" in run.stdout) == ('"stream": true' in command)
    assert ("simulator" if " -d " in command else "gpt-4o-mini") in run.stdout.replace('","', "")


def test_the_addresses_answer(app: LocalApp) -> None:
    (address,) = set(re.findall(r"<(http://localhost:7071/\S+)>", README))
    assert app.http.get(here(address, app)).status_code == 200


@pytest.mark.parametrize("target", [line.split()[1] for line in COMMANDS if line.startswith("make")])
def test_make_has_the_target(target: str) -> None:
    subprocess.run(["make", "-n", target], cwd=PROJECT, capture_output=True, check=True)


def test_without_make_the_same_is_run() -> None:
    make = ["make", "-n", "--no-print-directory", "start"]
    # Not as a part of the make that may run the tests.
    environ = {"PATH": os.environ["PATH"]}
    run = subprocess.run(make, cwd=PROJECT, env=environ, capture_output=True, text=True, check=True)
    (command,) = (line for line in COMMANDS if line.startswith(".venv/bin/python -m local"))
    assert run.stdout.splitlines()[-1].strip() == command


@pytest.mark.parametrize("program", blocks("python", GUIDES))
def test_python_programs_run(app: LocalApp, program: str) -> None:
    asks = {
        "AzureOpenAI": 'client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "a"}])',
        "ChatOpenAI": 'print(chat.invoke("Hi"), len(embeddings.embed_query("Hi")))',
    }
    more = next((ask for name, ask in asks.items() if f"import {name}" in program), "")
    code = f"{here(program, app)}\n{more}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT)
    assert run.returncode == 0, run.stderr


@needs_node
@pytest.mark.parametrize("program", blocks("js", GUIDES))
def test_javascript_programs_run(app: LocalApp, program: str) -> None:
    command = ["node", "--input-type=module", "-e", here(program, app)]
    run = subprocess.run(command, cwd=NODE_FOLDER, capture_output=True, text=True, timeout=TIMEOUT)
    assert run.returncode == 0, run.stderr


def test_the_routes_are_those_that_the_app_prints(app: LocalApp) -> None:
    documented: set[tuple[str, str]] = set()
    for cell, *_ in table("method, route |", API):
        methods: list[str] = []
        for names, route in re.findall(r"((?:[A-Z]+, )*[A-Z]+)? ?`(/api[^`]+)`", cell):
            methods = names.split(", ") if names else methods
            documented |= {(method, route) for method in methods}
    printed = re.findall(r"^\t\w+: \[(.+)\] http://localhost:\d+(/\S+)$", app.output, re.MULTILINE)
    assert documented == {(method, route) for methods, route in printed for method in methods.split(",")}


class Recording(dict[str, str]):
    """An environment that knows what it was asked for."""

    def __init__(self) -> None:
        super().__init__(
            AZURE_OPENAI_ENDPOINT="https://name.openai.azure.com",
            AZURE_OPENAI_KEY="key",
            AZURE_OPENAI_API_VERSION="v1",
            AZURE_OPENAI_CHATGPT_DEPLOYMENT="chat",
        )
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


def test_the_settings_are_those_that_the_code_reads() -> None:
    rows = {re.findall("`(.+?)`", cell)[0]: default.strip("`") for cell, _, default in table("app setting |", SETTINGS)}
    environ = Recording()
    found, schedule = Settings.from_env(environ, Path("absent.env")), health_check_schedule(environ, Path("absent.env"))
    of_hosts = {"AZURE_FUNCTIONS_ENVIRONMENT", *SET_BY_AZURE}
    assert set(rows) | {"AZURE_OPENAI_API_KEY"} == environ.asked - of_hosts | {"AZURE_OPENAI_API_KEY"}
    example = json.loads((PROJECT / "local.settings.json.example").read_text())["Values"]
    assert list(rows) == [name for name in example if name not in ("FUNCTIONS_WORKER_RUNTIME", "AzureWebJobsStorage")]
    defaults = {
        "AZURE_OPENAI_TOKEN_SCOPE": found.token_scope,
        "REQUEST_TIMEOUT_SECONDS": f"{found.request_timeout:.0f}",
        "ATTEMPT_TIMEOUT_SECONDS": f"{found.attempt_timeout:.0f}",
        "STREAM_IDLE_SECONDS": f"{found.stream_idle:.0f}",
        "MAX_CONCURRENT_CALLS": str(found.max_concurrent_calls),
        "MAX_BODY_BYTES": str(found.max_body_bytes),
        "STREAM_USAGE": str(found.stream_usage).lower(),
        "HEALTH_CHECK_SCHEDULE": schedule,
        "AUTHENTICATION": "AZURE" if found.use_identity else "KEY",
    }
    assert {name: rows[name] for name in defaults} == defaults


@pytest.mark.parametrize("example", blocks("ini", GUIDES))
def test_the_examples_of_settings_are_valid(example: str, tmp_path: Path) -> None:
    whole, *_ = blocks("ini", SETTINGS)
    (tmp_path / "azureopenai.env").write_text((whole + example).replace("NAME", "name"))
    found = Settings.from_env({}, tmp_path / "azureopenai.env")
    names = {line.partition("=")[0] for line in example.splitlines()}
    assert names <= {re.findall("`(.+?)`", cell)[0] for cell, *_ in table("app setting |", SETTINGS)}
    assert found.use_identity
    assert len(found.endpoints) == 1 + example.count(",https://")


def test_the_options_are_those_of_the_program() -> None:
    documented = {re.findall("`(.+?)`", row[0])[0] for row in table("option | meaning", LOCAL)}
    assert documented == set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", parser().format_help(), re.MULTILINE)) - {"--help"}


def headings(path: Path) -> set[str]:
    """Return the headings of a page, as links name them."""
    found = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in found}


PAGES = [*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), *PROJECT.glob("*/README.md")]


def test_files_that_the_pages_name_are_there() -> None:
    named = {name for path in PAGES for name in re.findall(r"\b(?:shared|tests|infra)/[\w/]+\.\w+", path.read_text())}
    assert len(named) > 10
    assert [name for name in sorted(named) if not (PROJECT / name).exists()] == []


def test_links_between_the_pages_lead_somewhere() -> None:
    links = [(path, link) for path in PAGES for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()) if ":" not in link]
    assert len(links) > 30
    for path, link in links:
        file, _, heading = link.partition("#")
        # GitHub's own page of a workflow, relative to the page of the repository's files.
        file = re.sub(r"^\.\./\.\./actions/(workflows/\w+\.yml)(/badge\.svg)?$", r".github/\1", file)
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), (path.name, link)
        assert not heading or heading in headings(target), (path.name, link)
