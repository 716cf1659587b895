"""Collect the telemetry that the app records, with the real SDK's in-memory exporters."""

import re

from tests.support.processes import Json, eventually
from tests.support.upstreams import Gateway

# Appended to the app: a route on which the tests collect what it has recorded.
RECORDER = """

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
points = InMemoryMetricReader({Histogram: AggregationTemporality.DELTA})
metrics.set_meter_provider(MeterProvider([points]))
OURS = "azure_functions_openai"


@app.route(route="test/telemetry", methods=["GET"], auth_level=OPEN)
async def test_telemetry(req: Request) -> Response:
    collected = points.get_metrics_data()
    telemetry = {
        "spans": [
            {
                "name": span.name,
                "kind": span.kind.name,
                "attributes": dict(span.attributes),
                "failed": not span.status.is_ok and span.status.status_code.name == "ERROR",
                "description": span.status.description,
                "events": len(span.events),
                "trace_id": format(span.context.trace_id, "032x"),
                "span_id": format(span.context.span_id, "016x"),
                "parent": span.parent and format(span.parent.span_id, "016x"),
            }
            for span in spans.get_finished_spans()
            if span.instrumentation_scope.name == OURS
        ],
        "points": [
            {
                "metric": metric.name,
                "unit": metric.unit,
                "attributes": dict(point.attributes),
                "count": getattr(point, "count", None),
                "sum": getattr(point, "sum", None),
                "value": getattr(point, "value", None),
            }
            for resource in (collected.resource_metrics if collected else ())
            for scope in resource.scope_metrics
            if scope.scope.name == OURS
            for metric in scope.metrics
            for point in metric.data.data_points
        ],
    }
    spans.clear()
    return JSONResponse(telemetry)
"""
DURATION, FIRST_CHUNK, TOKENS = (
    f"gen_ai.client.{name}" for name in ("operation.duration", "operation.time_to_first_chunk", "token.usage")
)


def collect_telemetry(gateway: Gateway) -> Json:
    """Return the spans and points that the app has recorded since the last collection."""
    found: Json = gateway.http.get("/api/test/telemetry").json()
    return found


def wait_for_telemetry(gateway: Gateway, calls: int = 1) -> Json:
    """Wait until the spans of that many calls have ended, and return all spans and points until then."""
    found: Json = {"spans": [], "points": []}

    def collect_more() -> Json:
        for name, items in collect_telemetry(gateway).items():
            found[name] += items
        return found

    return eventually(collect_more, lambda found: len(found["spans"]) >= calls)


def logged_fields(gateway: Gateway, text: str) -> dict[str, str]:
    """Wait for the line of the access log that contains `text`, and return its fields."""
    gateway.app.wait_for(text)
    (line,) = (line for line in gateway.app.output.splitlines() if text in line and "Call " in line)
    return dict(re.findall(r"(\w+)=(\S+)", line))
