"""Define the metrics that the app records, by the names of OpenTelemetry's GenAI conventions.

https://github.com/open-telemetry/semantic-conventions-genai, still in development. Names that begin with `gateway.`
are the app's own. Without an SDK OpenTelemetry drops all values.
"""

from opentelemetry import metrics

SCOPE = "azure_functions_openai"
# Bucket boundaries, in seconds and in tokens, as the conventions recommend.
SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
TOKENS = [4**power for power in range(14)]

meter = metrics.get_meter(SCOPE)
duration = meter.create_histogram(
    "gen_ai.client.operation.duration",
    "s",
    "Duration of calls, up to the end of their response.",
    explicit_bucket_boundaries_advisory=SECONDS,
)
time_to_first_chunk = meter.create_histogram(
    "gen_ai.client.operation.time_to_first_chunk",
    "s",
    "Time from the start of a call to the first chunk of its stream.",
    explicit_bucket_boundaries_advisory=SECONDS,
)
token_usage = meter.create_histogram(
    "gen_ai.client.token.usage", "{token}", "Tokens that calls used.", explicit_bucket_boundaries_advisory=TOKENS
)
endpoint_up = meter.create_gauge("gateway.endpoint.up", "1", "State of an endpoint at the timer's last check: 1 up, 0 not.")
