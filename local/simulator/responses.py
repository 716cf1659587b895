"""Simulate the Responses API: create, stream and store responses, and return them later.

The payloads and the order of events: https://platform.openai.com/docs/api-reference/responses and
.../docs/api-reference/responses-streaming.
"""

import itertools
import json
import secrets
import time
from typing import Any

from local.simulator import model, payloads
from local.simulator.payloads import ErrorResponse, Event, Json, Payload, invalid_request
from local.simulator.state import ResourceState


class Responses:
    """Store the responses of one resource, and their input items."""

    def __init__(self, state: ResourceState) -> None:
        self.state = state
        self.stored: dict[str, Json] = {}
        self.inputs: dict[str, list[Json]] = {}

    def create(self, body: Json, script: Json) -> Payload:
        """Create the response that `body` requests, and store it unless `body` says otherwise."""
        store = body.get("store") is not False
        earlier, items = self.read_input(body, store=store)
        conversation = self.state.conversation(body.get("conversation"))
        text_format = (body.get("text") or {}).get("format")
        default = model.reply_to(model.last_text(items), len(earlier) + len(items))
        chunks = model.split(script.get("reply") or model.structured_reply(text_format) or default)
        output = [message("".join(chunks))]
        include = "reasoning.encrypted_content" in (body.get("include") or ())
        if include or body.get("reasoning"):
            output.insert(0, reasoning(self.state.seal() if include else None))
        prompt = json.dumps([*earlier, *items])
        usage = payloads.scripted_usage(token_usage(prompt, chunks), script)
        response = completed_response(body, output, usage)
        response["conversation"] = conversation
        if body.get("background"):
            response |= {"status": "queued", "output": [], "usage": None}
        stream = events(response, chunks) if body.get("stream") else []
        if error := script.get("error"):
            response |= {"status": "failed", "error": error, "output": [], "usage": None}
            stream = stream and failed_events(response, stream, script)
        if store:
            self.stored[response["id"]] = response
            self.inputs[response["id"]] = items
        return stream or response

    def compact(self, body: Json, script: Json) -> Json:
        """Return the user's messages in `body`, and an item with encrypted content that takes the place of the others.

        https://platform.openai.com/docs/api-reference/responses/compact
        """
        earlier, items = self.read_input(body)
        messages = [user_message(item) for item in items if item.get("role") == "user"]
        item = {"id": f"cmp_{secrets.token_hex(24)}", "type": "compaction", "encrypted_content": self.state.seal()}
        return {
            "id": f"resp_{secrets.token_hex(24)}",
            "object": "response.compaction",
            "created_at": int(time.time()),
            "output": [*messages, item],
            "usage": payloads.scripted_usage(token_usage(json.dumps([*earlier, *items]), [""]), script),
        }

    def count_input_tokens(self, body: Json, script: Json) -> Json:
        """Return how many tokens the input in `body` has.

        https://platform.openai.com/docs/api-reference/responses/input-tokens
        """
        earlier, items = self.read_input(body)
        usage = payloads.scripted_usage(token_usage(json.dumps([*earlier, *items]), []), script)
        return {"object": "response.input_tokens", "input_tokens": usage["input_tokens"]}

    def read_input(self, body: Json, *, store: bool = True) -> tuple[list[Json], list[Json]]:
        """Return the input items of the previous response, and those in `body`. Raise the error for invalid ones."""
        items = [self.resolve(item, store=store) for item in input_items(body.get("input"))]
        previous = body.get("previous_response_id")
        if previous is not None and previous not in self.stored:
            problem = f"Previous response with id '{previous}' not found."
            code = "previous_response_not_found"
            raise ErrorResponse(400, invalid_request(problem, code=code, param="previous_response_id"))
        self.state.check_input(items)
        return self.inputs[previous] if previous else [], items

    def resolve(self, item: Json, *, store: bool) -> Json:
        """Return `item`, or the stored item that it refers to."""
        refers = "role" not in item and item.get("type") in (None, "item_reference")
        if not refers and (item.get("type") != "reasoning" or item.get("encrypted_content")):
            return item
        outputs: list[list[Json]] = [response["output"] for response in self.stored.values()]
        for stored in itertools.chain(*self.inputs.values(), *outputs):
            if stored["id"] == item["id"]:
                return stored
        raise ErrorResponse(400, payloads.item_not_found(item["id"], store=store))

    def manage(self, method: str, response_id: str, action: str, query: dict[str, str]) -> Json:
        """Get, delete or cancel a stored response, or list its input items."""
        if response_id not in self.stored:
            raise ErrorResponse(404, invalid_request(f"Response with id '{response_id}' not found."))
        response = self.stored[response_id]
        match method, action:
            case "GET", "":
                return response
            case "DELETE", "":
                del self.stored[response_id], self.inputs[response_id]
                return {"id": response_id, "object": "response", "deleted": True}
            case "POST", "cancel":
                if not response["background"]:
                    raise ErrorResponse(400, invalid_request("Cannot cancel a synchronous response."))
                response["status"] = "cancelled"
                return response
            case "GET", "input_items":
                data = self.inputs[response_id][: int(query.get("limit", 20))]
                ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]}
                return {"object": "list", "data": data, "has_more": False, **ends}
        raise ErrorResponse(404, payloads.RESOURCE_NOT_FOUND)


