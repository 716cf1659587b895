"""Build responses and their items: those of an output, and those of an input as the API lists them.

Sources: https://platform.openai.com/docs/api-reference/responses/object, and AzureResponse and ItemResource in
https://github.com/Azure/azure-rest-api-specs (ai/data-plane/OpenAI.v1/azure-v1-v1-generated.json). The content filters are
in https://github.com/Azure/azure-rest-api-specs/pull/42141.
"""

import secrets
import time
from typing import Any

from local.simulator import payloads
from local.simulator.payloads import ErrorResponse, Json, invalid_request

# How the ids of items begin.
PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}
SAFE = {**payloads.SAFE, **{name: {"filtered": False, "detected": False} for name in ("jailbreak", "task_adherence")}}
OFFSETS = {"start_offset": 0, "end_offset": 0, "check_offset": 0}
# The fields that a response repeats, and what they are by default.
ECHOED: Json = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}


def completed_response(body: Json, output: list[Json], usage: Json) -> Json:
    reasoning = body.get("reasoning") or {}
    return {
        "id": f"resp_{secrets.token_hex(24)}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "completed",
        "background": bool(body.get("background")),
        "content_filters": [
            {"blocked": False, "source_type": source, "content_filter_results": SAFE, "content_filter_offsets": OFFSETS}
            for source in ("prompt", "completion")
        ],
        "error": None,
        "incomplete_details": None,
        **{name: default if body.get(name) is None else body[name] for name, default in ECHOED.items()},
        "model": payloads.model_name(body.get("model")),
        "output": output,
        "reasoning": {"effort": None, "summary": None, **reasoning},
        "text": {"format": {"type": "text"}, "verbosity": "medium", **(body.get("text") or {})},
        "tools": [listed_tool(tool) for tool in body.get("tools") or ()],
        "usage": usage,
    }


def unfinished(response: Json, status: str) -> Json:
    """Return `response` with this status, before it has any output."""
    return {**response, "status": status, "content_filters": [], "output": [], "usage": None}


def listed_tool(tool: Json) -> Json:
    """Return a tool of a request as a response repeats it."""
    return {"description": None, "parameters": None, "strict": True, **tool} if tool.get("type") == "function" else tool


def token_usage(prompt: str, chunks: list[str]) -> Json:
    """Return the token usage in the words of the Responses API."""
    usage = payloads.token_usage(prompt, chunks)
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage["total_tokens"],
    }


def input_items(given: Any) -> list[Json]:
    """Return the input of a request as items with ids."""
    if given is None:
        raise ErrorResponse(400, payloads.missing_parameter("input"))
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise ErrorResponse(400, invalid_request("Invalid type for 'input'.", code="invalid_type", param="input"))
    return [listed_item(item) for item in given]


def listed_item(item: Json) -> Json:
    """Return an item of a request as the API lists it: with its type, an id and a status, and a message with parts."""
    if "role" in item:
        item = {"type": "message", **item, "content": message_parts(item["role"], item["content"])}
    kind = item.get("type")
    if kind in PREFIXES and kind != "reasoning":
        item = {"status": "completed", **item}
    return {"id": new_id(kind), **item}


def message_parts(role: str, content: Any) -> Any:
    if not isinstance(content, str):
        return content
    return [text_part(content) if role == "assistant" else {"type": "input_text", "text": content}]


def text_part(text: str) -> Json:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def message(text: str) -> Json:
    item = {"id": new_id("message"), "type": "message", "role": "assistant", "status": "completed"}
    return {**item, "content": [text_part(text)]}


def reasoning(encrypted_content: str | None) -> Json:
    item = {"id": new_id("reasoning"), "type": "reasoning", "summary": [], "content": []}
    return {**item, "encrypted_content": encrypted_content}


def function_call(name: str, arguments: str) -> Json:
    item = {"id": new_id("function_call"), "type": "function_call", "status": "completed"}
    return {**item, "name": name, "arguments": arguments, "call_id": f"call_{secrets.token_hex(12)}"}


def new_id(kind: str | None) -> str:
    return f"{PREFIXES.get(kind or '', 'item')}_{secrets.token_hex(24)}"
