"""Whether chats work: one probe per endpoint that spends no token, and what calls have shown meanwhile.

Every process knows only what it has seen itself. A timer runs on instances of its own, so nothing that it
learns reaches the HTTP functions, nor the other way round.
"""

import asyncio
import functools
import logging
import math
import time
from dataclasses import dataclass

from openai import APIStatusError

from shared.errors import SettingsError, UpstreamAuthError, as_gateway_error
from shared.telemetry import call_record
from shared.upstream.clients import Clients, shared_clients
from shared.upstream.endpoint import TRANSPORT_ERRORS, EndpointClient, Rest
from shared.upstream.request import CHAT_COMPLETIONS, InferenceCall
from shared.wire import ErrorDetail, error_of

logger = logging.getLogger(__name__)

# All in seconds.
PROBE_DEADLINE = 5.0
FRESH = 30.0
FRESH_FAILURE = 5.0

# An endpoint's states.
UP, RESTING, DOWN = "up", "resting", "down"
# The app's states.
HEALTHY, DEGRADED, UNHEALTHY, NOT_CONFIGURED = "healthy", "degraded", "unhealthy", "not_configured"

# Azure refuses a chat without messages before a model sees it, but only after it has checked the credentials and
# found the deployment. https://learn.microsoft.com/azure/ai-foundry/openai/reference#chat-completions
PROBE_BODY = b'{"model":"%s","messages":[]}'
# Before anything was noted.
NO_REST = Rest(0, noted=-math.inf)


@dataclass(frozen=True)
class Finding:
    """What is known of an endpoint: its state, why, when that showed (monotonic), and how long a probe took, in seconds."""

    state: str
    reason: str
    at: float
    latency: float | None = None

    def is_fresh(self) -> bool:
        return time.monotonic() - self.at < (FRESH if self.state == UP else FRESH_FAILURE)


