"""Measure what telemetry costs per call without an OpenTelemetry SDK: `python -m bench.telemetry`."""

import json
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from local.simulator.chat_completions import chat
from shared.operations import CHAT_COMPLETIONS
from shared.telemetry.call_record import SUCCEEDED, CallRecord

CALLS = 10_000
ROUNDS = 5
HEADERS = {"content-type": "application/json", "accept": "application/json"}
TRACED_HEADERS = {**HEADERS, "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
REQUEST_ID = "4b1f0f6e-2d8f-4c5b-9d3e-6a1b2c3d4e5f"
RESPONSE_HEADERS = {"apim-request-id": REQUEST_ID, "x-request-id": REQUEST_ID}
BODY = json.dumps(
    chat({"messages": [{"role": "user", "content": "a prompt"}], "model": "gpt-mini"}, {"reply": "word " * 100})
).encode()


def call(headers: dict[str, str]) -> None:
    record = CallRecord(
        operation=CHAT_COMPLETIONS,
        deployment="gpt-mini",
        caller="team-a",
        stream=False,
        headers=headers,
        request_bytes=len(BODY),
    )
    record.attempt_started(1, "name.openai.azure.com", 443)
    record.response_started(200, RESPONSE_HEADERS)
    record.read(BODY)
    record.end(SUCCEEDED)


def microseconds(work: Callable[[], None]) -> float:
    """Return the CPU time of `work` per call, the median of all rounds."""
    rounds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(CALLS):
            work()
        rounds.append((time.process_time() - started) / CALLS * 1e6)
    return statistics.median(rounds)


def main() -> None:
    logger = logging.getLogger("shared.telemetry.access_log")
    logger.setLevel(logging.WARNING)
    plain, traced = microseconds(lambda: call(HEADERS)), microseconds(lambda: call(TRACED_HEADERS))
    print(f"{plain:.1f} µs per call, {traced:.1f} with a trace context")
    with Path(os.devnull).open("w") as nowhere:
        logger.addHandler(logging.StreamHandler(nowhere))
        logger.propagate = False
        logger.setLevel(logging.INFO)
        print(f"{microseconds(lambda: call(TRACED_HEADERS)):.1f} µs with the access log written")
    if any(name.startswith("opentelemetry.sdk") for name in sys.modules):
        sys.exit("An OpenTelemetry SDK was imported, so these figures are invalid.")


if __name__ == "__main__":
    main()
