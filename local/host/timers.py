"""Run functions with timer triggers on their schedules."""

import asyncio
import json
import logging
import re
from collections.abc import Mapping
from datetime import datetime, timedelta

from croniter import croniter

from local.host.invocations import invocation
from local.host.worker import Function, FunctionFailed, Message, Worker

logger = logging.getLogger(__name__)

TIME_SPAN = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d{2}):(\d{2})")
# Reported as the time of the last run until the timer has run once.
NEVER = "0001-01-01T00:00:00"
# The host monitors the schedule of timers that fire at longer intervals than this.
MONITORED_INTERVAL = timedelta(minutes=1)


class Schedule:
    """Calculate when a timer fires, in local time.

    Raise ValueError if `text` is neither a time span nor an NCRONTAB expression of six fields (the first is for seconds) or
    five (without seconds). See https://github.com/atifaziz/NCrontab.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.interval = timedelta(0)
        span = TIME_SPAN.fullmatch(text)
        if span:
            days, hours, minutes, seconds = map(int, span.groups("0"))
            self.interval = timedelta(days, seconds, hours=hours, minutes=minutes)
        if not (self.interval or (is_ncrontab(text) and not span)):
            raise ValueError(
                f"The schedule expression '{text}' was not recognized as a valid cron expression or timespan string."
            )

    def after(self, moment: datetime) -> datetime:
        """Return the first time after `moment` at which the timer fires."""
        if self.interval:
            return moment + self.interval
        found: datetime = croniter(self.text, moment, second_at_beginning=True).get_next(datetime)
        return found


def is_ncrontab(text: str) -> bool:
    return len(text.split()) in (5, 6) and croniter.is_valid(text, second_at_beginning=True)


class Timer:
    """Run a function with a timer trigger. Its runs never overlap, and continue after a failure."""

    def __init__(self, worker: Worker, function: Function, environ: Mapping[str, str]) -> None:
        self.worker = worker
        self.function = function
        text = function.trigger["schedule"]
        if text.startswith("%") and text.endswith("%"):
            if not environ.get(text.strip("%")):
                raise ValueError(f"'{text}' does not resolve to a value.")
            text = environ[text.strip("%")]
        self.schedule = Schedule(text)
        self.last: datetime | None = None

    async def run(self) -> None:
        """Fire on the schedule forever. Skip the times that pass while the function runs."""
        if self.function.trigger.get("runOnStartup"):
            await self.fire()
        due = now()
        while True:
            # A sleep can end slightly early. Then the current time alone would give the same due time again.
            due = self.schedule.after(max(due, now()))
            await asyncio.sleep((due - now()).total_seconds())
            await self.fire()

    async def fire(self, reason: str | None = None) -> None:
        """Run the function once and wait for it. Log its failure."""
        fired = now()
        try:
            with invocation(
                self.function.name, reason or f"Timer fired at {fired.astimezone().isoformat()}"
            ) as invocation_id:
                data = Message(json=json.dumps(self.trigger_data(fired)))
                await self.worker.invoke(self.function, invocation_id, data)
        except FunctionFailed as exc:
            logger.error("%s", exc)
        self.last = fired

    def trigger_data(self, fired: datetime) -> dict[str, object]:
        """Return the content of the TimerRequest. If the timer fires again within a minute, it has no status."""
        due = self.schedule.after(fired)
        status = None
        if self.function.trigger.get("useMonitor", True) and self.schedule.after(due) - fired > MONITORED_INTERVAL:
            last = self.last.astimezone().isoformat() if self.last else NEVER
            status = {"Last": last, "Next": due.astimezone().isoformat(), "LastUpdated": last}
        return {"Schedule": {"AdjustForDST": True}, "ScheduleStatus": status, "IsPastDue": False}


def now() -> datetime:
    return datetime.now()  # noqa: DTZ005
