"""Sends a call to Azure OpenAI: the endpoints in their order, within the call's deadline."""

import asyncio
import functools
import logging
import math
import socket
import time
from dataclasses import replace

import httpx2
from openai import APIStatusError

from shared.answer import Answer
from shared.call import InferenceCall
from shared.clients import Clients, shared_clients
from shared.endpoint import TRANSPORT_ERRORS, EndpointClient
from shared.errors import DeadlineExceeded, GatewayError, TooManyCalls, UpstreamUnreachable
from shared.refusals import COOL_DOWN, Refusal, judge
from shared.telemetry import CallRecord

logger = logging.getLogger(__name__)


class Failover:
    """Sends calls for one process. It never waits between attempts: a caller who should, is told so."""

    def __init__(self, clients: Clients) -> None:
        self.clients = clients
        self.settings = clients.settings
        self.calls_in_flight = 0

    async def send(self, call: InferenceCall) -> Answer:
        """The first answer to `call` that counts, once its headers are there.

        Raises what `errors` lists as upstream's failures, `TooManyCalls` and `DeadlineExceeded`.
        """
        record = CallRecord(call.operation, call.deployment, call.caller, call.headers, stream=call.stream)
        try:
            return await self.answer(call, record)
        except BaseException as exc:
            record.failed(exc)
            record.end()
            raise

    async def answer(self, call: InferenceCall, record: CallRecord) -> Answer:
        if self.calls_in_flight >= self.settings.max_concurrent_calls:
            raise TooManyCalls
        self.calls_in_flight += 1
        deadline = asyncio.get_running_loop().time() + self.settings.request_timeout
        if record.headers:
            call = replace(call, headers={**call.headers, **record.headers})
        try:
            response = await self.first_answer(call, deadline, record)
        except BaseException:
            self.calls_in_flight -= 1
            raise
        record.answered(response.status_code, response.headers)

        def end() -> None:
            self.calls_in_flight -= 1
            record.end()

        return Answer(response, deadline, end, record)

    async def first_answer(self, call: InferenceCall, deadline: float, record: CallRecord) -> httpx2.Response:
        """Asks one endpoint after the other, until one answers or refuses what no other would grant."""
        # Not the exceptions: these would keep alive what their tracebacks lead to, this call among it.
        troubles: list[tuple[GatewayError, float]] = []
        unknown: GatewayError | None = None
        endpoints = self.in_order(call.deployment)
        for endpoint in endpoints:
            now = asyncio.get_running_loop().time()
            if now >= deadline:
                raise DeadlineExceeded
            until = deadline if endpoint is endpoints[-1] else min(deadline, now + self.settings.attempt_timeout)
            record.asked(endpoint.position, endpoint.address, endpoint.port)
            try:
                return await self.attempt(endpoint, call, until)
            except Refusal as refusal:
                if refusal.rests_for is not None:
                    troubles.append((refusal.error, refusal.rests_for))
                elif refusal.is_unknown:
                    unknown = refusal.error
                else:
                    raise refusal.error from None
        if not troubles:
            assert unknown is not None
            raise unknown
        # Also where others did not know a stored response: an endpoint in trouble may.
        error, _ = troubles[-1]
        error.headers |= retry_after(min(rests_for for _, rests_for in troubles))
        raise error

    def in_order(self, deployment: str) -> list[EndpointClient]:
        """The endpoints in the order of the settings, but those that rest last, and of them the soonest first."""
        now = time.monotonic()
        return sorted(self.clients.endpoints, key=lambda endpoint: max(endpoint.rests_until(deployment), now))

    async def attempt(self, endpoint: EndpointClient, call: InferenceCall, until: float) -> httpx2.Response:
        """One endpoint's answer; notes what it shows of the endpoint. Raises `Refusal`, also at the moment `until`."""
        error: GatewayError
        try:
            async with asyncio.timeout_at(until):
                response = await self.reach(endpoint, call)
        except APIStatusError as exc:
            raise judge(exc.response, call, endpoint, self.settings) from None
        except TRANSPORT_ERRORS as exc:
            logger.warning("No answer from endpoint %d to %s: %s", endpoint.position, call.caller, cause_of(exc))
            error = UpstreamUnreachable()
        except TimeoutError:
            logger.warning("No answer from endpoint %d to %s in time", endpoint.position, call.caller)
            error = DeadlineExceeded()
        else:
            endpoint.served(call.deployment)
            return response
        endpoint.cool(COOL_DOWN)
        raise Refusal(error, COOL_DOWN)

    async def reach(self, endpoint: EndpointClient, call: InferenceCall) -> httpx2.Response:
        try:
            return await endpoint.post(call)
        except TRANSPORT_ERRORS:
            if len(self.clients.endpoints) > 1:
                raise
            # The server may have closed a pooled connection in the moment in which it was taken again.
            return await endpoint.post(call)


def retry_after(seconds: float) -> dict[str, str]:
    """The headers that ask a caller to come again in that many seconds, rounded up."""
    return {"retry-after": str(math.ceil(seconds)), "retry-after-ms": str(math.ceil(seconds * 1000))}


def cause_of(exc: Exception) -> str:
    """What the log may have of a failed call: the system's own words. Other texts may quote what has come."""
    cause = exc.__cause__ or exc
    if isinstance(cause, socket.gaierror):
        return f"{type(cause).__name__}: {cause}. Is the name in AZURE_OPENAI_ENDPOINT right?"
    return f"{type(cause).__name__}: {cause}" if isinstance(cause, OSError) else type(cause).__name__


@functools.cache
def shared_failover() -> Failover:
    """The one of this process, built on first use. Raises `SettingsError`."""
    return Failover(shared_clients())
