"""Test `make contract` with small descriptions: it finds what differs, and nothing else."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.contract.__main__ import main

ITEM = "#/components/schemas/Item"
SCHEMAS: dict[str, Any] = {
    "Response": {
        "type": "object",
        "required": ["id", "output", "error"],
        "properties": {
            "id": {"type": "string"},
            "error": {"type": "object", "nullable": True},
            "output": {"type": "array", "items": {"$ref": ITEM}},
        },
    },
    "Item": {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"type": "string", "enum": ["message", "function_call"]}},
        "discriminator": {"propertyName": "type", "mapping": {"message": f"{ITEM}Message", "function_call": f"{ITEM}Call"}},
    },
    "ItemMessage": {"required": ["content"], "allOf": [{"$ref": ITEM}]},
    "ItemCall": {"required": ["name", "arguments"], "allOf": [{"$ref": ITEM}]},
    "Error": {"required": ["error"]},
    "Event": {
        "oneOf": [
            {"required": ["delta"], "properties": {"type": {"enum": ["response.output_text.delta"]}}},
            {"required": ["sequence_number"], "properties": {"type": {"pattern": "(?<!output_text.delta)$"}}},
        ]
    },
    "Chat": {"required": ["choices"]},
}


def content(**kinds: str) -> Any:
    names = {"json": "application/json", "events": "text/event-stream"}
    return {"content": {names[kind]: {"schema": {"$ref": f"#/components/schemas/{name}"}} for kind, name in kinds.items()}}


V1: dict[str, Any] = {
    "openapi": "3.0.0",
    "info": {"version": "v1", "title": "v1"},
    "paths": {
        "/responses": {
            "post": {"responses": {"200": content(json="Response", events="Event"), "default": content(json="Error")}}
        },
        "/responses/{response_id}": {"get": {"responses": {"200": content(json="Response")}}},
    },
    "components": {"schemas": SCHEMAS},
}
DATED: dict[str, Any] = {
    **V1,
    "info": {"version": "2025-03-01-preview", "title": "dated"},
    "paths": {"/deployments/{deployment-id}/chat/completions": {"post": {"responses": {"200": content(json="Chat")}}}},
}


def run(folder: Path, document: Any) -> int:
    (folder / "description.json").write_text(json.dumps(document))
    return main(folder)


@pytest.mark.parametrize("document", [V1, DATED], ids=["v1", "dated"])
def test_a_true_description_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str], document: Any) -> None:
    assert run(tmp_path, document) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("description.json describes ")
    assert " 0 of " not in line


@pytest.mark.parametrize(
    ("document", "names", "value", "calls", "problem"),
    [
        (V1, ("Response", "properties", "id", "type"), "integer", ("POST responses", "GET responses/{id}"), "/id: 'resp_"),
        (V1, ("Response", "properties", "error", "nullable"), False, ("POST responses",), "/error: None is not of type"),
        (V1, ("ItemMessage", "required"), ["colour"], ("POST responses",), "/output/0: 'colour' is a required property"),
        (V1, ("ItemCall", "required"), ["colour"], ("POST responses",), "/output/0: 'colour' is a required property"),
        (V1, ("Error", "required"), ["colour"], ("POST responses {'input': []}",), "/: 'colour' is a required property"),
        (V1, ("Event", "oneOf", 0, "required"), ["colour"], ("POST responses",), "/: 'colour' is a required property"),
        (DATED, ("Chat", "required"), ["colour"], ("POST chat/completions",), "/: 'colour' is a required property"),
    ],
)
def test_one_mismatch_is_found_with_its_calls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], document: Any, names: Any, value: Any, calls: Any, problem: str
) -> None:
    document = copy.deepcopy(document)
    target = document["components"]["schemas"]
    for name in names[:-1]:
        target = target[name]
    target[names[-1]] = value
    assert run(tmp_path, document) == 1
    found = capsys.readouterr().out.splitlines()[1:]
    problems = [line for line in found if line.startswith("    ")]
    assert problems
    assert all(line.startswith(f"    {problem}") for line in problems)
    for call in calls:
        assert any(line.startswith(f"  {call}") for line in found)


def test_a_success_that_is_not_described_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = copy.deepcopy(V1)
    del document["paths"]["/responses/{response_id}"]["get"]["responses"]["200"]
    assert run(tmp_path, document) == 1
    assert "The status 200 is not described." in capsys.readouterr().out


def test_a_folder_without_a_description_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tmp_path) == 2
    assert "There is no description" in capsys.readouterr().err
