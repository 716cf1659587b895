"""Test that a deployment has the app and nothing else, and that the app needs nothing else."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import packaging
from tests.support.processes import PROJECT

# Files beside the app that a deployment must leave out: secrets, settings, documents, and the output of tools.
EXCLUDED = (
    ".azure/config.json",
    ".azure/prod/.env",
    ".coverage",
    ".coverage.host.1.x",
    ".devcontainer/devcontainer.json",
    ".dockerignore",
    ".env",
    ".env.local",
    ".git/config",
    ".gitattributes",
    ".github/workflows/ci.yml",
    ".hypothesis/examples/x",
    ".mypy_cache/3.13/x.json",
    ".pytest_cache/README.md",
    ".ruff_cache/x",
    ".venv/bin/python",
    ".venv/lib/python3.13/site-packages/x.py",
    ".vscode/settings.json",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Dockerfile",
    "__azurite_db_blob__.json",
    "__blobstorage__/x",
    "__pycache__/function_app.cpython-313.pyc",
    "__queuestorage__/x",
    "azure.yaml",
    "azureopenai.env",
    "bench/results.json",
    "docs/guide.md",
    "docs/images/x.svg",
    "infra.md",
    "infra/main.bicep",
    "local.settings.json",
    "prod.env",
    "shared/.env",
    "shared/__pycache__/chat.cpython-313.pyc",
    "tests/node/node_modules/openai/index.js",
    "tests/x",
)
LIST_FUNCTIONS = """
import json, function_app
print(json.dumps(sorted(function.get_function_name() for function in function_app.app.get_functions())))
"""


def app_files() -> set[str]:
    """Return the paths of all files that a deployment must have."""
    modules = {path for path in packaging.tracked_files() if re.fullmatch(r"shared/[\w/]+\.(py|html|css|js|json)", path)}
    return {"function_app.py", "host.json", "requirements.txt", *modules}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project with the files that collect in a developer's folder."""
    folder = tmp_path_factory.mktemp("project")
    packaging.copy_files(PROJECT, packaging.tracked_files(), folder)
    for path in EXCLUDED:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


