"""Configure the OpenTelemetry SDK: export to an OTLP endpoint, and remove function keys from spans.

In Azure the Functions worker configures the SDK for Azure Monitor by itself, before the app loads
(`PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY`). For OTLP the app has to.
"""

import logging
from collections.abc import Mapping
from typing import Any

from opentelemetry import context, metrics, trace

logger = logging.getLogger(__name__)

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
ENDPOINT_OF_TRACES = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
ENDPOINT_OF_METRICS = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
SERVICE_NAME = "azure-functions-openai"
# The attributes that hold the query string in the HTTP server's spans, as the server and Azure Monitor name them.
URLS = ("url.full", "http.url", "http.target")
QUERY = "url.query"


def configure(environ: Mapping[str, str]) -> None:
    """Export metrics and spans as OpenTelemetry's own variables in `environ` say. Call it when the app loads.

    https://opentelemetry.io/docs/languages/sdk-configuration/otlp-exporter/. Nothing is imported unless they name an
    endpoint. The exporter is not in requirements.txt: if it is missing, a warning says what to install.
    """
    sends_traces, sends_metrics = (
        bool(environ.get(name) or environ.get(ENDPOINT)) for name in (ENDPOINT_OF_TRACES, ENDPOINT_OF_METRICS)
    )
    if (sends_traces or sends_metrics) and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        try:
            export(sends_traces, sends_metrics, environ.get("WEBSITE_SITE_NAME") or SERVICE_NAME)
        except ImportError as exc:
            logger.warning(
                "OTEL_EXPORTER_OTLP_... is set, but %s is missing: add opentelemetry-exporter-otlp-proto-http to "
                "requirements.txt. No telemetry is sent",
                exc.name,
            )
    if hasattr(provider := trace.get_tracer_provider(), "add_span_processor"):
        provider.add_span_processor(without_queries())


def export(sends_traces: bool, sends_metrics: bool, name: str) -> None:
    # Imported here, because they slow down a cold start.
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create()
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": name}))
    if sends_traces:
        provider = TracerProvider(resource=resource)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
    if sends_metrics:
        metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())], resource))


def without_queries() -> Any:
    """Return a span processor that removes query strings, which may have a function key (`?code=`)."""
    from opentelemetry.sdk.trace import Span, SpanProcessor

    class WithoutQueries(SpanProcessor):
        def on_start(self, span: Span, parent_context: context.Context | None = None) -> None:
            remove_query(span)
            # Azure Monitor's instrumentation of FastAPI sets the attributes of the request's span once more, after its
            # start. The spans for receiving and sending are its children, and start later.
            parent = trace.get_current_span(parent_context)
            if isinstance(parent, Span) and parent.is_recording():
                remove_query(parent)

    def remove_query(span: Span) -> None:
        attributes = span.attributes or {}
        if attributes.get(QUERY):
            span.set_attribute(QUERY, "REDACTED")
        for name in URLS:
            if "?" in str(attributes.get(name)):
                span.set_attribute(name, str(attributes[name]).partition("?")[0])

    return WithoutQueries()
