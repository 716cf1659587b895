"""Record one call: what it used, how long it took and how it ended.

The record becomes metrics, a span and a line of the access log when the call ends. Prompts and replies are never
recorded. Names are those of OpenTelemetry's GenAI conventions, as in `metrics`.
"""

import asyncio
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opentelemetry import context, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.errors import (
    REQUEST_ID,
    ClientDisconnected,
    GatewayError,
    InternalError,
    UpstreamErrorResponse,
    UpstreamFailure,
    error_detail,
    loggable,
)
from shared.operations import Operation
from shared.streaming import sse
from shared.telemetry import access_log, metrics
from shared.telemetry.response_metadata import FINAL_STATES, METADATA, ResponseMetadata, metadata_of

TRACE_CONTEXT = TraceContextTextMapPropagator()
tracer = trace.get_tracer(metrics.SCOPE)

# The ids that Azure's support asks for, with their names in the access log.
REQUEST_IDS = {"apim-request-id": "apim_request_id", REQUEST_ID: "request_id"}
# The span's attributes for each kind of tokens and of bytes.
COUNTS = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
    "request_bytes": "gateway.request.bytes",
    "response_bytes": "gateway.response.bytes",
}
# The kinds of tokens in metrics. The others are parts of these.
TOKEN_TYPES = {"input_tokens": "input", "output_tokens": "output"}
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
    request_ids: Mapping[str, str] = field(default_factory=dict)
    """The ids of an error response."""


SUCCEEDED = Outcome()
DISCONNECTED = Outcome(ClientDisconnected.code)


def failed(exc: BaseException) -> Outcome:
    """Return the outcome of a call that `exc` ended before its response began. Cancellation means a disconnect."""
    if isinstance(exc, asyncio.CancelledError):
        return Outcome(ClientDisconnected.code, ClientDisconnected.status)
    if not isinstance(exc, GatewayError):
        # The log has its id with the traceback.
        return Outcome(InternalError.code, InternalError.status)
    if isinstance(exc, UpstreamErrorResponse):
        is_filtered = error_detail(exc.content).code == "content_filter"
        code = "content_filter" if is_filtered else str(exc.status)
        return Outcome(code, exc.status, request_ids=request_ids(exc.headers))
    return Outcome(str(exc.code), exc.status, request_ids=request_ids({**exc.headers, REQUEST_ID: exc.request_id}))


def request_ids(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the ids in the headers of a response, by their names in the access log."""
    return {name: loggable(headers[header]) for header, name in REQUEST_IDS.items() if header in headers}


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

    `deployment` may be empty; `headers` may have the caller's trace context. `request_bytes` is the size of the body for
    Azure.
    """

    def __init__(
        self,
        *,
        operation: Operation,
        deployment: str,
        caller: str,
        stream: bool,
        headers: Mapping[str, str],
        request_bytes: int,
    ) -> None:
        self.started = time.perf_counter()
        self.operation = operation
        self.stream = stream
        self.request_bytes = request_bytes
        self.response_bytes = 0
        """How much of the body of Azure's response has arrived."""
        self.status = 0
        """The status of Azure's response, 0 without one that was passed on."""
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
        """Record the status and the headers of Azure's response. Of its body, nothing counts that was read before."""
        self.status = status
        self.response_bytes = 0
        self.request_ids = request_ids(headers)

    def chunk_received(self, size: int) -> None:
        """Record that a chunk of a stream has arrived, with its bytes. The first one's time counts."""
        self.response_bytes += size
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
        counts = metadata.usage.reported() if metadata.usage and uses_tokens else {}
        for name, kind in TOKEN_TYPES.items():
            if name in counts:
                metrics.token_usage.record(counts[name], {**attributes, "gen_ai.token.type": kind})
        if not counts and self.status:
            counts = {"request_bytes": self.request_bytes, "response_bytes": self.response_bytes}
        if self.first_chunk is not None:
            metrics.time_to_first_chunk.record(self.first_chunk, attributes)
        error = {"error.type": outcome.error} if outcome.error else {}
        metrics.duration.record(took, {**attributes, **error, "gateway.attempts": self.attempts})
        if self.span.is_recording():
            self.end_span(counts, error)
        self.write_access_log(outcome, took, counts)

    def end_span(self, counts: Mapping[str, int], error: Mapping[str, str]) -> None:
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
                **{COUNTS[name]: count for name, count in counts.items()},
                **{name: value for name, value in optional.items() if value},
                **error,
                "gateway.attempts": self.attempts,
            }
        )
        if error:
            self.span.set_status(trace.StatusCode.ERROR)
        self.span.end()

    def write_access_log(self, outcome: Outcome, took: float, counts: Mapping[str, int]) -> None:
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
            *counts.items(),
            ("attempts", self.attempts),
            ("endpoint", attributes.get("gateway.endpoint")),
            # If Azure's response began and the client got an error, the client has the id of the error.
            *{**self.request_ids, **outcome.request_ids}.items(),
            ("trace_id", trace.format_trace_id(span.trace_id) if span.is_valid else None),
        ]
        access_log.write(fields, printed=self.ends_after_invocation)
