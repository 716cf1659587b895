"""Read which operations are switched off."""

import re
from collections.abc import Mapping

from shared.operations import AZURE, AZURE_V1, OPENAI, OPERATIONS, SURFACES, Operation
from shared.settings.parsers import quoted
from shared.settings.reader import SettingsReader

NAME = "DISABLED_OPERATIONS"
# The functions of version 0.1, with the paths of the operations that each of them served. `responses` created responses, so
# it stands for the two new operations that have the same input.
FORMER_FUNCTIONS = {
    "chat_completions": ("chat/completions",),
    "embeddings": ("embeddings",),
    "responses": ("responses", "responses/compact", "responses/input_tokens"),
    "stored_response": ("responses/{id}",),
    "stored_response_cancel": ("responses/{id}/cancel",),
    "stored_response_input_items": ("responses/{id}/input_items",),
    "model_list": ("models",),
    "model": ("models/{model}",),
}
# Their names on each surface begin like this. What was switched off on one surface must not be open on a new one.
FORMER_PREFIXES = {"": (OPENAI, AZURE_V1), "azure_": (AZURE, AZURE_V1)}

type Disabled = tuple[str, Operation]


def disabled_operations(reader: SettingsReader) -> frozenset[Disabled]:
    """Return the operations that DISABLED_OPERATIONS or a former function's setting switches off, each with its surface.

    An entry is an operation's path or its beginning: `audio` stands for all that begin with `audio/`.
    """
    disabled: set[Disabled] = set()
    for entry in reader.items(NAME, str.lower, required=False):
        found = [operation for operation in OPERATIONS if f"{operation.path}/".startswith(f"{entry.strip('/')}/")]
        if not found:
            paths = ", ".join(dict.fromkeys(operation.path for operation in OPERATIONS))
            reader.problems[NAME] = f"has {quoted(entry)}, which is no operation; the operations are {paths}"
        disabled |= {(surface, operation) for surface in SURFACES for operation in found}
    return frozenset(disabled | formerly_disabled(reader))


def formerly_disabled(reader: SettingsReader) -> set[Disabled]:
    """Return what `AzureWebJobs.FUNCTION.Disabled` switches off for functions that the app had before. Warn of each."""
    environ = {setting_key(name): value for name, value in reader.environ.items()}
    disabled: set[Disabled] = set()
    for prefix, surfaces in FORMER_PREFIXES.items():
        for function, paths in FORMER_FUNCTIONS.items():
            name = f"AzureWebJobs.{prefix}{function}.Disabled"
            if not is_true(environ, name):
                continue
            # Models were on one surface only.
            where = SURFACES if function.startswith("model") else surfaces
            disabled |= {(s, operation) for s in where for operation in OPERATIONS if operation.path in paths}
            reader.warnings.append(
                f"{name} is a setting of a former version. It switches off {', '.join(paths)} on "
                f"{', '.join(f'/{surface}' for surface in where)}; use DISABLED_OPERATIONS instead"
            )
    return disabled


def setting_key(name: str) -> str:
    """Return what is the same in all spellings of a setting: the host ignores case, and Linux replaces dots."""
    return re.sub(r"[.:]|__", "_", name).lower()


def is_true(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(setting_key(name), "").strip().lower() in ("true", "1")
