"""Test that the tools of others accept the OpenAPI description: two linters with their own rules, and a maker of clients."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.javascript import NODE_FOLDER, needs_node
from tests.support.processes import Json, Simulator
from tests.support.upstreams import CALLER_KEY, Gateway

pytestmark = [pytest.mark.deep, needs_node]

PROGRAMS = NODE_FOLDER / "node_modules" / ".bin"
REDOCLY = ("redocly", "lint", "--extends=recommended", "--format=json", "api.json")
SPECTRAL = ("spectral", "lint", "--ruleset=ruleset.json", "--format=json", "--quiet", "api.json")
MAKE_TYPES = ("openapi-typescript", "api.json", "--output=api.ts")
COMPILE = ("tsc", "--strict", "--skipLibCheck", "--target", "es2022", "--module", "nodenext")


class Run:
    """Run the programs in a folder with the document."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "node_modules").symlink_to(NODE_FOLDER / "node_modules")
        (folder / "package.json").write_text('{"type": "module"}')
        (folder / "ruleset.json").write_text('{"extends": "spectral:oas"}')
        (folder / "client.ts").write_text((NODE_FOLDER / "openapi_client.ts").read_text())

    def __call__(self, name: str, *options: str) -> "subprocess.CompletedProcess[str]":
        # Redocly would report its use, and look for a newer version.
        quiet = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
        command = [str(PROGRAMS / name), *options]
        return subprocess.run(command, cwd=self.folder, env=os.environ | quiet, capture_output=True, text=True, check=False)

    def problems(self, document: Json) -> list[set[str]]:
        """Return the rules that the document breaks, those of Redocly and those of Spectral."""
        (self.folder / "api.json").write_text(json.dumps(document))
        redocly, spectral = self(*REDOCLY).stdout, self(*SPECTRAL).stdout
        return [
            {problem["ruleId"] for problem in json.loads(redocly)["problems"]},
            {problem["code"] for problem in json.loads(spectral)},
        ]

    def compile(self, document: Json, *options: str) -> str:
        """Make the types for a client, compile it, and return the compiler's errors."""
        (self.folder / "api.json").write_text(json.dumps(document))
        self(*MAKE_TYPES).check_returncode()
        return self(*COMPILE, *options, "client.ts").stdout


@pytest.fixture
def document(gateway: Gateway, model: Simulator) -> Json:
    document: Json = gateway.http.get("/api/openapi.json").json()
    return document


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_the_linters_find_nothing(run: Run, document: Json) -> None:
    assert run.problems(document) == [set(), set()]


def test_the_linters_would_find_a_mistake(run: Run, document: Json) -> None:
    del document["info"]["license"], document["paths"]["/v1/embeddings"]["post"]["tags"]
    assert run.problems(document) == [{"info-license"}, {"operation-tags"}]


def test_a_client_that_is_made_from_the_document_works(run: Run, document: Json, gateway: Gateway) -> None:
    assert run.compile(document) == ""
    command = ["node", "client.js", f"{gateway.app.url}/api", CALLER_KEY]
    output = subprocess.run(command, cwd=run.folder, capture_output=True, text=True, check=True).stdout
    results = json.loads(output)
    assert "Hello" in results.pop("reply")
    assert results.pop("tokens") > 0
    assert results.pop("text").startswith("You sent 11 bytes as hello.mp3.")
    assert results == {"dimensions": 3, "items": 1, "error": "model_not_found"}


def test_a_client_does_not_compile_if_the_document_lacks_what_it_uses(run: Run, document: Json) -> None:
    del document["components"]["schemas"]["ChatCompletion"]["properties"]["choices"]
    errors = run.compile(document, "--noEmit")
    assert "client.ts" in errors
    assert "choices" in errors
