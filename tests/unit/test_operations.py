"""Test which versions of Azure's API have which operations."""

import pytest

from shared.operations import OPERATIONS

HAVE = {
    "2023-05-15": set(),
    "2023-09-01-preview": {"audio/transcriptions", "audio/translations"},
    "2024-02-01": {"audio/transcriptions", "audio/translations", "images/generations"},
    "2024-02-15-preview": {"audio/transcriptions", "audio/translations", "images/generations", "audio/speech"},
    "2024-10-21": {"audio/transcriptions", "audio/translations", "images/generations"},
}


@pytest.mark.parametrize("version", HAVE)
def test_a_dated_version_has_what_azure_describes(version: str) -> None:
    everywhere = {"chat/completions", "completions", "embeddings", "models", "models/{model}"}
    assert {operation.path for operation in OPERATIONS if operation.exists_in(version)} == everywhere | HAVE[version]


@pytest.mark.parametrize("version", ["2025-04-01-preview", "2027-01-01-preview", "2027-01-01"])
def test_a_late_version_lacks_only_what_v1_alone_has(version: str) -> None:
    missing = {operation.path for operation in OPERATIONS if not operation.exists_in(version)}
    assert missing == {"responses/compact", "responses/input_tokens", "responses/{id}/cancel"}


def test_v1_has_everything() -> None:
    assert all(operation.exists_in("v1") for operation in OPERATIONS)
