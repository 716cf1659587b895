"""Send a call to Azure OpenAI: put the endpoints in order, and try them within the call's deadline."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import httpx2
from openai import APIStatusError

from shared.errors import DeadlineExceeded, ErrorDetail, GatewayError, UpstreamUnreachable
from shared.telemetry.call_record import CallRecord, failed
from shared.telemetry.response_metadata import ResponseMetadata
from shared.upstream.affinity import Affinity
from shared.upstream.clients import Clients
from shared.upstream.concurrency import Slot, Slots
from shared.upstream.endpoint import TRANSPORT_ERRORS, EndpointClient
from shared.upstream.read_ahead import ENDED
from shared.upstream.request import InferenceCall
from shared.upstream.response import UpstreamResponse
from shared.upstream.retry_policy import (
    FailedAttempt,
    Kind,
    Rank,
    as_error_response,
    classify,
    cooldown_for,
    with_retry_after,
)
from shared.upstream.transport import ProxyError, clear_use, was_sent

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PendingCall:
    """A call that waits for its response: its deadline by the loop's clock, its slot, and its record."""

    call: InferenceCall
    deadline: float
    slot: Slot
    record: CallRecord


class Failover:
    """Send the calls of one process. It never waits between attempts; the response says when the caller should retry."""

    def __init__(self, clients: Clients) -> None:
        self.clients = clients
        self.settings = clients.settings
        self.slots = Slots(clients.settings.max_concurrent_calls)
        self.affinity = Affinity()

    async def send(self, call: InferenceCall) -> UpstreamResponse:
        """Return the first successful response to `call`.

        Its headers have arrived, and so has the first output of a stream unless that takes long. Raise
        `TooManyConcurrentRequests`, `DeadlineExceeded`, or the error of a failed attempt (see `retry_policy`).
        """
        record = CallRecord(
            operation=call.operation,
            deployment=call.deployment,
            caller=call.caller,
            stream=call.stream,
            headers=call.headers,
            request_bytes=call.size,
        )
        timeout = min(self.settings.request_timeout, self.settings.stream_seconds)
        deadline = asyncio.get_running_loop().time() + timeout
        slot = None
        try:
            slot = self.slots.take()
            if trace_headers := record.trace_headers():
                call = replace(call, headers={**call.headers, **trace_headers})
            upstream = await self.first_response(PendingCall(call, deadline, slot, record))
        except BaseException as exc:
            if slot:
                slot.release()
            record.end(failed(exc))
            raise
        record.response_started(upstream.response.status_code, upstream.response.headers)
        record.observer = self.observer(call, upstream)
        return upstream

    async def first_response(self, pending: PendingCall) -> UpstreamResponse:
        """Try the endpoints in turn, until one succeeds or fails with an error that the others would return as well."""
        call, deadline = pending.call, pending.deadline
        result: UpstreamResponse | FailedAttempt | None = None
        failures: list[FailedAttempt] = []
        try:
            endpoints = self.in_order(call)
            for endpoint in endpoints:
                now = asyncio.get_running_loop().time()
                if now >= deadline:
                    break
                # A call that no other endpoint may get has all the time.
                is_last = endpoint is endpoints[-1] or not call.is_repeatable
                until = deadline if is_last else min(deadline, now + self.settings.attempt_timeout)
                result = await self.attempt(endpoint, pending, until)
                if isinstance(result, UpstreamResponse):
                    endpoint.served(call.deployment)
                    return result
                if result.cooldown:
                    endpoint.cool_down(result.cooldown)
                failures.append(result)
                if not result.tries_next:
                    break
            raise error_of(failures)
        finally:
            # The exception's traceback refers to this frame. If these variables referred back to it, the cycle would keep
            # the call in memory.
            result = None
            failures.clear()

    def in_order(self, call: InferenceCall) -> list[EndpointClient]:
        """Return the endpoints in the order in which the call tries them.

        It is the order of their groups and, within a group, of the calls that they have in flight. Those in a cooldown come
        last, the soonest ready first. If the call refers to state that only one endpoint has, that one comes first if it is
        known, and throttling does not change the order, because the others lack the state.
        """
        now = time.monotonic()
        known = self.affinity.endpoint_of(call.state.keys)
        is_bound = known is not None or call.state.is_needed

        def rank(endpoint: EndpointClient) -> tuple[bool, float, int, int, float]:
            cooldowns = [c for c in endpoint.cooldowns_of(call.deployment) if not (is_bound and c.is_throttling)]
            ready_at = max([now, *(cooldown.until for cooldown in cooldowns)])
            return endpoint is not known, ready_at, endpoint.group, len(endpoint.calls), endpoint.last_call

        return sorted(self.clients.endpoints, key=rank)

    async def attempt(
        self, endpoint: EndpointClient, pending: PendingCall, until: float
    ) -> UpstreamResponse | FailedAttempt:
        """Return the endpoint's response, or why there is none by `until`, a time of the loop's clock."""
        pending.record.attempt_started(endpoint.position, endpoint.host, endpoint.port)
        endpoint.call_started(pending.record)
        result = None
        try:
            result = await self.response_or_failure(endpoint, pending, until)
            return result
        finally:
            if not isinstance(result, UpstreamResponse):
                endpoint.call_ended(pending.record)

    async def response_or_failure(
        self, endpoint: EndpointClient, pending: PendingCall, until: float
    ) -> UpstreamResponse | FailedAttempt:
        call, position = pending.call, endpoint.position
        clear_use()
        try:
            async with asyncio.timeout_at(until):
                response = await endpoint.post(call)
            upstream = UpstreamResponse(response, endpoint, pending.deadline, pending.slot, pending.record)
            error = await self.early_error(upstream, call)
        except APIStatusError as exc:
            return classify(exc.response, call, position, self.settings)
        except TRANSPORT_ERRORS as exc:
            logger.warning("No response from endpoint %d to %s: %s", position, call.caller, cause_of(exc))
            return without_response(Kind.TROUBLE, UpstreamUnreachable(), call)
        except TimeoutError:
            logger.warning("No response from endpoint %d to %s in time", position, call.caller)
            return without_response(Kind.SLOW if was_sent() else Kind.TROUBLE, DeadlineExceeded(), call)
        failure = self.classify_error(error, call, endpoint, response) if error else None
        if failure and error is ENDED:
            # Like a lost connection: Azure may have worked on the call, and stored a response.
            failure = replace(failure, tries_next=call.is_repeatable)
        if failure is None or failure.kind.rank is Rank.CALLER:
            return upstream
        await response.aclose()
        return failure

    async def early_error(self, upstream: UpstreamResponse, call: InferenceCall) -> ErrorDetail | None:
        """Return the error that the beginning of a successful response reports. Close the response if reading it fails."""
        if call.operation.is_stored or not (upstream.is_event_stream or call.operation.reports_errors):
            return None
        try:
            return await upstream.read_ahead()
        except BaseException:
            await upstream.response.aclose()
            raise

    def observer(self, call: InferenceCall, upstream: UpstreamResponse) -> Callable[[ResponseMetadata], None]:
        """Return a function that learns from the metadata of the call's response: new state, and an error after output."""
        endpoint, response = upstream.endpoint, upstream.response
        # Azure may report the same error in several events. A retrieved response may report an earlier call's error.
        is_done = upstream.early_error is not None or call.operation.is_stored

        def observe(metadata: ResponseMetadata) -> None:
            nonlocal is_done
            if call.operation.uses_state:
                self.affinity.learn(endpoint, metadata)
            error = metadata.reported_error
            # An empty error precedes the one that says why.
            if error and error != ErrorDetail() and not is_done:
                is_done = True
                failure = self.classify_error(error, call, endpoint, response)
                if failure.cooldown:
                    endpoint.cool_down(failure.cooldown)

        return observe

    def classify_error(
        self, error: ErrorDetail, call: InferenceCall, endpoint: EndpointClient, response: httpx2.Response
    ) -> FailedAttempt:
        """Classify an error that the body of a 200 reports, as if the status had reported it."""
        return classify(as_error_response(error, response), call, endpoint.position, self.settings)


