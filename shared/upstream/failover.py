"""Send a call to Azure OpenAI: put the endpoints in order, and try them within the call's deadline."""

import asyncio
import logging
import math
import socket
import time
from dataclasses import replace

import httpx2
from openai import APIStatusError

from shared.errors import DeadlineExceeded, GatewayError, UpstreamUnreachable
from shared.telemetry.call_record import CallRecord, failed
from shared.upstream.clients import Clients
from shared.upstream.concurrency import Slots
from shared.upstream.endpoint import TRANSPORT_ERRORS, Cooldown, EndpointClient
from shared.upstream.request import InferenceCall
from shared.upstream.response import UpstreamResponse
from shared.upstream.retry_policy import DEFAULT_COOLDOWN, FailedAttempt, classify

logger = logging.getLogger(__name__)


class Failover:
    """Send the calls of one process. It never waits between attempts; the response says when the caller should retry."""

    def __init__(self, clients: Clients) -> None:
        self.clients = clients
        self.settings = clients.settings
        self.slots = Slots(clients.settings.max_concurrent_calls)

    async def send(self, call: InferenceCall) -> UpstreamResponse:
        """Return the first successful response to `call`, as soon as its headers have arrived.

        Raise `TooManyConcurrentRequests`, `DeadlineExceeded`, or the error of a failed attempt (see `retry_policy`).
        """
        record = CallRecord(
            operation=call.operation,
            deployment=call.deployment,
            caller=call.caller,
            stream=call.stream,
            headers=call.headers,
        )
        deadline = asyncio.get_running_loop().time() + self.settings.request_timeout
        slot = None
        try:
            slot = self.slots.take()
            if trace_headers := record.trace_headers():
                call = replace(call, headers={**call.headers, **trace_headers})
            response = await self.first_response(call, deadline, record)
        except BaseException as exc:
            if slot:
                slot.release()
            record.end(failed(exc))
            raise
        record.response_started(response.status_code, response.headers)
        return UpstreamResponse(response, deadline, slot, record)

    async def first_response(self, call: InferenceCall, deadline: float, record: CallRecord) -> httpx2.Response:
        """Try the endpoints in turn, until one succeeds or fails with an error that the others would return as well."""
        result: httpx2.Response | FailedAttempt | None = None
        not_found: FailedAttempt | None = None
        troubles: list[FailedAttempt] = []
        try:
            endpoints = self.in_order(call.deployment)
            for endpoint in endpoints:
                now = asyncio.get_running_loop().time()
                if now >= deadline:
                    raise DeadlineExceeded
                until = deadline if endpoint is endpoints[-1] else min(deadline, now + self.settings.attempt_timeout)
                record.attempt_started(endpoint.position, endpoint.host, endpoint.port)
                result = await self.attempt(endpoint, call, until)
                if not isinstance(result, FailedAttempt):
                    return result
                if result.cooldown:
                    endpoint.cool_down(result.cooldown)
                    troubles.append(result)
                elif result.lacks_stored_response:
                    not_found = result
                else:
                    raise result.error
            if troubles:
                # This takes precedence over a missing stored response: an endpoint in trouble may have it.
                raise with_retry_after(troubles)
            assert not_found
            raise not_found.error
        finally:
            # The exception's traceback refers to this frame. If these variables referred back to it, the cycle would keep
            # the call in memory.
            result = not_found = None
            troubles.clear()

    def in_order(self, deployment: str) -> list[EndpointClient]:
        """Return the endpoints in the order of the settings. Those in a cooldown come last, the soonest ready first."""
        now = time.monotonic()

        def ready_at(endpoint: EndpointClient) -> float:
            return max([now, *(cooldown.until for cooldown in endpoint.cooldowns_of(deployment))])

        return sorted(self.clients.endpoints, key=ready_at)

    async def attempt(self, endpoint: EndpointClient, call: InferenceCall, until: float) -> httpx2.Response | FailedAttempt:
        """Return the endpoint's response, or why there is none by `until`, a time of the loop's clock."""
        try:
            async with asyncio.timeout_at(until):
                response = await endpoint.post(call)
        except APIStatusError as exc:
            return classify(exc.response, call, endpoint.position, self.settings.auth_advice)
        except TRANSPORT_ERRORS as exc:
            logger.warning("No response from endpoint %d to %s: %s", endpoint.position, call.caller, cause_of(exc))
            return FailedAttempt(UpstreamUnreachable(), Cooldown(DEFAULT_COOLDOWN))
        except TimeoutError:
            logger.warning("No response from endpoint %d to %s in time", endpoint.position, call.caller)
            return FailedAttempt(DeadlineExceeded(), Cooldown(DEFAULT_COOLDOWN))
        endpoint.served(call.deployment)
        return response


def with_retry_after(troubles: list[FailedAttempt]) -> GatewayError:
    """Return the last error of `troubles`, with the shortest Retry-After of all."""
    error = troubles[-1].error
    seconds = min(trouble.cooldown.seconds for trouble in troubles if trouble.cooldown)
    error.headers |= {"retry-after": str(math.ceil(seconds)), "retry-after-ms": str(math.ceil(seconds * 1000))}
    return error


def cause_of(exc: Exception) -> str:
    """Return the cause of a failed attempt for the log, with the text of system errors only: others may quote Azure."""
    cause = exc.__cause__ or exc
    if isinstance(cause, socket.gaierror):
        return f"{type(cause).__name__}: {cause}. Check the name in AZURE_OPENAI_ENDPOINT"
    return f"{type(cause).__name__}: {cause}" if isinstance(cause, OSError) else type(cause).__name__
