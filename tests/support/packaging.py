"""What gets deployed: .funcignore as Core Tools read it, and what a Dockerfile and its .dockerignore let into an image."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

from tests.support.processes import PROJECT

# What Core Tools never pack, at any depth, whatever .funcignore says.
NEVER_FOLDERS = {".git", ".vscode"}
NEVER_FILES = {".funcignore", ".gitignore", "local.settings.json", "project.lock.json"}


def lines_of(text: str) -> list[str]:
    """The lines of an ignore file that say something."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def hits(pattern: str, path: str) -> bool:
    """Whether a pattern of .funcignore hits a path, as in GitIgnoreParser.cs of Core Tools."""
    # A star, one or two, is at least one character there: `**/x` does not hit an `x` at the root.
    regex = re.escape(pattern.removeprefix("/")).replace(r"\*\*", ".+").replace(r"\*", "[^/]+")
    return bool(re.match(rf"(?:{regex})\b", path, re.ASCII))


def packed(funcignore: str, path: str) -> bool:
    """Whether Core Tools publish the file at `path`, which is relative to the app's folder."""
    *folders, name = path.lower().split("/")
    if NEVER_FOLDERS.intersection(folders) or name in NEVER_FILES:
        return False
    lines = lines_of(funcignore)
    if any(hits(line[1:], path) for line in lines if line.startswith("!")):
        return True
    return not any(hits(line, path) for line in lines if not line.startswith("!"))


def sent(dockerignore: str, path: str) -> bool:
    """Whether Docker takes the file at `path` into the build's context: the last pattern that hits it decides."""
    ignored = False
    for line in lines_of(dockerignore):
        regex = re.escape(line.removeprefix("!").strip("/"))
        # Two stars are any number of folders, none included; what hits a folder hits all that is in it.
        regex = regex.replace(r"\*\*/", "(?:.*/)?").replace(r"\*\*", ".*").replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
        if re.match(rf"(?:{regex})(?:/|\Z)", path):
            ignored = not line.startswith("!")
    return not ignored


def copied(dockerfile: str) -> set[str]:
    """What the instructions of a Dockerfile copy from the build's context."""
    sources: set[str] = set()
    # Comments may stand between the lines of an instruction.
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


def tracked() -> set[str]:
    """The files that git knows, as far as they are there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    return {path for path in listed.split("\0") if path and (PROJECT / path).exists()}


def copy_files(source: Path, paths: set[str], folder: Path) -> None:
    for path in paths:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / path, target)
