"""Test that the local host starts, and runs timers, as the real host is known to do."""

import re
import socket
import sys
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from local.host.timers import Schedule
from tests.support.local_host import SETTINGS, TIMESTAMP, HostApp, host_app


class TestStart:
    def test_the_host_listens_on_loopback_only(self, open_host: HostApp) -> None:
        listening = Path(f"/proc/{open_host.process.pid}/net/tcp").read_text()
        assert re.search(rf" 0100007F:{open_host.port:04X} 00000000:0000 0A", listening)
        assert not re.search(rf" 00000000:{open_host.port:04X} ", listening)

    def test_the_port_can_be_in_local_settings(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        local_settings = {"IsEncrypted": False, "Host": {"LocalHttpPort": port}}
        with host_app(tmp_path / "app", port=None, local_settings=local_settings, environ=SETTINGS) as host:
            assert host.port == port

    def test_responses_have_no_cors_headers_by_default(self, open_host: HostApp) -> None:
        response = open_host.http.get("/api/echo", headers={"origin": "https://page.example"})
        assert not any(name.startswith("access-control") for name in response.headers)

    def test_with_cors_the_host_responds_to_preflights_and_adds_headers_to_responses(self, tmp_path: Path) -> None:
        preflight_headers = {"access-control-request-method": "POST", "access-control-request-headers": "x-functions-key"}
        cors = {"CORS": "https://page.example,https://other.example", "CORSCredentials": True}
        local_settings = {"IsEncrypted": False, "Host": cors}
        with host_app(tmp_path / "app", "--enable-auth", local_settings=local_settings, environ=SETTINGS) as host:
            for origin, allowed in (("https://page.example", True), ("https://evil.example", False)):
                preflight = host.http.options("/api/secured", headers={"origin": origin, **preflight_headers})
                assert preflight.status_code == 204
                actual = host.http.get("/api/echo", headers={"origin": origin})
                for response in (preflight, actual):
                    assert response.headers.get("access-control-allow-origin") == (origin if allowed else None)
                assert preflight.headers.get("access-control-allow-headers") == ("x-functions-key" if allowed else None)
                assert preflight.headers.get("access-control-allow-methods") == ("POST" if allowed else None)
                assert actual.headers.get("access-control-allow-credentials") == ("true" if allowed else None)

    def test_cors_on_the_command_line_can_allow_any_origin(self, tmp_path: Path) -> None:
        with host_app(tmp_path / "app", "--cors", "*", environ=SETTINGS) as host:
            response = host.http.get("/api/stream/short", headers={"origin": "https://page.example"})
            assert response.headers["access-control-allow-origin"] == "*"

    def test_values_override_only_empty_variables_and_can_be_empty(self, tmp_path: Path) -> None:
        values = {"TAKEN": "file", "OVER_EMPTY": "file", "EMPTY": "", "AZURE_FUNCTIONS_ENVIRONMENT": "Production"}
        local_settings = {"IsEncrypted": False, "Values": values}
        environ = {**SETTINGS, "TAKEN": "os", "OVER_EMPTY": ""}
        with host_app(tmp_path / "app", local_settings=local_settings, environ=environ) as host:
            environ = host.http.get("/api/environ").json()
            assert (environ["TAKEN"], environ["OVER_EMPTY"], environ["EMPTY"]) == ("os", "file", "")
            assert environ["AZURE_FUNCTIONS_ENVIRONMENT"] == "Development"
            assert (
                "Skipping 'TAKEN' from local settings as it's already defined in current environment variables."
                in host.output
            )

    def test_the_host_sets_variables_of_its_own(self, open_host: HostApp) -> None:
        environ = open_host.http.get("/api/environ").json()
        assert environ["FUNCTIONS_CORETOOLS_ENVIRONMENT"] == "true"
        assert environ["WEBSITE_HOSTNAME"] == f"localhost:{open_host.port}"
        assert environ["AzureWebJobsScriptRoot"] == str(open_host.folder)
        assert environ["AZURE_FUNCTIONS_ENVIRONMENT"] == "Development"
        assert environ["FUNCTIONS_WORKER_RUNTIME_VERSION"] == "{}.{}".format(*sys.version_info[:2])
        assert environ["PYTHON_ENABLE_DEBUG_LOGGING"] == "1"
        assert environ["PYTHON_THREADPOOL_THREAD_COUNT"] == "1000"

    def test_the_host_lists_its_functions(self, open_host: HostApp) -> None:
        listed = open_host.output.partition("\nFunctions:\n\n")[2].partition("Ctrl-C")[0]
        url = f"http://localhost:{open_host.port}/api"
        assert f"\techo: [GET,POST] {url}/echo/{{first?}}\n" in listed
        assert f"\tunrouted:  {url}/unrouted\n" in listed
        assert "\toften: timerTrigger\n" in listed


class TestTimers:
    def test_a_timer_fires_on_its_schedule_in_local_time(self, open_host: HostApp) -> None:
        open_host.wait_for("Executed 'Functions.often' (Succeeded")
        fired = re.search(r"Executing 'Functions\.often' \(Reason='Timer fired at (\S+)', Id=", open_host.output)
        assert fired
        assert int(fired[1][17:19]) % 2 == 0

    def test_a_timer_that_fires_again_within_a_minute_is_not_monitored(self, open_host: HostApp) -> None:
        open_host.wait_for("often {} False")

    def test_run_on_startup_fires_at_once_with_the_minimum_date_as_the_last_run(self, open_host: HostApp) -> None:
        open_host.wait_for("seldom {'Last': '0001-01-01T00:00:00', 'Next': '")
        assert "{'AdjustForDST': True}" in open_host.output

    def test_runs_never_overlap_and_missed_ones_are_skipped(self, open_host: HostApp) -> None:
        while open_host.output.count("Executed 'Functions.slow'") < 3:
            open_host.wait_for_line()
        lines = re.findall(rf"{TIMESTAMP}(Executing|Executed) 'Functions\.slow'", open_host.output)
        assert lines[:6] == ["Executing", "Executed"] * 3
        # Each run takes 2.2 seconds, so the next one starts at the third full second after it.
        seconds = [
            datetime.fromisoformat(fired)
            for fired in re.findall(r"Functions\.slow' \(Reason='Timer fired at ([^']+)'", open_host.output)
        ]
        assert all((later - earlier).total_seconds() > 2.2 for earlier, later in pairwise(seconds))

    def test_an_error_does_not_stop_a_timer(self, open_host: HostApp) -> None:
        while open_host.output.count("Executed 'Functions.every_second' (Failed") < 2:
            open_host.wait_for_line()

    def test_a_schedule_can_be_the_name_of_a_setting(self, open_host: HostApp) -> None:
        found = re.search(r"seldom \{.*'Next': '\d{4}-\d\d-\d\dT09:00:00", open_host.output)
        assert found

    def test_an_invalid_schedule_puts_only_that_function_in_error(self, open_host: HostApp) -> None:
        assert "The 'unreadable' function is in error: The schedule expression 'every now and then'" in open_host.output
        assert "The 'unresolved' function is in error: '%UNSET%' does not resolve to a value." in open_host.output

    @pytest.mark.parametrize(
        ("schedule", "due"),
        [
            ("0 */5 * * * *", "2026-11-23T12:05:00"),
            ("*/5 * * * *", "2026-11-23T12:05:00"),
            ("30 0 12 * * *", "2026-11-23T12:00:30"),
            ("0 0 9-17 * * MON-FRI", "2026-11-23T13:00:00"),
            ("0 0 0 1 1 *", "2027-01-01T00:00:00"),
            ("00:00:10", "2026-11-23T12:00:11"),
            ("1.00:00:00", "2026-11-24T12:00:01"),
        ],
    )
    def test_a_schedule_has_six_or_five_fields_or_is_a_time_span(self, schedule: str, due: str) -> None:
        assert Schedule(schedule).after(datetime.fromisoformat("2026-11-23T12:00:01")).isoformat() == due

    @pytest.mark.parametrize("schedule", ["", "x", "* * * *", "* * * * * * *", "61 * * * * *", "00:00:00", "@daily"])
    def test_other_schedules_are_rejected(self, schedule: str) -> None:
        with pytest.raises(ValueError, match="was not recognized as a valid cron expression"):
            Schedule(schedule)
