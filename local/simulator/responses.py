"""The stand-in's Responses API: created, streamed, stored, and asked for again.

The shapes and the order of events: https://platform.openai.com/docs/api-reference/responses and
.../docs/api-reference/responses-streaming.
"""

import json
import secrets
import time
from typing import Any

from local.simulator import model, shapes
from local.simulator.shapes import Event, Json, Refusal

# The first dated version that has these routes.
# https://learn.microsoft.com/azure/ai-foundry/openai/how-to/responses
SINCE = "2025-03-01-preview"


class Responses:
    """Those that one resource has stored, with what they answer."""

    def __init__(self) -> None:
        self.stored: dict[str, Json] = {}
        self.inputs: dict[str, list[Json]] = {}

    def create(self, body: Json, script: Json) -> Json | list[Event]:
        """A response to `body`, or the events of its stream."""
        items = input_items(body.get("input"))
        previous = body.get("previous_response_id")
        if previous is not None and previous not in self.stored:
            raise Refusal(400, previous_not_found(previous))
        earlier = self.inputs[previous] if previous else []
        text_format = (body.get("text") or {}).get("format")
        said = model.reply_to(model.last_text(items), len(earlier) + len(items))
        pieces = model.pieces(script.get("reply") or model.structured(text_format) or said)
        response = self.response(body, json.dumps([*earlier, *items]), pieces)
        if body.get("background"):
            response |= {"status": "queued", "output": [], "usage": None}
        if body.get("store") is not False:
            self.stored[response["id"]] = response
            self.inputs[response["id"]] = items
        return events(response, pieces) if body.get("stream") else response

    def response(self, body: Json, text: str, pieces: list[str]) -> Json:
        used = shapes.usage(text, pieces)
        return {
            "id": f"resp_{secrets.token_hex(24)}",
            "object": "response",
            "created_at": int(time.time()),
            "status": "completed",
            "background": bool(body.get("background")),
            "error": None,
            "incomplete_details": None,
            "instructions": body.get("instructions"),
            "max_output_tokens": body.get("max_output_tokens"),
            "metadata": body.get("metadata") or {},
            "model": f"{body.get('model') or 'stand-in'}-2026-11-01",
            "output": [message("".join(pieces))],
            "parallel_tool_calls": True,
            "previous_response_id": body.get("previous_response_id"),
            "store": body.get("store") is not False,
            "temperature": body.get("temperature", 1.0),
            "text": body.get("text") or {"format": {"type": "text"}},
            "tool_choice": body.get("tool_choice", "auto"),
            "tools": body.get("tools") or [],
            "top_p": body.get("top_p", 1.0),
            "truncation": "disabled",
            "usage": {
                "input_tokens": used["prompt_tokens"],
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": used["completion_tokens"],
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": used["total_tokens"],
            },
        }

    def about(self, method: str, response_id: str, part: str, query: dict[str, str]) -> Json:
        """The answer to a request about a stored response."""
        if response_id not in self.stored:
            raise Refusal(404, shapes.error(None, f"Response with id '{response_id}' not found.", type=shapes.INVALID))
        response = self.stored[response_id]
        match method, part:
            case "GET", "":
                return response
            case "DELETE", "":
                del self.stored[response_id], self.inputs[response_id]
                return {"id": response_id, "object": "response", "deleted": True}
            case "POST", "cancel":
                if not response["background"]:
                    raise Refusal(400, shapes.error(None, "Cannot cancel a synchronous response.", type=shapes.INVALID))
                response["status"] = "cancelled"
                return response
            case "GET", "input_items":
                data = self.inputs[response_id][: int(query.get("limit", 20))]
                ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]}
                return {"object": "list", "data": data, "has_more": False, **ends}
        raise Refusal(404, shapes.RESOURCE_NOT_FOUND)


def input_items(given: Any) -> list[Json]:
    """The input as items, each with an id, as the API lists it."""
    if isinstance(given, str):
        given = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": given}]}]
    if not isinstance(given, list) or not given:
        wrong = "Missing required parameter: 'input'." if given is None else "Invalid type for 'input'."
        raise Refusal(400, shapes.error("invalid_request_error", wrong, type=shapes.INVALID, param="input"))
    return [{"id": f"msg_{secrets.token_hex(24)}", **item} for item in given]


def previous_not_found(response_id: str) -> Json:
    message = f"Previous response with id '{response_id}' not found."
    return shapes.error("previous_response_not_found", message, type=shapes.INVALID, param="previous_response_id")


def part(text: str) -> Json:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def message(text: str) -> Json:
    item = {"id": f"msg_{secrets.token_hex(24)}", "type": "message", "role": "assistant", "status": "completed"}
    return {**item, "content": [part(text)]}


def events(response: Json, pieces: list[str]) -> list[Event]:
    """The stream that ends in `response`."""
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    told: list[Json] = [{"type": f"response.{state}", "response": begun} for state in ("created", "in_progress")]
    for index, item in enumerate(response["output"]):
        at = {"output_index": index, "item_id": item["id"], "content_index": 0}
        text = item["content"][0]["text"]
        opened = {**item, "status": "in_progress", "content": []}
        told += [
            {"type": "response.output_item.added", "output_index": index, "item": opened},
            {"type": "response.content_part.added", **at, "part": part("")},
            *({"type": "response.output_text.delta", **at, "delta": piece, "logprobs": []} for piece in pieces),
            {"type": "response.output_text.done", **at, "text": text, "logprobs": []},
            {"type": "response.content_part.done", **at, "part": part(text)},
            {"type": "response.output_item.done", "output_index": index, "item": item},
        ]
    told.append({"type": f"response.{response['status']}", "response": response})
    return [
        Event(
            json.dumps({**event, "sequence_number": number}, ensure_ascii=False),
            name=event["type"],
            piece=event["type"].endswith(".delta"),
            usage=event.get("response", {}).get("usage"),
        )
        for number, event in enumerate(told)
    ]
