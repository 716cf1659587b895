"""Check whether chats work: probe each endpoint at no token cost, and use the results of recent calls.

Each process knows only its own calls and probes. A timer runs on instances of its own, so the HTTP functions never
see its results.
"""

import asyncio
import logging
import math
import time
from dataclasses import dataclass

from openai import APIStatusError

from shared.errors import ErrorDetail, UpstreamAuthError, error_detail
from shared.operations import CHAT_COMPLETIONS, EMBEDDINGS, RESPONSES, Operation
from shared.telemetry import metrics
from shared.upstream.clients import Clients
from shared.upstream.endpoint import TRANSPORT_ERRORS, Cooldown, EndpointClient
from shared.upstream.request import InferenceCall
from shared.upstream.retry_policy import Kind, kind_of, retry_after_of
from shared.upstream.transport import ProxyError

logger = logging.getLogger(__name__)

# All in seconds.
PROBE_DEADLINE = 5.0
FRESH = 30.0
FRESH_FAILURE = 5.0

# The states of an endpoint.
UP, THROTTLED, DOWN = "up", "throttled", "down"
# The states of the app.
HEALTHY, DEGRADED, UNHEALTHY, NOT_CONFIGURED = "healthy", "degraded", "unhealthy", "not_configured"

# Azure rejects these before a model sees them, but only after it has checked the credentials and found the deployment.
# https://learn.microsoft.com/azure/ai-foundry/openai/reference#chat-completions
PROBES = {
    CHAT_COMPLETIONS: b'{"model":"%s","messages":[]}',
    RESPONSES: b'{"model":"%s","input":0}',
    EMBEDDINGS: b'{"model":"%s","input":0}',
}
PROBE_HEADERS = {"content-type": "application/json", "accept": "application/json"}
WORKS = "identity, network and deployment work"
NO_COOLDOWN = Cooldown(0, started=-math.inf)


@dataclass(frozen=True)
class Finding:
    """The state of an endpoint, the reason, the time of the finding (monotonic clock) and the probe's latency in seconds."""

    state: str
    reason: str
    at: float
    latency: float | None = None

    def is_fresh(self) -> bool:
        return time.monotonic() - self.at < (FRESH if self.state == UP else FRESH_FAILURE)


@dataclass(frozen=True)
class Report:
    """The state of the app, and one finding for each endpoint in the order of the settings."""

    status: str
    findings: tuple[Finding, ...] = ()
    reason: str | None = None
    """Why the app is not configured."""

    @property
    def works(self) -> bool:
        return self.status in (HEALTHY, DEGRADED)

    def details(self) -> dict[str, object]:
        """Return the report as JSON for operators.

        `{"status", "reason", "endpoints": [{"position", "state", "reason", "latency_ms", "age_seconds"}]}`
        """
        now = time.monotonic()
        endpoints = [
            {
                "position": position,
                "state": finding.state,
                "reason": finding.reason,
                "latency_ms": None if finding.latency is None else round(finding.latency * 1000),
                "age_seconds": round(now - finding.at),
            }
            for position, finding in enumerate(self.findings, start=1)
        ]
        return {"status": self.status, "reason": self.reason, "endpoints": endpoints}


