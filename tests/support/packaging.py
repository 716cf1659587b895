"""Work out what gets deployed: read .funcignore as Core Tools do, and a Dockerfile and its .dockerignore as Docker does."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

from tests.support.processes import PROJECT


def patterns_in(text: str) -> list[str]:
    """Return the patterns in an ignore file."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def is_published(funcignore: str, path: str) -> bool:
    """Return whether Core Tools publish the file at `path`, which is relative to the app's folder.

    This knows only the patterns that this project's .funcignore uses.
    """
    for pattern in patterns_in(funcignore):
        # One or two stars stand for at least one character: `**/x` does not match an `x` at the root.
        regex = re.escape(pattern).replace(r"\*\*", ".+").replace(r"\*", "[^/]+")
        if re.match(rf"(?:{regex})\b", path, re.ASCII):
            return False
    return True


def is_in_build_context(dockerignore: str, path: str) -> bool:
    """Return whether Docker adds the file at `path` to the build context: the last pattern that matches it decides."""
    ignored = False
    for pattern in patterns_in(dockerignore):
        regex = re.escape(pattern.removeprefix("!").strip("/"))
        # Two stars stand for any number of folders, also for none. A pattern for a folder includes its contents.
        regex = regex.replace(r"\*\*/", "(?:.*/)?").replace(r"\*\*", ".*").replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
        if re.match(rf"(?:{regex})(?:/|\Z)", path):
            ignored = not pattern.startswith("!")
    return not ignored


def copied_paths(dockerfile: str) -> set[str]:
    """Return the paths that a Dockerfile copies from the build context."""
    sources: set[str] = set()
    # A comment may interrupt an instruction of several lines.
    text = re.sub(r"^\s*#.*\n?", "", dockerfile, flags=re.MULTILINE)
    text = re.sub(r"\\[ \t]*\n", " ", text)
    for arguments in re.findall(r"^\s*(?:COPY|ADD)\s+(.+)$", text, re.MULTILINE | re.IGNORECASE):
        if "--from=" in arguments:
            continue
        rest = re.sub(r"^(?:--\S+\s+)+", "", arguments)
        *names, _ = json.loads(rest) if rest.startswith("[") else shlex.split(rest)
        sources.update(str(Path(name)) for name in names)
    return sources


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def tracked_files() -> set[str]:
    """Return the files that git tracks and that exist."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    return {path for path in listed.split("\0") if path and (PROJECT / path).exists()}


def copy_files(source: Path, paths: set[str], folder: Path) -> None:
    for path in paths:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / path, target)
