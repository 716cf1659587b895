"""Simulate completions of a text: the operation that chats replaced.

Source: createCompletionResponse in https://github.com/Azure/azure-rest-api-specs
(cognitiveservices/data-plane/AzureOpenAI/inference/stable/2024-10-21/inference.yaml).
"""

import json
import secrets
import time

from local.simulator import model, payloads
from local.simulator.payloads import FINGERPRINT, PROMPT_FILTER_RESULTS, SAFE, ErrorResponse, Event, Json, Payload


def complete(body: Json, script: Json) -> Payload:
    """Return the completion that `body` requests, of its only or its first prompt."""
    prompt = body.get("prompt")
    if not isinstance(prompt, str | list) or not prompt:
        raise ErrorResponse(400, payloads.missing_parameter("prompt"))
    first = prompt if isinstance(prompt, str) else prompt[0]
    chunks = model.split(script.get("reply") or model.reply_to(str(first), 1))
    usage = payloads.scripted_usage(payloads.token_usage(json.dumps(prompt), chunks), script)
    common = {
        "created": int(time.time()),
        "id": f"cmpl-{secrets.token_hex(14)}",
        "model": f"{body.get('model')}-2026-11-01",
        "object": "text_completion",
        "system_fingerprint": FINGERPRINT,
    }
    error = script.get("error")
    if not body.get("stream"):
        if error:
            return payloads.stream_error(error)
        end = choice("".join(chunks), "stop")
        return {**common, "choices": [end], "prompt_filter_results": PROMPT_FILTER_RESULTS, "usage": usage}
    include_usage = (body.get("stream_options") or {}).get("include_usage")
    if include_usage:
        common["usage"] = None
    first_chunk = {"choices": [], "created": 0, "id": "", "model": "", "object": ""}
    events = [
        encode({**first_chunk, "prompt_filter_results": PROMPT_FILTER_RESULTS}),
        *(encode({**common, "choices": [choice(text, None)]}) for text in chunks),
        encode({**common, "choices": [choice("", "stop")]}),
        *([encode({**common, "choices": [], "usage": usage})] if include_usage else []),
        Event("[DONE]"),
    ]
    if error:
        events = payloads.until_error(events, 1, script.get("after", 0))
        events.append(Event(json.dumps(payloads.stream_error(error)), has_error=True))
    return events


def choice(text: str, finish_reason: str | None) -> Json:
    filtered = SAFE if text else {}
    return {
        "content_filter_results": filtered,
        "finish_reason": finish_reason,
        "index": 0,
        "logprobs": None,
        "text": text,
    }


def encode(chunk: Json) -> Event:
    has_output = any(choice["text"] for choice in chunk["choices"])
    return Event(json.dumps(chunk, ensure_ascii=False), has_output=has_output, usage=chunk.get("usage"))