@pytest.fixture(scope="module")
def package(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files that Core Tools would publish."""
    folder = tmp_path_factory.mktemp("package")
    funcignore = (project / ".funcignore").read_text()
    paths = {path for path in packaging.files_in(project) if packaging.is_published(funcignore, path)}
    packaging.copy_files(project, paths, folder)
    return folder


@pytest.fixture(scope="module")
def azure_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Python as in Azure: it has the runtime, the packages in requirements.txt, and nothing else."""
    folder = tmp_path_factory.mktemp("azure") / "venv"
    required = (PROJECT / "requirements-local.txt").read_text()
    (runtime,) = re.findall(r"^azure-functions-runtime==\S+$", required, re.MULTILINE)
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    wanted = ["-r", str(PROJECT / "requirements.txt"), runtime]
    subprocess.run([python, "-m", "pip", "install", "--disable-pip-version-check", "-q", *wanted], check=True)
    return python


def test_exactly_the_app_is_published(package: Path) -> None:
    assert packaging.files_in(package) == app_files()


def test_azd_deploys_the_same_files(project: Path, tmp_path: Path) -> None:
    # azd reads .funcignore as git reads .gitignore.
    git = ["git", f"--git-dir={tmp_path / 'git'}", f"--work-tree={project}"]
    subprocess.run([*git, "init", "-q"], check=True)
    listing = [*git, "ls-files", "-z", "--others", "--exclude-from=.funcignore"]
    listed = subprocess.run(listing, cwd=project, capture_output=True, text=True, check=True).stdout
    assert set(filter(None, listed.split("\0"))) == app_files()


@pytest.mark.deep
@pytest.mark.timeout(600)
def test_the_published_app_needs_only_its_requirements(package: Path, azure_python: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    packaging.copy_files(PROJECT, {"local/__init__.py", "local/host/__init__.py", "local/host/worker.py"}, tools)
    shutil.copy(PROJECT / "tests" / "support" / "load_package.py", tools)
    environ = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    command = [azure_python, tools / "load_package.py", package]
    run = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    # Compare with the functions that the project's own environment finds, without the runtime.
    here = [sys.executable, "-c", LIST_FUNCTIONS]
    names = subprocess.run(here, cwd=PROJECT, env=environ, capture_output=True, text=True, check=True).stdout
    assert found["functions"] == json.loads(names) != []
    assert found["imports"] > 0
    # These export telemetry, and only users who want that install them.
    assert found["missing"] == ["opentelemetry.exporter", "opentelemetry.sdk"]


def test_an_image_contains_exactly_the_app(project: Path) -> None:
    sources = packaging.copied_paths((PROJECT / "Dockerfile").read_text())
    assert sources == {"requirements.txt", "host.json", "function_app.py", "shared"}
    for source in sources:
        assert (PROJECT / source).exists()
    dockerignore = (PROJECT / ".dockerignore").read_text()
    assert {path for path in packaging.files_in(project) if packaging.is_in_build_context(dockerignore, path)} == app_files()


@pytest.mark.parametrize(
    ("pattern", "matched", "unmatched"),
    [
        ("infra", ["infra", "infra/main.bicep", "infra.md", "infra-old/x"], ["infrastructure.py", "shared/infra"]),
        ("/infra", ["infra/main.bicep"], ["shared/infra"]),
        ("**/__pycache__", ["shared/__pycache__/x.pyc", "a/b/__pycache__/x.pyc"], ["__pycache__/x.pyc", "a/x__pycache__"]),
        ("*.env", ["prod.env", "prod.env.example"], [".env", "shared/prod.env", "prod.environment", "prodxenv"]),
        (".env", [".env", ".env.local"], [".envrc", "xenv", "shared/.env"]),
        ("docs/*/x", ["docs/a/x", "docs/a/x/y"], ["docs/x", "docs/a/b/x"]),
    ],
)
def test_patterns_of_funcignore_match_from_the_root_to_the_end_of_a_word(
    pattern: str, matched: list[str], unmatched: list[str]
) -> None:
    assert [path for path in matched + unmatched if packaging.matches(pattern, path)] == matched


def test_exclamation_marks_win_except_for_files_that_are_never_published() -> None:
    for funcignore in ("shared\n!shared/x\n", "!shared/x\nshared\n"):
        assert packaging.is_published(funcignore, "shared/x")
        assert packaging.is_published(funcignore, "shared/x/y")
        assert not packaging.is_published(funcignore, "shared/y")
    assert packaging.is_published("\n  \n# shared\n", "shared/y")
    for path in (".git/config", "a/.vscode/x", "a/.gitignore", "local.settings.json", "Local.Settings.json", ".funcignore"):
        assert not packaging.is_published(f"!{path}", path)


def test_the_last_pattern_of_dockerignore_wins() -> None:
    assert not packaging.is_in_build_context("*\n", "a/b")
    assert packaging.is_in_build_context("*\n!a\n", "a/b/c")
    assert not packaging.is_in_build_context("!a\n*\n", "a/b")
    assert not packaging.is_in_build_context("*\n!a/*.py\n", "a/x.pyc")
    assert not packaging.is_in_build_context("**/x\n", "x")
    assert packaging.is_in_build_context("# *\nx\n", "a/x")


def test_all_forms_of_copy_in_a_dockerfile_are_found() -> None:
    dockerfile = r"""
    FROM x AS first
    COPY --chown=a:b --chmod=755 ./one two/ /there/
    copy ["with space", "three", "/there/"]
    COPY four \
      # in between
      five \
      /there/
    COPY --chown=a:b --from=first six /there/
    # COPY seven /there/
    RUN echo COPY eight /there/
    ADD nine /there/
    """
    assert packaging.copied_paths(dockerfile) == {"one", "two", "with space", "three", "four", "five", "nine"}
