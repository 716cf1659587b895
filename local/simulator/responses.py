"""Simulate the Responses API: create, stream and store responses, and return them later.

The operations: https://platform.openai.com/docs/api-reference/responses, and
https://learn.microsoft.com/azure/foundry/openai/how-to/responses#background-tasks.
"""

import itertools
import json
import secrets
import time
from dataclasses import dataclass, field

from local.simulator import model, payloads
from local.simulator.payloads import ErrorResponse, Event, Json, Payload, invalid_request
from local.simulator.response_events import events, failed_events
from local.simulator.response_payloads import (
    completed_response,
    function_call,
    input_items,
    message,
    reasoning,
    token_usage,
    unfinished,
)
from local.simulator.state import ResourceState

MAX_LISTED = 100


@dataclass
class Stored:
    """Hold a response, the events of its stream, its input, and the items of the whole conversation."""

    response: Json
    events: list[Event]
    items: list[Json]
    conversation: list[Json]
    unread: list[str] = field(default_factory=list)
    """The states of a response in the background that its next reads show, before it is complete."""


class Responses:
    """Store the responses of one resource."""

    def __init__(self, state: ResourceState) -> None:
        self.state = state
        self.stored: dict[str, Stored] = {}

    def create(self, body: Json, script: Json) -> Payload:
        """Create the response that `body` requests, and store it unless `body` says otherwise."""
        store = body.get("store") is not False
        if body.get("background") and not store:
            problem = "Background responses must be stored: 'store' must be true."
            raise ErrorResponse(400, invalid_request(problem, param="background"))
        earlier, items = self.read_input(body, store=store)
        conversation = self.state.conversation(body.get("conversation"))
        output, chunks = self.output(body, [*earlier, *items], script)
        usage = payloads.scripted_usage(token_usage(json.dumps([*earlier, *items]), chunks), script)
        response = completed_response(body, output, usage)
        response["conversation"] = conversation
        obfuscated = (body.get("stream_options") or {}).get("include_obfuscation") is not False
        stream = events(response, chunks, obfuscated=obfuscated)
        if error := script.get("error"):
            response = {**unfinished(response, "failed"), "error": error}
            stream = failed_events(response, stream, script)
        stored = Stored(response, stream, items, [*earlier, *items, *output])
        if store:
            self.stored[response["id"]] = stored
        if body.get("stream"):
            return stream
        if response["background"]:
            stored.unread = ["queued", "in_progress"]
            return unfinished(response, "queued")
        return response

    def output(self, body: Json, conversation: list[Json], script: Json) -> tuple[list[Json], list[str]]:
        """Return the items of the output, and the chunks of the text or of the arguments in the last one."""
        output = []
        include = "reasoning.encrypted_content" in (body.get("include") or ())
        if include or body.get("reasoning"):
            output.append(reasoning(self.state.seal() if include else None))
        if function := model.choose_tool(body, conversation):
            chunks = model.split(model.arguments_for(function))
            return [*output, function_call(function["name"], "".join(chunks))], chunks
        text_format = (body.get("text") or {}).get("format")
        default = model.reply_to(model.last_text(conversation), len(conversation))
        chunks = model.split(script.get("reply") or model.structured_reply(text_format) or default)
        return [*output, message("".join(chunks))], chunks

    def compact(self, body: Json, script: Json) -> Json:
        """Return the user's messages in `body`, and an item with encrypted content that takes the place of the others.

        https://platform.openai.com/docs/api-reference/responses/compact
        """
        earlier, items = self.read_input(body)
        messages = [item for item in items if item.get("role") == "user"]
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
        """Return the items of the conversation so far, and those in `body`. Raise the error for invalid ones."""
        items = [self.resolve(item, store=store) for item in input_items(body.get("input"))]
        previous = body.get("previous_response_id")
        if previous is not None and previous not in self.stored:
            problem = f"Previous response with id '{previous}' not found."
            code = "previous_response_not_found"
            raise ErrorResponse(400, invalid_request(problem, code=code, param="previous_response_id"))
        self.state.check_input(items)
        return self.stored[previous].conversation if previous else [], items

    def resolve(self, item: Json, *, store: bool) -> Json:
        """Return `item`, or the stored item that it refers to."""
        refers = "role" not in item and item.get("type") in (None, "item_reference")
        if not refers and (item.get("type") != "reasoning" or item.get("encrypted_content")):
            return item
        for known in itertools.chain(*(stored.conversation for stored in self.stored.values())):
            if known["id"] == item["id"]:
                return known
        raise ErrorResponse(400, payloads.item_not_found(item["id"], store=store))

    def manage(self, method: str, response_id: str, action: str, query: dict[str, str]) -> Payload:
        """Get, stream, delete or cancel a stored response, or list its input items."""
        if response_id not in self.stored:
            raise ErrorResponse(404, invalid_request(f"Response with id '{response_id}' not found."))
        stored = self.stored[response_id]
        match method, action:
            case "GET", "":
                if query.get("stream") == "true":
                    stored.unread.clear()
                    return stored.events[int(query.get("starting_after", -1)) + 1 :]
                return unfinished(stored.response, stored.unread.pop(0)) if stored.unread else stored.response
            case "DELETE", "":
                del self.stored[response_id]
                return {"id": response_id, "object": "response.deleted", "deleted": True}
            case "POST", "cancel":
                if not stored.response["background"]:
                    raise ErrorResponse(400, invalid_request("Cannot cancel a synchronous response."))
                if stored.unread:
                    stored.response = unfinished(stored.response, "cancelled")
                    stored.unread.clear()
                return stored.response
            case "GET", "input_items":
                return list_page(stored.items, query)
        raise ErrorResponse(404, payloads.RESOURCE_NOT_FOUND)


def list_page(items: list[Json], query: dict[str, str]) -> Json:
    """Return the page of `items` that `query` requests: the last items first, unless it has another order."""
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise ErrorResponse(400, payloads.invalid_value("order", order, ("asc", "desc")))
    limit = payloads.bounded(query, "limit", 20, 1, MAX_LISTED)
    items = items if order == "asc" else items[::-1]
    ids = [item["id"] for item in items]
    start = ids.index(query["after"]) + 1 if "after" in query else 0
    items = items[start : ids.index(query["before"]) if "before" in query else None]
    page = items[:limit]
    ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
    return {"object": "list", "data": page, "has_more": len(items) > limit, **ends}
