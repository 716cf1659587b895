"""Test that the health check's schedule is the setting or else the default, and that the host reads the expression."""

from pathlib import Path

import pytest

from shared.settings import DEFAULT_SCHEDULE, health_check_schedule
from tests.support.processes import local_app

ABSENT = Path("absent.env")


@pytest.mark.parametrize("schedule", ["0 0 9-17/2 * * MON-FRI", "*/5 * * * *", "00:05:00", "%NAME%", "often"])
def test_the_schedule_is_passed_to_the_host_unchanged(schedule: str, caplog: pytest.LogCaptureFixture) -> None:
    assert health_check_schedule({"HEALTH_CHECK_SCHEDULE": schedule}, ABSENT) == schedule
    assert caplog.records == []


@pytest.mark.parametrize("environ", [{}, {"HEALTH_CHECK_SCHEDULE": ""}, {"HEALTH_CHECK_SCHEDULE": " "}])
def test_the_schedule_has_a_default(environ: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    assert health_check_schedule(environ, ABSENT) == DEFAULT_SCHEDULE == "0 */5 * * * *"
    assert caplog.records == []


def test_an_unresolved_reference_is_logged_and_replaced_by_the_default(caplog: pytest.LogCaptureFixture) -> None:
    reference = "@Microsoft.KeyVault(SecretUri=https://vault.vault.azure.net/secrets/schedule)"
    assert health_check_schedule({"HEALTH_CHECK_SCHEDULE": reference}, ABSENT) == DEFAULT_SCHEDULE
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.getMessage().startswith("HEALTH_CHECK_SCHEDULE is a Key Vault reference that did not resolve")
    assert record.getMessage().endswith(f"The health check's schedule is {DEFAULT_SCHEDULE}")


def test_an_unreadable_dotenv_file_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dotenv = tmp_path / "azureopenai.env"
    dotenv.write_text("HEALTH_CHECK_SCHEDULE=0 0 * * * *", encoding="utf-16")
    for environ in ({}, {"HEALTH_CHECK_SCHEDULE": "0 0 9 * * *"}):
        schedule = health_check_schedule(environ, dotenv)
        assert schedule == environ.get("HEALTH_CHECK_SCHEDULE", DEFAULT_SCHEDULE)
        assert caplog.records.pop().getMessage() == (
            "azureopenai.env cannot be read (UnicodeDecodeError); make it a readable UTF-8 text file. "
            f"The health check's schedule is {schedule}"
        )


def test_the_schedule_can_come_from_the_dotenv_file(tmp_path: Path) -> None:
    dotenv = tmp_path / "azureopenai.env"
    dotenv.write_text("HEALTH_CHECK_SCHEDULE=0 0 * * * *")
    assert health_check_schedule({}, dotenv) == "0 0 * * * *"


def test_an_invalid_schedule_disables_only_the_timer(folder: Path) -> None:
    with local_app(folder, HEALTH_CHECK_SCHEDULE="now and then") as app:
        error = "The 'health_probe' function is in error: The schedule expression 'now and then' was not recognized"
        assert app.output.count("function is in error") == app.output.count(error) == 1
        assert "health_probe: timerTrigger" not in app.output
        assert app.chat({"prompt": "Hello"}).status_code == 200
        assert app.http.get("/api/health/ready").json() == {"status": "healthy"}
