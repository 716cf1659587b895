"""Sends a call to Azure OpenAI: the endpoints in their order, within the call's deadline."""

import asyncio
import functools
import logging
import math
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx2
from openai import APIStatusError

from shared.errors import DeadlineExceeded, GatewayError, TooManyCalls, UpstreamUnreachable
from shared.telemetry.call_record import CallRecord
from shared.upstream.clients import Clients, shared_clients
from shared.upstream.endpoint import TRANSPORT_ERRORS, EndpointClient, Rest
from shared.upstream.request import InferenceCall
from shared.upstream.response import Answer
from shared.upstream.retry_policy import COOL_DOWN, Refusal, judge

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
        record = CallRecord(call)
        deadline = asyncio.get_running_loop().time() + self.settings.request_timeout
        with ExitStack() as ending:
            ending.callback(record.end)
            try:
                ending.enter_context(self.place())
                response = await self.first_answer(record.traced(call), deadline, record)
            except BaseException as exc:
                record.failed(exc)
                raise
            record.answered(response.status_code, response.headers)
            return Answer(response, deadline, ending.pop_all().close, record)

    @contextmanager
    def place(self) -> Iterator[None]:
        """One of the places for calls in flight. Raises `TooManyCalls`."""
        if self.calls_in_flight >= self.settings.max_concurrent_calls:
            raise TooManyCalls
        self.calls_in_flight += 1
        try:
            yield
        finally:
            self.calls_in_flight -= 1

    async def first_answer(self, call: InferenceCall, deadline: float, record: CallRecord) -> httpx2.Response:
        """Asks one endpoint after the other, until one answers or refuses what no other would grant."""
        outcome: httpx2.Response | Refusal | None = None
        unknown: Refusal | None = None
        troubles: list[Refusal] = []
        try:
            endpoints = self.in_order(call.deployment)
            for endpoint in endpoints:
                now = asyncio.get_running_loop().time()
                if now >= deadline:
                    raise DeadlineExceeded
                until = deadline if endpoint is endpoints[-1] else min(deadline, now + self.settings.attempt_timeout)
                record.asked(endpoint.position, endpoint.address, endpoint.port)
                outcome = await self.attempt(endpoint, call, until)
                if not isinstance(outcome, Refusal):
                    return outcome
                if outcome.rest:
                    endpoint.leave_alone(outcome.rest)
                    troubles.append(outcome)
                elif outcome.is_unknown:
                    unknown = outcome
                else:
                    raise outcome.error
            if troubles:
                # Also where others did not know a stored response: an endpoint in trouble may.
                raise soonest(troubles)
            assert unknown
            raise unknown.error
        finally:
            # The traceback of what is raised leads here. Led it back, the call would stay in memory until a collection.
            outcome = unknown = None
            troubles.clear()

    def in_order(self, deployment: str) -> list[EndpointClient]:
        """The endpoints in the order of the settings, but those that rest last, and of them the soonest first."""
        now = time.monotonic()

        def rests_until(endpoint: EndpointClient) -> float:
            return max([now, *(rest.until for rest in endpoint.rests_of(deployment))])

        return sorted(self.clients.endpoints, key=rests_until)

    async def attempt(self, endpoint: EndpointClient, call: InferenceCall, until: float) -> httpx2.Response | Refusal:
        """One endpoint's answer, or what it means that there is none, at the moment `until` at the latest."""
        try:
            async with asyncio.timeout_at(until):
                response = await endpoint.post(call)
        except APIStatusError as exc:
            return judge(exc.response, call, endpoint.position, self.settings.auth_advice)
        except TRANSPORT_ERRORS as exc:
            logger.warning("No answer from endpoint %d to %s: %s", endpoint.position, call.caller, cause_of(exc))
            return Refusal(UpstreamUnreachable(), Rest(COOL_DOWN))
        except TimeoutError:
            logger.warning("No answer from endpoint %d to %s in time", endpoint.position, call.caller)
            return Refusal(DeadlineExceeded(), Rest(COOL_DOWN))
        endpoint.served(call.deployment)
        return response


def soonest(troubles: list[Refusal]) -> GatewayError:
    """The last error of `troubles`, asking the caller to come again when the first of the endpoints has rested."""
    error = troubles[-1].error
    seconds = min(refusal.rest.seconds for refusal in troubles if refusal.rest)
    error.headers |= {"retry-after": str(math.ceil(seconds)), "retry-after-ms": str(math.ceil(seconds * 1000))}
    return error


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
