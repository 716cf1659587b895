"""Test that a deployment has the app and nothing else, and that the app needs nothing else."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support import packaging
from tests.support.processes import PROJECT, Simulator
from tests.support.upstreams import CALLER_KEY, KEY

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
# The parts of the local host that need only the runtime.
HOST_MODULES = {"local/__init__.py", "local/host/__init__.py", "local/host/routes.py", "local/host/worker.py"}
LIST_FUNCTIONS = """
import json, function_app
print(json.dumps(sorted(function.get_function_name() for function in function_app.app.get_functions())))
"""


def app_files() -> set[str]:
    """Return the paths of all files that a deployment must have."""
    modules = {path for path in packaging.tracked_files() if re.fullmatch(r"shared/[\w/]+\.(py|html|css|js|json)", path)}
    return {"constraints.txt", "function_app.py", "host.json", "requirements.txt", *modules}


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
def test_the_published_app_serves_calls_with_nothing_but_its_requirements(
    package: Path, shared_model: Simulator, tmp_path: Path
) -> None:
    app, tools = tmp_path / "app", tmp_path / "tools"
    shutil.copytree(package, app)
    # As a remote build does, but with hashes.
    site_packages = app / ".python_packages" / "lib" / "site-packages"
    install = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "-q", "--require-hashes"]
    subprocess.run([*install, "--target", site_packages, "-r", PROJECT / "requirements.lock"], check=True)
    packaging.copy_files(PROJECT, HOST_MODULES, tools)
    shutil.copy(PROJECT / "tests" / "support" / "serve_package.py", tools)
    shared_model.clear()
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": f"{site_packages}{os.pathsep}{tools}",
        "AZURE_FUNCTIONS_ENVIRONMENT": "Production",
        "AZURE_OPENAI_ENDPOINT": shared_model.url,
        "AZURE_OPENAI_KEY": KEY,
        "AZURE_OPENAI_API_VERSION": "2024-10-21",
        "AZURE_OPENAI_CHATGPT_DEPLOYMENT": "chat",
        "CALLER_KEYS": f"tests={CALLER_KEY}",
    }
    # -S leaves out the packages of the environment that runs the tests.
    command = [sys.executable, "-S", "-P", str(tools / "serve_package.py"), str(app), CALLER_KEY]
    run = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    # The access log goes to standard output as well.
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["chat"]["choices"][0]["finish_reason"] == "stop"
    assert found["stream"].count("data: {") > 1
    assert found["stream"].endswith("data: [DONE]\n\n")
    # The requests of the timer, of the chat and of the stream.
    *probes, chat, stream = shared_model.journal()
    assert (len(probes) > 0, chat.status, stream.status) == (True, 200, 200)
    # Every module comes from the deployment, the standard library or the few files in `tools`.
    standard_library = Path(sysconfig.get_path("stdlib"))
    files = [Path(file) for places in found["modules"].values() for file in places]
    for file in files:
        in_standard_library = file.is_relative_to(standard_library) and "site-packages" not in file.parts
        assert in_standard_library or file.is_relative_to(app) or file.is_relative_to(tools), file
    assert site_packages / "azure_functions_runtime" / "__init__.py" in files
    # Compare with the functions that the project's own environment finds, without the runtime.
    here = [sys.executable, "-c", LIST_FUNCTIONS]
    names = subprocess.run(here, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert found["functions"] == json.loads(names) != []
    assert found["imports"] > 0
    # These export telemetry, and only users who want that install them.
    assert found["missing"] == ["opentelemetry.exporter", "opentelemetry.sdk"]


def test_an_image_contains_exactly_the_app(project: Path) -> None:
    sources = packaging.copied_paths((PROJECT / "Dockerfile").read_text())
    assert sources == {"constraints.txt", "requirements.lock", "requirements.txt", "host.json", "function_app.py", "shared"}
    for source in sources:
        assert (PROJECT / source).exists()
    dockerignore = (PROJECT / ".dockerignore").read_text()
    assert {path for path in packaging.files_in(project) if packaging.is_in_build_context(dockerignore, path)} == {
        "requirements.lock",
        *app_files(),
    }


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
