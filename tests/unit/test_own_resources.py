"""Test which calls name services of the caller's own. Their failures must not start a cooldown for the others."""

import json
from typing import Any, get_args

import pytest
from openai.types.responses import Tool

from shared.openai_api.request_body import parse_fields
from shared.openai_api.translate import TOOLS_WITHOUT_RESOURCES, names_own_resources

CONNECTION = {"project_connection_id": "mine"}


def names_own(**fields: Any) -> bool:
    return names_own_resources(parse_fields(json.dumps(fields).encode()))


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "mcp", "server_url": "https://mine.example"},
        {"type": "file_search", "vector_store_ids": ["vs_1"]},
        {"type": "code_interpreter", "container": "cntr_1"},
        {"type": "shell", "environment": {"type": "container_reference", "container_id": "cntr_1"}},
        {"type": "image_generation", "model": "mine"},
        {"type": "azure_ai_search", "azure_ai_search": {"indexes": [CONNECTION]}},
        {"type": "bing_grounding", "bing_grounding": {"search_configurations": [CONNECTION]}},
        {"type": "bing_custom_search_preview", "bing_custom_search_preview": {"search_configurations": [CONNECTION]}},
        {"type": "sharepoint_grounding_preview", "sharepoint_grounding_preview": {"project_connections": [CONNECTION]}},
        {"type": "openapi", "openapi": {"spec": {}}},
        {"type": "a2a_preview", **CONNECTION},
        {"type": "web_search", "custom_search_configuration": CONNECTION},
        {"type": "web_search", "web_search": {"custom_search_configuration": CONNECTION}},
        {"type": "of_the_future"},
    ],
)
def test_a_tool_may_name_services_of_the_callers_own(tool: dict[str, Any]) -> None:
    assert names_own(tools=[{"type": "function", "function": {"name": "f"}}, tool])


@pytest.mark.parametrize("field", ["agent", "agent_reference", "prompt"])
def test_a_stored_configuration_may_name_them(field: str) -> None:
    assert names_own(input="Hello", **{field: {"name": "mine"}})
    assert not names_own(input="Hello", **{field: None})


@pytest.mark.parametrize("kind", sorted(TOOLS_WITHOUT_RESOURCES))
def test_other_tools_name_none(kind: str) -> None:
    assert not names_own(tools=[{"type": kind, "name": "f", "search_context_size": "low"}])


def test_the_sdk_knows_the_other_tools() -> None:
    kinds = {kind for tool in get_args(get_args(Tool)[0]) for kind in get_args(tool.model_fields["type"].annotation)}
    assert kinds > TOOLS_WITHOUT_RESOURCES


def test_a_call_without_tools_names_none() -> None:
    assert not names_own(input="Hello")
    assert not names_own(input="Hello", tools=None)