def without_response(kind: Kind, error: GatewayError, call: InferenceCall) -> FailedAttempt:
    """Return the failure of an attempt without a response. Azure may have worked on a request that was sent."""
    return FailedAttempt(kind, error, cooldown_for(kind, call), tries_next=call.is_repeatable or not was_sent())


def error_of(failures: list[FailedAttempt]) -> GatewayError:
    """Return the error of the lowest rank, the last one of equals, with the shortest Retry-After that Azure sent."""
    if not failures:
        return DeadlineExceeded(was_sent=False)
    chosen = min(reversed(failures), key=lambda failure: failure.kind.rank)
    error = chosen.error
    if isinstance(error, DeadlineExceeded):
        # This endpoint or an earlier one may have got the call.
        error = DeadlineExceeded(was_sent=any(failure.kind is Kind.SLOW for failure in failures))
    waits = [f.retry_after for f in failures if f.kind.rank is chosen.kind.rank and f.retry_after is not None]
    if waits and chosen.kind.rank in (Rank.THROTTLED, Rank.TROUBLE):
        error.headers = with_retry_after(error.headers, min(waits))
    return error


def cause_of(exc: Exception) -> str:
    """Return the cause of a failed attempt for the log, with the text of system errors only: others may quote Azure."""
    cause = exc.__cause__ or exc
    if isinstance(cause, ProxyError):
        return str(cause)
    if isinstance(cause, socket.gaierror):
        return f"{type(cause).__name__}: {cause}. Check the name in AZURE_OPENAI_ENDPOINT"
    return f"{type(cause).__name__}: {cause}" if isinstance(cause, OSError) else type(cause).__name__
