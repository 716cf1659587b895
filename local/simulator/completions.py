"""Simulate completions of texts: the operation that chats replaced.

Source: createCompletionResponse in https://github.com/Azure/azure-rest-api-specs
(cognitiveservices/data-plane/AzureOpenAI/inference/stable/2024-10-21/inference.yaml).
"""

import itertools
import json
import secrets
import time
from typing import Any

from local.simulator import model, payloads
from local.simulator.chat_completions import LOGPROB, MAX_CHOICES
from local.simulator.payloads import FINGERPRINT, PROMPT_FILTER_RESULTS, SAFE, ErrorResponse, Event, Json, Payload

MAX_LOGPROBS = 5


def complete(body: Json, script: Json) -> Payload:
    """Return the completions that `body` requests: `n` choices for each prompt."""
    prompts = read_prompts(body.get("prompt"))
    number = payloads.bounded(body, "n", 1, 1, MAX_CHOICES)
    alternatives = None if body.get("logprobs") is None else payloads.bounded(body, "logprobs", 0, 0, MAX_LOGPROBS)
    replies = [model.split(script.get("reply") or model.reply_to(prompt, 1)) for prompt in prompts for _ in range(number)]
    output = [*itertools.chain(*replies)]
    usage = payloads.scripted_usage(payloads.token_usage(json.dumps(body["prompt"]), output), script)
    filtered = [{**PROMPT_FILTER_RESULTS[0], "prompt_index": index} for index in range(len(prompts))]
    common = {
        "created": int(time.time()),
        "id": f"cmpl-{secrets.token_hex(14)}",
        "model": payloads.model_name(body.get("model")),
        "object": "text_completion",
        "system_fingerprint": FINGERPRINT,
    }
    if not body.get("stream"):
        if error := script.get("error"):
            return payloads.stream_error(error)
        choices = [choice(index, chunks, "stop", alternatives) for index, chunks in enumerate(replies)]
        return {**common, "choices": choices, "prompt_filter_results": filtered, "usage": usage}
    parts = [choice(index, [text], None, alternatives) for index, chunks in enumerate(replies) for text in chunks]
    ends = [choice(index, [], "stop", None) for index in range(len(replies))]
    stream = payloads.completion_chunks(common, filtered, parts + ends, payloads.usage_of_stream(body, usage))
    return payloads.end_completion(map(encode, stream), script)


def read_prompts(given: Any) -> list[str]:
    """Return the prompts. `given` is a text, a list of texts, a list of token numbers, or a list of these."""
    if not isinstance(given, str | list) or not given:
        raise ErrorResponse(400, payloads.missing_parameter("prompt"))
    if isinstance(given, str) or all(isinstance(token, int) for token in given):
        given = [given]
    return [str(prompt) for prompt in given]


def choice(index: int, chunks: list[str], finish_reason: str | None, alternatives: int | None) -> Json:
    """Return a choice with these chunks, or a part of one, and as many `alternatives` for each chunk."""
    return {
        "content_filter_results": SAFE if chunks else {},
        "finish_reason": finish_reason,
        "index": index,
        "logprobs": None if alternatives is None else logprobs(chunks, alternatives),
        "text": "".join(chunks),
    }


def logprobs(chunks: list[str], alternatives: int) -> Json:
    return {
        "text_offset": [*itertools.accumulate(map(len, chunks[:-1]), initial=0)],
        "token_logprobs": [LOGPROB] * len(chunks),
        "tokens": chunks,
        "top_logprobs": [{chunk: LOGPROB} if alternatives else {} for chunk in chunks],
    }


def encode(chunk: Json) -> Event:
    has_output = any(choice["text"] for choice in chunk["choices"])
    return Event(json.dumps(chunk, ensure_ascii=False), has_output=has_output, usage=chunk.get("usage"))
