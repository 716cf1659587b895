"""Record one call: what it used, how long it took and how it ended.

The record becomes metrics, a span and a line of the access log when the call ends. Prompts and replies are never
recorded. Names are those of OpenTelemetry's GenAI conventions, as in `metrics`.
"""

import asyncio
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry import context, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.errors import (
    ClientDisconnected,
    GatewayError,
    InternalError,
    UpstreamErrorResponse,
    UpstreamFailure,
    error_detail,
    loggable,
)
from shared.operations import EMBEDDINGS, Operation
from shared.streaming import sse
from shared.telemetry import access_log, metrics
from shared.telemetry.response_metadata import FINAL_STATES, METADATA, ResponseMetadata, metadata_of

TRACE_CONTEXT = TraceContextTextMapPropagator()
tracer = trace.get_tracer(metrics.SCOPE)

# The ids that Azure's support asks for, with their names in the access log.
REQUEST_IDS = {"apim-request-id": "apim_request_id", "x-request-id": "request_id"}
# How many of a stream's events are searched for the model's name, which Azure's first event lacks.
EVENTS_UNTIL_MODEL = 8


@dataclass(frozen=True)
class Outcome:
    """How a call ended: an error code and what caused it, both empty after a success.

    `status` is the HTTP status that the caller gets. None stands for the status of Azure's response.
    """

    error: str = ""
    status: int | None = None
    cause: str = ""
    request_id: str = ""
    """The id of an error response of the app's own."""


SUCCEEDED = Outcome()
DISCONNECTED = Outcome(ClientDisconnected.code)


def failed(exc: BaseException) -> Outcome:
    """Return the outcome of a call that `exc` ended before its response began. Cancellation means a disconnect."""
    if isinstance(exc, asyncio.CancelledError):
        exc = ClientDisconnected()
    error = exc if isinstance(exc, GatewayError) else InternalError()
    if isinstance(error, UpstreamErrorResponse):
        is_filtered = error_detail(error.content).code == "content_filter"
        return Outcome("content_filter" if is_filtered else str(error.status), error.status)
    # Of an `InternalError`, the log has the id with the traceback.
    return Outcome(str(error.code), error.status, request_id=error.request_id if error is exc else "")


