"""Build the events of a streamed response.

Their order: https://platform.openai.com/docs/api-reference/responses-streaming.
"""

import json
import secrets

from local.simulator import payloads
from local.simulator.payloads import Event, Json
from local.simulator.response_payloads import text_part, unfinished


def events(response: Json, chunks: list[str], *, obfuscated: bool) -> list[Event]:
    """Return the events of a stream that ends with `response`. `chunks` are those of its message or of its function call.

    With `obfuscated`, they have random characters that hide the lengths of the chunks.
    """
    states = ["queued", "in_progress"] if response["background"] else ["in_progress"]
    stream: list[Json] = [{"type": "response.created", "response": unfinished(response, states[0])}]
    stream += [{"type": f"response.{state}", "response": unfinished(response, state)} for state in states]
    for index, item in enumerate(response["output"]):
        added, parts = item_events(index, item, chunks)
        stream.append({"type": "response.output_item.added", "output_index": index, "item": {**item, **added}})
        stream += [{**part, "output_index": index, "item_id": item["id"]} for part in parts]
        stream.append({"type": "response.output_item.done", "output_index": index, "item": item})
    stream.append({"type": f"response.{response['status']}", "response": response})
    if obfuscated:
        for event in stream:
            if "delta" in event:
                event["obfuscation"] = secrets.token_hex(8)[len(event["delta"]) % 8 :]
    return [encode(number, event) for number, event in enumerate(stream)]


def item_events(index: int, item: Json, chunks: list[str]) -> tuple[Json, list[Json]]:
    """Return the fields that differ when `item` is added, and the events of its parts."""
    match item["type"]:
        case "message":
            (part,) = item["content"]
            text: Json = {"text": part["text"], "logprobs": []}
            parts: list[Json] = [
                {"type": "response.content_part.added", "part": text_part("")},
                *({"type": "response.output_text.delta", "delta": chunk, "logprobs": []} for chunk in chunks),
                {"type": "response.output_text.done", **text},
                {"type": "response.content_part.done", "part": part},
            ]
            return {"status": "in_progress", "content": []}, [{**part, "content_index": 0} for part in parts]
        case "function_call":
            name = "response.function_call_arguments"
            deltas: list[Json] = [{"type": f"{name}.delta", "delta": chunk} for chunk in chunks]
            done = {"type": f"{name}.done", "name": item["name"], "arguments": item["arguments"]}
            return {"status": "in_progress", "arguments": ""}, [*deltas, done]
    return {"encrypted_content": None}, []


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
