"""When the health check runs: an NCRONTAB expression, or else the default."""

from pathlib import Path

import pytest

from shared.settings import health_check_schedule


@pytest.mark.parametrize(
    "schedule",
    [
        "0 */5 * * * *",
        "*/5 * * * *",
        "*/2 * * * * *",
        "0 0 9-17/2 * * MON-FRI",
        "0 0,30 8 1-7,15 Jan,FEB sun",
        "0 0 0 31 12 6",
    ],
)
def test_the_schedule_of_the_health_check(schedule: str) -> None:
    assert health_check_schedule({"HEALTH_CHECK_SCHEDULE": schedule}, Path("absent.env")) == schedule


@pytest.mark.parametrize(
    "schedule",
    ["often", "* * * *", "* * * * * * *", "60 * * * * *", "* * 24 * * *", "* * * 0 * *", "* * * * 13 *", "* * * * * 7",
     "*/0 * * * * *", "*/00 * * * * *", "0 ٥ * * * *", "1- * * * * *", "0 0 0 * FOO *", "00:05:00", "%NAME%"],
)  # fmt: skip
def test_a_schedule_that_cannot_be_read_is_named_and_the_default_used(
    schedule: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert health_check_schedule({"HEALTH_CHECK_SCHEDULE": schedule}, Path("absent.env")) == "0 */5 * * * *"
    (record,) = caplog.records
    assert f"HEALTH_CHECK_SCHEDULE {schedule!r} is not an NCRONTAB expression" in record.getMessage()


def test_the_schedule_has_a_default(caplog: pytest.LogCaptureFixture) -> None:
    assert health_check_schedule({}, Path("absent.env")) == "0 */5 * * * *"
    assert caplog.records == []