def interrupted(code: str, exc: Exception) -> Outcome:
    """Return the outcome of a call whose response `exc` interrupted, with the error `code`."""
    cause = type(exc).__name__
    if code == InternalError.code:
        # The host drops the log record with the traceback, so the access log has its file names and lines.
        frames = reversed(traceback.extract_tb(exc.__traceback__))
        cause += "".join(f"<{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
    return Outcome(code, cause=cause)


class CallRecord:
    """Record one call, from before its first attempt to the end of its response.

    `deployment` may be empty; `headers` may have the caller's trace context.
    """

    def __init__(
        self, *, operation: Operation, deployment: str, caller: str, stream: bool, headers: Mapping[str, str]
    ) -> None:
        self.started = time.perf_counter()
        self.operation = operation
        self.stream = stream
        self.status = 0
        self.outcome: Outcome | None = None
        self.attempts = 0
        self.first_chunk: float | None = None
        self.metadata = ResponseMetadata()
        self.finish_reasons: list[str] = []
        self.observer: Callable[[ResponseMetadata], None] | None = None
        """Gets the metadata of the response, or of each event of its stream."""
        self.error_code: str | None = None
        """The code of the error that the response reports, fit for the log and maybe empty; None without an error."""
        self.ends_after_invocation = stream
        """Whether the response goes out after the function has returned it, when the host drops log records."""
        self.events_searched = 0
        self.request_ids: dict[str, str] = {}
        name = operation.gen_ai or operation.name
        self.attributes: dict[str, str | int] = {
            "gen_ai.operation.name": name,
            "gen_ai.provider.name": "azure.ai.openai",
            "gateway.caller": caller,
        }
        if deployment:
            self.attributes["gen_ai.request.model"] = deployment
        # The parent is the invocation's span where the runtime attaches it, else the caller's.
        parent = context.get_current()
        if not trace.get_current_span(parent).get_span_context().is_valid:
            parent = TRACE_CONTEXT.extract(headers, parent)
        self.parent = parent
        self.span = tracer.start_span(
            f"{name} {deployment}".rstrip(),
            parent,
            trace.SpanKind.CLIENT,
            {**self.attributes, "gen_ai.request.stream": stream},
        )

    def trace_headers(self) -> dict[str, str]:
        """Return the headers that make Azure's spans children of this call's; empty without an SDK."""
        headers: dict[str, str] = {}
        if self.span is not trace.get_current_span(self.parent):
            TRACE_CONTEXT.inject(headers, trace.set_span_in_context(self.span, self.parent))
        return headers

    def attempt_started(self, position: int, host: str, port: int) -> None:
        """Record an attempt at the endpoint number `position`."""
        self.attempts += 1
        self.attributes |= {"gateway.endpoint": position, "server.address": host, "server.port": port}

    def response_started(self, status: int, headers: Mapping[str, str]) -> None:
        """Record the status and the headers of Azure's response."""
        self.status = status
        self.request_ids = {name: loggable(headers[header]) for header, name in REQUEST_IDS.items() if header in headers}

    def chunk_received(self) -> None:
        """Record that a chunk of a stream has arrived; only the first one counts."""
        if self.first_chunk is None:
            self.first_chunk = time.perf_counter() - self.started

    def read_events(self, events: bytes) -> None:
        """Read the metadata of whole events."""
        if self.may_have_metadata(events):
            for data in sse.data_of(events):
                self.read_event(data)

    def read_event(self, data: bytes) -> None:
        """Read the metadata in the data of one event."""
        if self.may_have_metadata(data):
            self.read(data)

    def may_have_metadata(self, events: bytes) -> bool:
        if not self.metadata.model and self.events_searched < EVENTS_UNTIL_MODEL:
            self.events_searched += 1
            return True
        return METADATA.search(events) is not None

    def read(self, body: bytes) -> None:
        """Read the metadata of a response's body or of an event's data; ignore anything else."""
        new = metadata_of(body)
        if self.observer:
            self.observer(new)
        if error := new.reported_error:
            self.error_code = self.error_code or error.code
        new = new.response or new
        known = self.metadata
        known.id, known.model = new.id or known.id, new.model or known.model
        known.usage, known.status = new.usage or known.usage, new.status or known.status
        self.finish_reasons += [choice.finish_reason for choice in new.choices or () if choice and choice.finish_reason]

    @property
    def may_end_here(self) -> bool:
        """Return whether the content may be complete without a last event: a choice has finished, the usage is there, or the
        caller asked for a part of a stored response's events.
        """
        is_finished = bool(self.finish_reasons) or self.metadata.usage is not None
        return is_finished or not self.operation.uses_tokens

    def reported_error(self) -> Outcome:
        """Return the outcome of a call whose response reports an error."""
        return Outcome(UpstreamFailure.code, cause=self.error_code or "")

    def end(self, outcome: Outcome) -> None:
        """Write metrics, span and access log. Only the first outcome counts."""
        if self.outcome:
            return
        uses_tokens = self.operation.uses_tokens
        if (
            outcome == SUCCEEDED
            and self.error_code is not None
            and (uses_tokens or self.metadata.status not in FINAL_STATES)
        ):
            # The response reports an error. Retrieving a stored response that failed earlier is still a success.
            outcome = self.reported_error()
        self.outcome = outcome
        took = time.perf_counter() - self.started
        metadata, attributes = self.metadata, self.attributes
        if metadata.model:
            attributes["gen_ai.response.model"] = metadata.model
        tokens: dict[str, int] = {}
        if metadata.usage and uses_tokens:
            tokens["input"] = metadata.usage.prompt_tokens or metadata.usage.input_tokens or 0
            if self.operation != EMBEDDINGS:
                tokens["output"] = metadata.usage.completion_tokens or metadata.usage.output_tokens or 0
            for kind, count in tokens.items():
                metrics.token_usage.record(count, {**attributes, "gen_ai.token.type": kind})
        if self.first_chunk is not None:
            metrics.time_to_first_chunk.record(self.first_chunk, attributes)
        error = {"error.type": outcome.error} if outcome.error else {}
        metrics.duration.record(took, {**attributes, **error, "gateway.attempts": self.attempts})
        if self.span.is_recording():
            self.end_span(tokens, error)
        self.write_access_log(outcome, took, tokens)

    def end_span(self, tokens: Mapping[str, int], error: Mapping[str, str]) -> None:
        metadata = self.metadata
        reasons = [*self.finish_reasons]
        if metadata.status in FINAL_STATES:
            reasons.append(metadata.status)
        optional: dict[str, Any] = {
            "gen_ai.response.id": metadata.id,
            "gen_ai.response.finish_reasons": reasons,
            "gen_ai.response.time_to_first_chunk": self.first_chunk,
        }
        self.span.set_attributes(
            {
                **self.attributes,
                **{f"gen_ai.usage.{kind}_tokens": count for kind, count in tokens.items()},
                **{name: value for name, value in optional.items() if value},
                **error,
                "gateway.attempts": self.attempts,
            }
        )
        if error:
            self.span.set_status(trace.StatusCode.ERROR)
        self.span.end()

    def write_access_log(self, outcome: Outcome, took: float, tokens: Mapping[str, int]) -> None:
        attributes, span = self.attributes, self.span.get_span_context()
        fields: list[tuple[str, object]] = [
            ("caller", attributes["gateway.caller"]),
            ("operation", self.operation.name),
            ("deployment", attributes.get("gen_ai.request.model")),
            ("stream", str(self.stream).lower()),
            ("status", outcome.status or self.status),
            ("error", outcome.error),
            ("cause", outcome.cause),
            ("duration_ms", round(took * 1000)),
            ("first_chunk_ms", None if self.first_chunk is None else round(self.first_chunk * 1000)),
            *((f"{kind}_tokens", count) for kind, count in tokens.items()),
            ("attempts", self.attempts),
            ("endpoint", attributes.get("gateway.endpoint")),
            *({"request_id": outcome.request_id} | self.request_ids).items(),
            ("trace_id", trace.format_trace_id(span.trace_id) if span.is_valid else None),
        ]
        access_log.write(fields, printed=self.ends_after_invocation)
