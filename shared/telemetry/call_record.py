"""What each call has used, how long it took and why it failed: metrics, a span and one line, told when it ends.

Names are those of OpenTelemetry's GenAI conventions (https://github.com/open-telemetry/semantic-conventions-genai),
which are still in development: all of them stand here. What is the app's own begins with `gateway.`. Until an SDK
is configured, OpenTelemetry drops all but the line. Prompts and replies are never recorded.
"""

import asyncio
import logging
import time
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from opentelemetry import context, metrics, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.errors import CallerGone, GatewayError, UnexpectedError, UpstreamRefusal
from shared.streaming import sse
from shared.upstream.request import CHAT_COMPLETIONS, EMBEDDINGS, RESPONSES, InferenceCall
from shared.wire import FINISHED, TELLING, Told, error_of, loggable, told_by

logger = logging.getLogger(__name__)

SCOPE = "azure_functions_openai"
TRACE_CONTEXT = TraceContextTextMapPropagator()
SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
TOKENS = [4**power for power in range(14)]

tracer = trace.get_tracer(SCOPE)
meter = metrics.get_meter(SCOPE)
duration = meter.create_histogram(
    "gen_ai.client.operation.duration",
    "s",
    "How long calls took, up to the end of their answer.",
    explicit_bucket_boundaries_advisory=SECONDS,
)
time_to_first_chunk = meter.create_histogram(
    "gen_ai.client.operation.time_to_first_chunk",
    "s",
    "How long streams took to their first chunk.",
    explicit_bucket_boundaries_advisory=SECONDS,
)
token_usage = meter.create_histogram(
    "gen_ai.client.token.usage", "{token}", "Tokens that calls used.", explicit_bucket_boundaries_advisory=TOKENS
)
endpoint_up = meter.create_gauge("gateway.endpoint.up", "1", "What the timer found of an endpoint: 1 up, 0 not.")

# The operations that use tokens, with their names in the conventions, which know no other for a response.
OPERATION_NAMES = {CHAT_COMPLETIONS: "chat", RESPONSES: "chat", EMBEDDINGS: "embeddings"}
STORED_RESPONSE = "stored_response"
# What Azure's support asks for, as the line has it.
REQUEST_IDS = {"apim-request-id": "apim_request_id", "x-request-id": "request_id"}
# How many of a stream's events are looked at for the model's name: Azure's first has none.
BEGINNINGS = 8


