"""Test which operations settings switch off, by their new name and by those of version 0.1."""

import pytest

from shared.operations import AZURE, AZURE_V1, OPENAI, OPERATIONS, SURFACES
from tests.support.settings import problems, settings

STORED = ("responses/{id}", "responses/{id}/cancel", "responses/{id}/input_items")
NEW = ("responses/compact", "responses/input_tokens")
V1, DATED = (OPENAI, AZURE_V1), (AZURE, AZURE_V1)


def disabled(**changes: str) -> set[tuple[str, str]]:
    """Return the operations that the settings switch off, each by its surface and its path."""
    return {(surface, operation.path) for surface, operation in settings(**changes).disabled_operations}


def of(*paths: str, surfaces: tuple[str, ...] = SURFACES) -> set[tuple[str, str]]:
    return {(surface, path) for surface in surfaces for path in paths}


@pytest.mark.parametrize(
    ("names", "paths"),
    [
        ("images/edits", ("images/edits",)),
        ("audio", ("audio/speech", "audio/transcriptions", "audio/translations")),
        ("audio/", ("audio/speech", "audio/transcriptions", "audio/translations")),
        ("responses", ("responses", *NEW, *STORED)),
        ("responses/{id}", STORED),
        ("Chat/Completions , embeddings", ("chat/completions", "embeddings")),
        ("models/{model}", ("models/{model}",)),
        ("completions", ("completions",)),
    ],
)
def test_an_entry_switches_off_an_operation_and_all_below_its_path(names: str, paths: tuple[str, ...]) -> None:
    assert disabled(DISABLED_OPERATIONS=names) == of(*paths)


def test_an_entry_switches_off_all_methods() -> None:
    found = settings(DISABLED_OPERATIONS="responses/{id}").disabled_operations
    assert {operation for _, operation in found} == {operation for operation in OPERATIONS if operation.is_stored}


FORMER = [
    ("chat_completions", of("chat/completions", surfaces=V1)),
    ("azure_chat_completions", of("chat/completions", surfaces=DATED)),
    ("embeddings", of("embeddings", surfaces=V1)),
    ("azure_embeddings", of("embeddings", surfaces=DATED)),
    ("responses", of("responses", *NEW, surfaces=V1)),
    ("azure_responses", of("responses", *NEW, surfaces=DATED)),
    ("stored_response", of(STORED[0], surfaces=V1)),
    ("azure_stored_response", of(STORED[0], surfaces=DATED)),
    ("stored_response_cancel", of(STORED[1], surfaces=V1)),
    ("azure_stored_response_cancel", of(STORED[1], surfaces=DATED)),
    ("stored_response_input_items", of(STORED[2], surfaces=V1)),
    ("azure_stored_response_input_items", of(STORED[2], surfaces=DATED)),
    ("model_list", of("models")),
    ("model", of("models/{model}")),
]


@pytest.mark.parametrize(("function", "expected"), FORMER)
def test_what_was_switched_off_in_version_0_1_stays_off(function: str, expected: set[tuple[str, str]]) -> None:
    changes = {f"AzureWebJobs.{function}.Disabled": "true"}
    assert disabled(**changes) == expected
    (warning,) = settings(**changes).warnings
    assert warning.startswith(f"AzureWebJobs.{function}.Disabled is a setting of a former version")
    assert all(path in warning for _, path in expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AzureWebJobs.embeddings.Disabled", "1"),
        ("AzureWebJobs.Embeddings.Disabled", "True"),
        ("AZUREWEBJOBS__embeddings__DISABLED", "TRUE"),
        ("AzureWebJobs_embeddings_Disabled", "true"),
        ("AzureWebJobs:embeddings:Disabled", " true "),
    ],
)
def test_a_former_name_is_found_in_every_spelling(name: str, value: str) -> None:
    assert {operation.path for _, operation in settings(**{name: value}).disabled_operations} == {"embeddings"}


@pytest.mark.parametrize("value", ["false", "0", "", "no"])
def test_a_former_name_that_is_not_true_switches_nothing_off(value: str) -> None:
    found = settings(**{"AzureWebJobs.embeddings.Disabled": value})
    assert (found.disabled_operations, found.warnings) == (frozenset(), ())


@pytest.mark.parametrize("names", ["image", "embeddings,audio/speach", "chat_completions", "*", "responses/resp_1", "/"])
def test_an_unknown_operation_is_an_error_so_that_nothing_stays_open_by_mistake(names: str) -> None:
    (problem,) = problems(DISABLED_OPERATIONS=names).values()
    assert "is no operation; the operations are chat/completions, responses" in problem