@dataclass(frozen=True)
class Report:
    """The app's state, and the endpoints' in their order."""

    status: str
    findings: tuple[Finding, ...] = ()
    reason: str | None = None
    """Why the app is not configured."""

    @property
    def works(self) -> bool:
        return self.status in (HEALTHY, DEGRADED)

    def details(self) -> dict[str, object]:
        """The report as operators read it; ages in seconds, latencies in milliseconds."""
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
    """Checks the endpoints of `clients`, each at most once per period however many ask."""

    def __init__(self, clients: Clients) -> None:
        self.clients = clients
        self.settings = clients.settings
        self.found: dict[EndpointClient, Finding] = {}
        self.probing: dict[EndpointClient, asyncio.Task[Finding]] = {}

    async def check(self) -> Report:
        """The state of all endpoints, within `PROBE_DEADLINE`."""
        findings = tuple(await asyncio.gather(*(self.finding(endpoint) for endpoint in self.clients.endpoints)))
        if findings[0].state == UP:
            status = HEALTHY
        else:
            status = UNHEALTHY if all(finding.state == DOWN for finding in findings) else DEGRADED
        return Report(status, findings)

    async def finding(self, endpoint: EndpointClient) -> Finding:
        """The newest knowledge of `endpoint`: from calls, from a probe not long ago, else from a new one."""
        deployment = self.settings.default_deployment
        trouble = max(endpoint.rests_of(deployment), key=lambda rest: rest.noted, default=NO_REST)
        served = Finding(UP, "just answered a call", endpoint.served_at.get(deployment, -math.inf))
        rest = trouble.until - time.monotonic()
        # Unless a call has been answered since.
        if trouble.is_throttling and rest > 0 and trouble.noted >= served.at:
            return Finding(RESTING, f"throttled in calls; resting for another {rest:.0f} s", trouble.noted)
        newest = max(served, self.found.get(endpoint, served), key=lambda finding: finding.at)
        # Trouble in calls outdates what went well before it. What did not is no older for it.
        if newest.is_fresh() and (newest.at > trouble.noted or newest.state != UP):
            return newest
        if endpoint not in self.probing:
            self.probing[endpoint] = asyncio.create_task(self.probe(endpoint))
        # Shielded: one who hangs up must not end the probe of the others.
        return await asyncio.shield(self.probing[endpoint])

    async def probe(self, endpoint: EndpointClient) -> Finding:
        """Asks the endpoint, and keeps what is found."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(PROBE_DEADLINE):
                state, reason = await self.ask(endpoint)
        except TimeoutError:
            state, reason = DOWN, f"no answer within {PROBE_DEADLINE:.0f} s, from the endpoint or from the identity's"
        finally:
            del self.probing[endpoint]
        now = time.monotonic()
        self.found[endpoint] = finding = Finding(state, reason, now, now - started)
        return finding

    async def ask(self, endpoint: EndpointClient) -> tuple[str, str]:
        deployment = self.settings.default_deployment
        headers = {"content-type": "application/json", "accept": "application/json"}
        body = PROBE_BODY % deployment.encode()
        try:
            response = await endpoint.post(InferenceCall(CHAT_COMPLETIONS, deployment, body, headers))
        except APIStatusError as exc:
            return self.told_by(exc.status_code, error_of(exc.response.content))
        except UpstreamAuthError:
            return DOWN, f"no token for the managed identity {self.settings.identity}; is it assigned to the app?"
        except TRANSPORT_ERRORS:
            return DOWN, "cannot be reached; check AZURE_OPENAI_ENDPOINT, and the resource's firewall"
        await response.aclose()
        return DOWN, f"answered {response.status_code} to a chat without messages"

    def told_by(self, status: int, error: ErrorDetail) -> tuple[str, str]:
        """What Azure's refusal of a chat without messages says of the endpoint."""
        answered = f"answered {status} {error.code}".strip()
        if status == 400 and "messages" in (error.param or error.message or ""):
            return UP, "identity, network and deployment work"
        if status in (401, 403):
            return DOWN, f"{answered}. {self.settings.auth_advice}"
        if status == 404 and error.code == "DeploymentNotFound":
            return DOWN, f"has no deployment {self.settings.default_deployment!r} (AZURE_OPENAI_CHATGPT_DEPLOYMENT)"
        if status == 404:
            return DOWN, f"{answered}; check AZURE_OPENAI_API_VERSION"
        if status == 429:
            return RESTING, "throttled: the deployment's quota is used up for now"
        return DOWN, answered


class Watch:
    """What the timer does with a report, and remembers of the one before."""

    def __init__(self) -> None:
        self.before: str | None = None

    def note(self, report: Report) -> None:
        """Logs a report that is not healthy, and the recovery after one. Raises `Unhealthy` when nothing works."""
        for position, finding in enumerate(report.findings, start=1):
            call_record.endpoint_up.set(finding.state == UP, {"gateway.endpoint": position})
            if finding.state != UP:
                logger.warning("Endpoint %d is %s: %s", position, finding.state, finding.reason)
        if report.status != HEALTHY:
            logger.log(logging.WARNING if report.works else logging.ERROR, "The app is %s", report.status)
        elif self.before not in (None, HEALTHY):
            logger.warning("The app is healthy again; it was %s", self.before)
        self.before = report.status
        if not report.works:
            raise Unhealthy(report.status)


class Unhealthy(Exception):
    """No endpoint works. It fails the timer's invocation, where alerts look."""


async def report() -> Report:
    """The state of this process's endpoints. Bad settings are a state, too."""
    try:
        return await shared_health().check()
    except SettingsError as exc:
        return Report(NOT_CONFIGURED, reason=as_gateway_error(exc).message)


@functools.cache
def shared_health() -> Health:
    """The one of this process, built on first use. Raises `SettingsError`."""
    return Health(shared_clients())


@functools.cache
def shared_watch() -> Watch:
    return Watch()
