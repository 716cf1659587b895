"""Timer triggers: their schedules, and what the functions are told when they fire."""

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
FIRST_LAST = "0001-01-01T00:00:00"
MONITORED_FROM = timedelta(minutes=1)


class Schedule:
    """When a timer fires, in local time. Raises ValueError for what is no NCRONTAB expression and no time span.

    NCRONTAB: https://github.com/atifaziz/NCrontab; six fields, the seconds first, or five without them.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.interval = timedelta(0)
        span = TIME_SPAN.fullmatch(text)
        if span:
            days, hours, minutes, seconds = map(int, span.groups("0"))
            self.interval = timedelta(days, seconds, hours=hours, minutes=minutes)
        if not (self.interval or (is_crontab(text) and not span)):
            raise ValueError(
                f"The schedule expression '{text}' was not recognized as a valid cron expression or timespan string."
            )

    def after(self, moment: datetime) -> datetime:
        """The first time after `moment`."""
        if self.interval:
            return moment + self.interval
        found: datetime = croniter(self.text, moment, second_at_beginning=True).get_next(datetime)
        return found


def is_crontab(text: str) -> bool:
    return len(text.split()) in (5, 6) and croniter.is_valid(text, second_at_beginning=True)


class Timer:
    """A function with a timer trigger. Runs never overlap, and a failing one does not stop the next."""

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
        """Fires for ever. Runs that were missed because one took long are not made up for."""
        if self.function.trigger.get("runOnStartup"):
            await self.fire()
        due = now()
        while True:
            # Not from now alone: a sleep can end a little early, and the same moment would come again.
            due = self.schedule.after(max(due, now()))
            await asyncio.sleep((due - now()).total_seconds())
            await self.fire()

    async def fire(self, reason: str | None = None) -> None:
        """Runs the function once and waits for it; its failure is only logged."""
        fired = now()
        try:
            with invocation(
                self.function.name, reason or f"Timer fired at {fired.astimezone().isoformat()}"
            ) as invocation_id:
                data = Message(json=json.dumps(self.details(fired)))
                await self.worker.invoke(self.function, invocation_id, data)
        except FunctionFailed as exc:
            logger.error("%s", exc)
        self.last = fired

    def details(self, fired: datetime) -> dict[str, object]:
        """What the function sees as its TimerRequest. Timers that fire within a minute are not monitored."""
        due = self.schedule.after(fired)
        status = None
        if self.function.trigger.get("useMonitor", True) and self.schedule.after(due) - fired > MONITORED_FROM:
            last = self.last.astimezone().isoformat() if self.last else FIRST_LAST
            status = {"Last": last, "Next": due.astimezone().isoformat(), "LastUpdated": last}
        return {"Schedule": {"AdjustForDST": True}, "ScheduleStatus": status, "IsPastDue": False}


def now() -> datetime:
    return datetime.now()  # noqa: DTZ005