class Health:
    """Check the endpoints of `clients`, each at most once per period for any number of requests."""

    def __init__(self, clients: Clients) -> None:
        self.clients = clients
        self.settings = clients.settings
        self.findings: dict[EndpointClient, Finding] = {}
        self.probes: dict[EndpointClient, asyncio.Task[Finding]] = {}

    async def check(self) -> Report:
        """Return the state of all endpoints, within `PROBE_DEADLINE`."""
        findings = tuple(await asyncio.gather(*(self.finding(endpoint) for endpoint in self.clients.endpoints)))
        if findings[0].state == UP:
            status = HEALTHY
        else:
            status = UNHEALTHY if all(finding.state == DOWN for finding in findings) else DEGRADED
        return Report(status, findings)

    async def finding(self, endpoint: EndpointClient) -> Finding:
        """Return what is known about `endpoint`: from calls, from a recent probe, else from a new probe."""
        deployment = self.settings.default_deployment
        cooldown = max(endpoint.cooldowns_of(deployment), key=lambda cooldown: cooldown.started, default=NO_COOLDOWN)
        served = Finding(UP, "has just served a call", endpoint.served_at.get(deployment, -math.inf))
        remaining = cooldown.until - time.monotonic()
        # A call served after the cooldown began shows that the throttling is over.
        if cooldown.is_throttling and remaining > 0 and cooldown.started >= served.at:
            return Finding(
                THROTTLED, f"Azure throttles the deployment; cooling down for another {remaining:.0f} s", cooldown.started
            )
        newest = max(served, self.findings.get(endpoint, served), key=lambda finding: finding.at)
        # A newer cooldown outdates an earlier success, but an earlier failure is used for as long as it is fresh.
        if newest.is_fresh() and (newest.at > cooldown.started or newest.state != UP):
            return newest
        if endpoint not in self.probes:
            self.probes[endpoint] = asyncio.create_task(self.probe(endpoint))
        # Shielded, so that a client that disconnects does not end the probe for the others.
        return await asyncio.shield(self.probes[endpoint])

    async def probe(self, endpoint: EndpointClient) -> Finding:
        """Probe the endpoint, and remember the finding."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(PROBE_DEADLINE):
                state, reason = await self.send_probe(endpoint)
        except TimeoutError:
            state, reason = DOWN, f"no response within {PROBE_DEADLINE:.0f} s, from Azure OpenAI or the identity endpoint"
        finally:
            del self.probes[endpoint]
        now = time.monotonic()
        self.findings[endpoint] = finding = Finding(state, reason, now, now - started)
        return finding

    async def send_probe(self, endpoint: EndpointClient) -> tuple[str, str]:
        """Return the state of the endpoint, and the reason."""
        try:
            status, error, kind = await self.error_of_probe(endpoint, CHAT_COMPLETIONS)
            if kind is Kind.NOT_SUPPORTED:
                found = [other.path for other in (RESPONSES, EMBEDDINGS) if await self.supports(endpoint, other)]
                serves = f", but it serves {' and '.join(found)}" if found else ""
                return UP, f"{WORKS}; the default deployment does not serve chats{serves}"
        except UpstreamAuthError:
            return DOWN, f"no token for the managed identity {self.settings.identity}; check that it is assigned to the app"
        except TRANSPORT_ERRORS as exc:
            cause = exc.__cause__ or exc
            advice = "check AZURE_OPENAI_ENDPOINT, and the resource's firewall"
            return DOWN, f"cannot be reached; {cause if isinstance(cause, ProxyError) else advice}"
        if status == 400 and "messages" in (error.param or error.message):
            return UP, WORKS
        if kind is Kind.THROTTLED:
            return THROTTLED, "the deployment's quota is used up for now"
        if kind is None:
            return DOWN, f"responded with {status} to a chat without messages"
        responded = f"responded with {status} {error.code}".strip()
        advice = kind.explain(self.settings.default_deployment, self.settings)
        return DOWN, f"{responded}: {advice}" if advice else responded

    async def supports(self, endpoint: EndpointClient, operation: Operation) -> bool:
        """Return whether a probe shows that the default deployment has `operation`: Azure rejects only the probe's input."""
        status, error, _ = await self.error_of_probe(endpoint, operation)
        return status == 400 and "input" in (error.param or error.message)

    async def error_of_probe(self, endpoint: EndpointClient, operation: Operation) -> tuple[int, ErrorDetail, Kind | None]:
        """Return the status, the error and its kind that an invalid request gets; no kind after a success."""
        deployment = self.settings.default_deployment
        call = InferenceCall(
            operation=operation,
            path=operation.path_in(self.settings.api_version, deployment),
            deployment=deployment,
            body=PROBES[operation] % deployment.encode(),
            headers=PROBE_HEADERS,
        )
        try:
            response = await endpoint.post(call)
        except APIStatusError as exc:
            error = error_detail(exc.response.content)
            return (
                exc.status_code,
                error,
                kind_of(exc.status_code, error, retry_after=retry_after_of(exc.response), call=call),
            )
        await response.aclose()
        return response.status_code, ErrorDetail(), None


class Watch:
    """Log what the timer finds, and remember its last report."""

    def __init__(self) -> None:
        self.last_status: str | None = None

    def note(self, report: Report) -> None:
        """Log the problems in a report, and the recovery from them. Raise `Unhealthy` if nothing works."""
        for position, finding in enumerate(report.findings, start=1):
            metrics.endpoint_up.set(finding.state == UP, {"gateway.endpoint": position})
            if finding.state != UP:
                logger.warning("Endpoint %d is %s: %s", position, finding.state, finding.reason)
        if report.status != HEALTHY:
            logger.log(logging.WARNING if report.works else logging.ERROR, "The app is %s", report.status)
        elif self.last_status not in (None, HEALTHY):
            logger.warning("The app is healthy again; it was %s", self.last_status)
        self.last_status = report.status
        if not report.works:
            raise Unhealthy(report.status)


class Unhealthy(Exception):
    """Fail the timer's invocation, so that alerts notice: no endpoint works, or the app is not configured."""