def input_items(given: Any) -> list[Json]:
    """Return the input as a list of items with ids, as the API lists them."""
    if isinstance(given, str):
        given = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": given}]}]
    if not isinstance(given, list) or not given:
        problem = "Missing required parameter: 'input'." if given is None else "Invalid type for 'input'."
        raise ErrorResponse(400, invalid_request(problem, code=payloads.INVALID, param="input"))
    return [{"id": f"msg_{secrets.token_hex(24)}", **item} for item in given]


def completed_response(body: Json, output: list[Json], usage: Json) -> Json:
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
        "model": f"{body.get('model') or 'simulator'}-2026-11-01",
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": body.get("previous_response_id"),
        "store": body.get("store") is not False,
        "temperature": body.get("temperature", 1.0),
        "text": body.get("text") or {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools") or [],
        "top_p": body.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": usage,
    }


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


def text_part(text: str) -> Json:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def message(text: str) -> Json:
    item = {"id": f"msg_{secrets.token_hex(24)}", "type": "message", "role": "assistant", "status": "completed"}
    return {**item, "content": [text_part(text)]}


def user_message(item: Json) -> Json:
    """Return a message of a request as the API returns it, with a list of parts as its content."""
    content = item["content"]
    if isinstance(content, str):
        content = [{"type": "input_text", "text": content}]
    return {**item, "type": "message", "status": "completed", "content": content}


def reasoning(encrypted_content: str | None) -> Json:
    return {
        "id": f"rs_{secrets.token_hex(24)}",
        "type": "reasoning",
        "summary": [],
        "encrypted_content": encrypted_content,
    }


def events(response: Json, chunks: list[str]) -> list[Event]:
    """Return the events of a stream that ends with `response`."""
    started = {**response, "status": "in_progress", "output": [], "usage": None}
    stream: list[Json] = [{"type": f"response.{state}", "response": started} for state in ("created", "in_progress")]
    for index, item in enumerate(response["output"]):
        if item["type"] == "reasoning":
            added = {**item, "encrypted_content": None}
            stream += [
                {"type": "response.output_item.added", "output_index": index, "item": added},
                {"type": "response.output_item.done", "output_index": index, "item": item},
            ]
            continue
        position = {"output_index": index, "item_id": item["id"], "content_index": 0}
        text = item["content"][0]["text"]
        added = {**item, "status": "in_progress", "content": []}
        stream += [
            {"type": "response.output_item.added", "output_index": index, "item": added},
            {"type": "response.content_part.added", **position, "part": text_part("")},
            *({"type": "response.output_text.delta", **position, "delta": chunk, "logprobs": []} for chunk in chunks),
            {"type": "response.output_text.done", **position, "text": text, "logprobs": []},
            {"type": "response.content_part.done", **position, "part": text_part(text)},
            {"type": "response.output_item.done", "output_index": index, "item": item},
        ]
    stream.append({"type": f"response.{response['status']}", "response": response})
    return [encode(number, event) for number, event in enumerate(stream)]


def failed_events(response: Json, stream: list[Event], script: Json) -> list[Event]:
    """Return the beginning of `stream`, and then the events of the error of `script`.

    Azure sends the reason after a failed response without one: https://github.com/earendil-works/pi/issues/7983.
    """
    stream = payloads.until_error(stream, 2, script.get("after", 0))
    error, failed = script["error"], script.get("failed", True)
    if failed:
        reason = failed if isinstance(failed, dict) else None
        event = {"type": "response.failed", "response": {**response, "error": reason}}
        stream.append(encode(len(stream), event, has_error=True))
    if not isinstance(failed, dict):
        details = {"code": None, "message": "", "param": None, **error}
        event = {"error": {"type": None, **details}} if script.get("nested") else details
        stream.append(encode(len(stream), {**event, "type": "error"}, has_error=True))
    return stream


def encode(number: int, event: Json, *, has_error: bool = False) -> Event:
    return Event(
        json.dumps({**event, "sequence_number": number}, ensure_ascii=False),
        name=event["type"],
        has_output=event["type"].endswith(".delta"),
        has_error=has_error,
        usage=event.get("response", {}).get("usage"),
    )