class CallRecord:
    """One call, from before its first attempt to the end of its answer.

    Until something else is told (`completed`, `failed`, `broke_off`), nobody has waited for the answer.
    """

    def __init__(self, call: InferenceCall) -> None:
        self.started = time.perf_counter()
        self.operation = call.operation if call.operation in OPERATION_NAMES else STORED_RESPONSE
        self.stream = call.stream
        self.status = CallerGone.status
        self.error: str | None = CallerGone.code
        self.cause = ""
        self.attempts = 0
        self.first_chunk: float | None = None
        self.told = Told()
        self.told_error = False
        self.beginnings = 0
        self.request_ids: dict[str, str] = {}
        name = OPERATION_NAMES.get(call.operation, STORED_RESPONSE)
        self.attributes: dict[str, str | int] = {
            "gen_ai.operation.name": name,
            "gen_ai.provider.name": "azure.ai.openai",
            "gateway.caller": call.caller,
        }
        if call.deployment:
            self.attributes["gen_ai.request.model"] = call.deployment
        # The invocation's context where the runtime has been told to attach it, else what the caller has sent.
        parent = context.get_current()
        if not trace.get_current_span(parent).get_span_context().is_valid:
            parent = TRACE_CONTEXT.extract(call.headers, parent)
        self.span = tracer.start_span(
            f"{name} {call.deployment}".rstrip(),
            parent,
            trace.SpanKind.CLIENT,
            {**self.attributes, "gen_ai.request.stream": call.stream},
        )
        self.parent = parent

    def traced(self, call: InferenceCall) -> InferenceCall:
        """`call` with a trace context that has Azure's spans belong to this record's, where there is one."""
        if self.span is trace.get_current_span(self.parent):
            return call
        headers = {**call.headers}
        TRACE_CONTEXT.inject(headers, trace.set_span_in_context(self.span, self.parent))
        return replace(call, headers=headers)

    def asked(self, position: int, address: str, port: int) -> None:
        """Another endpoint is about to be asked."""
        self.attempts += 1
        self.attributes |= {"gateway.endpoint": position, "server.address": address, "server.port": port}

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """Azure has answered; what follows is the body."""
        self.status = status
        self.request_ids = {name: loggable(headers[header]) for header, name in REQUEST_IDS.items() if header in headers}

    def chunk_came(self) -> None:
        if self.first_chunk is None:
            self.first_chunk = time.perf_counter() - self.started

    def read_events(self, events: bytes) -> None:
        """Reads what `events`, whole ones, tell besides what the model says."""
        if self.wants(events):
            for data in sse.data_of(events):
                self.read(data)

    def read_event(self, data: bytes) -> None:
        """The same for one event's data."""
        if self.wants(data):
            self.read(data)

    def wants(self, events: bytes) -> bool:
        if not self.told.model and self.beginnings < BEGINNINGS:
            self.beginnings += 1
            return True
        return TELLING.search(events) is not None

    def read(self, body: bytes) -> None:
        """Reads what an answer, or the data of one event, tells; anything else is passed over."""
        told = told_by(body)
        told = told.response or told
        known = self.told
        known.id, known.model = told.id or known.id, told.model or known.model
        known.usage, known.status = told.usage or known.usage, told.status or known.status
        known.choices += [choice for choice in told.choices if choice.finish_reason]
        self.told_error = self.told_error or told.is_error

    def completed(self) -> None:
        """The answer has come to its end, or at least all that a caller waits for."""
        # Who asks for a response that failed once has been answered.
        is_news = self.operation != STORED_RESPONSE or self.told.status not in FINISHED
        self.error = "upstream_error" if self.told_error and is_news else None

    def failed(self, exc: BaseException) -> None:
        """The call has ended with `exc`; one that was cancelled, since its caller is gone."""
        if isinstance(exc, asyncio.CancelledError):
            exc = CallerGone()
        error = exc if isinstance(exc, GatewayError) else UnexpectedError("")
        self.status, self.error = error.status, error.code
        if isinstance(error, UpstreamRefusal):
            is_filtered = error_of(error.content).code == "content_filter"
            self.error = "content_filter" if is_filtered else str(error.status)

    def broke_off(self, error: str, exc: Exception) -> None:
        """The answer broke off after its status had gone out."""
        self.error, self.cause = error, type(exc).__name__
        if error == UnexpectedError.code:
            # The record with the traceback is lost: to the host, the invocation has ended.
            frames = reversed(traceback.extract_tb(exc.__traceback__))
            self.cause += "".join(f"<{Path(frame.filename).name}:{frame.lineno}" for frame in frames)

    def end(self) -> None:
        """Tells all that is known."""
        took = time.perf_counter() - self.started
        told, attributes = self.told, self.attributes
        if told.model:
            attributes["gen_ai.response.model"] = told.model
        tokens: dict[str, int] = {}
        if told.usage and self.operation != STORED_RESPONSE:
            # Who asks for a stored response again uses nothing.
            tokens["input"] = told.usage.prompt_tokens or told.usage.input_tokens
            if self.operation != EMBEDDINGS:
                tokens["output"] = told.usage.completion_tokens or told.usage.output_tokens
            for kind, count in tokens.items():
                token_usage.record(count, {**attributes, "gen_ai.token.type": kind})
        if self.first_chunk is not None:
            time_to_first_chunk.record(self.first_chunk, attributes)
        outcome = {"error.type": self.error} if self.error else {}
        duration.record(took, {**attributes, **outcome, "gateway.attempts": self.attempts})
        if self.span.is_recording():
            self.end_span(tokens, outcome)
        self.write_line(took, tokens)

    def end_span(self, tokens: Mapping[str, int], outcome: Mapping[str, str]) -> None:
        told = self.told
        reasons = [choice.finish_reason for choice in told.choices]
        if told.status in FINISHED:
            reasons.append(told.status)
        optional: dict[str, Any] = {
            "gen_ai.response.id": told.id,
            "gen_ai.response.finish_reasons": reasons,
            "gen_ai.response.time_to_first_chunk": self.first_chunk,
        }
        self.span.set_attributes(
            {
                **self.attributes,
                **{f"gen_ai.usage.{kind}_tokens": count for kind, count in tokens.items()},
                **{name: value for name, value in optional.items() if value},
                **outcome,
                "gateway.attempts": self.attempts,
            }
        )
        if outcome:
            self.span.set_status(trace.StatusCode.ERROR)
        self.span.end()

    def write_line(self, took: float, tokens: Mapping[str, int]) -> None:
        attributes, span = self.attributes, self.span.get_span_context()
        known: list[tuple[str, object]] = [
            ("deployment", attributes.get("gen_ai.request.model")),
            ("stream", str(self.stream).lower()),
            ("status", self.status),
            ("error", self.error),
            ("cause", self.cause),
            ("duration_ms", round(took * 1000)),
            ("first_chunk_ms", None if self.first_chunk is None else round(self.first_chunk * 1000)),
            *((f"{kind}_tokens", count) for kind, count in tokens.items()),
            ("attempts", self.attempts),
            ("endpoint", attributes.get("gateway.endpoint")),
            *self.request_ids.items(),
            ("trace_id", trace.format_trace_id(span.trace_id) if span.is_valid else None),
        ]
        parts = [f"{name}={value}" for name, value in known if value is not None and value != ""]
        line = f"Call caller={attributes['gateway.caller']} operation={self.operation} {' '.join(parts)}"
        if self.stream:
            # Printed, because the host drops log records of a stream: to it, the invocation has ended.
            print(line, flush=True)
        else:
            logger.info("%s", line)
