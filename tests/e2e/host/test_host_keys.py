"""Test that the local host handles keys, and the admin routes that they open, as the real host is known to do."""

from collections.abc import Iterator

import httpx2
import pytest

from tests.support.local_host import SETTINGS, HostApp, host_app


@pytest.fixture(scope="module")
def locked_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostApp]:
    """Run the local host with --enable-auth."""
    with host_app(tmp_path_factory.mktemp("app"), "--enable-auth", environ=SETTINGS) as host:
        yield host


class TestKeys:
    def test_func_start_requires_no_keys(self, open_host: HostApp) -> None:
        for path in ("/api/secured", "/api/master_only", "/admin/host/status"):
            assert open_host.http.get(path).status_code == 200

    def test_a_missing_or_wrong_key_is_an_empty_401(self, locked_host: HostApp) -> None:
        for headers in ({}, {"x-functions-key": "wrong"}):
            response = locked_host.http.get("/api/secured", headers=headers)
            assert (response.status_code, response.content) == (401, b"")
            assert "www-authenticate" not in response.headers

    def test_a_key_can_be_in_the_header_or_the_query(self, locked_host: HostApp) -> None:
        key = locked_host.key("all functions")
        assert locked_host.get("/api/secured", key).status_code == 200
        for name in ("code", "CODE", "Code"):
            assert locked_host.http.get("/api/secured", params={name: key}).status_code == 200

    @pytest.mark.parametrize("header", ["", "wrong"])
    def test_a_key_in_the_header_overrides_the_one_in_the_query(self, locked_host: HostApp, header: str) -> None:
        response = locked_host.http.get(
            "/api/secured", params={"code": locked_host.key("all functions")}, headers={"x-functions-key": header}
        )
        assert response.status_code == 401

    def test_a_functions_own_key_opens_that_function(self, locked_host: HostApp) -> None:
        assert locked_host.get("/api/secured", locked_host.key("secured")).status_code == 200

    def test_the_master_key_opens_every_level_and_other_keys_do_not_open_the_admin_level(self, locked_host: HostApp) -> None:
        master, host = locked_host.key("master"), locked_host.key("all functions")
        assert locked_host.get("/api/secured", master).status_code == 200
        assert locked_host.get("/api/master_only", master).status_code == 200
        assert locked_host.get("/api/master_only", host).status_code == 401

    def test_an_anonymous_function_ignores_a_wrong_key(self, locked_host: HostApp) -> None:
        assert locked_host.get("/api/echo", "wrong").status_code == 200

    def test_a_disabled_function_is_404_except_for_the_master_key(self, open_host: HostApp, locked_host: HostApp) -> None:
        assert open_host.http.get("/api/switched_off").status_code == 404
        assert locked_host.get("/api/switched_off", locked_host.key("all functions")).status_code == 404
        assert locked_host.get("/api/switched_off", locked_host.key("master")).text == "on"

    def test_keys_are_forwarded_to_the_app(self, locked_host: HostApp) -> None:
        key = locked_host.key("all functions")
        response = locked_host.http.get("/api/secured", params={"code": "x"}, headers={"x-functions-key": key})
        assert response.json() == {"header": key, "code": "x"}


class TestAdmin:
    def post(self, host: HostApp, name: str, key: str = "", json: object = None) -> httpx2.Response:
        return host.http.post(f"/admin/functions/{name}", headers={"x-functions-key": key}, json=json)

    @pytest.mark.parametrize("body", [{}, {"input": ""}])
    def test_a_run_on_demand_is_202_even_if_the_function_fails(self, locked_host: HostApp, body: object) -> None:
        response = self.post(locked_host, "failing", locked_host.key("master"), json=body)
        assert (response.status_code, response.content) == (202, b"")
        locked_host.wait_for("Executed 'Functions.failing' (Failed")
        locked_host.wait_for("ValueError: scripted failure at that time")

    def test_a_timer_without_monitor_has_no_status(self, locked_host: HostApp) -> None:
        self.post(locked_host, "unmonitored", locked_host.key("master"), json={})
        locked_host.wait_for("unmonitored {}")

    def test_an_invalid_request_for_a_run_is_rejected(self, locked_host: HostApp) -> None:
        master = locked_host.key("master")
        json_type = {"x-functions-key": master, "content-type": "application/json"}
        assert locked_host.http.post("/admin/functions/failing", content=b"null", headers=json_type).status_code == 400
        assert locked_host.http.post("/admin/functions/nothing", content=b"{}", headers=json_type).status_code == 404
        plain = {"x-functions-key": master, "content-type": "text/plain"}
        assert locked_host.http.post("/admin/functions/failing", content=b"{}", headers=plain).status_code == 415

    def test_a_missing_key_is_401_with_www_authenticate_and_an_insufficient_key_is_403(self, locked_host: HostApp) -> None:
        host_key = locked_host.key("all functions")
        for response in (self.post(locked_host, "failing", json={}), locked_host.http.get("/admin/host/status")):
            assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        for response in (
            self.post(locked_host, "failing", host_key, json={}),
            locked_host.get("/admin/host/status", host_key),
        ):
            assert response.status_code == 403
            assert "www-authenticate" not in response.headers

    def test_ping_is_empty_needs_no_key_and_is_not_cached(self, locked_host: HostApp) -> None:
        for method in ("GET", "POST"):
            response = locked_host.http.request(method, "/admin/host/ping")
            assert (response.status_code, response.content) == (200, b"")
            assert response.headers["cache-control"] == "no-store,no-cache"
            assert response.headers["pragma"] == "no-cache"

    def test_the_status_has_the_state_and_the_version(self, locked_host: HostApp) -> None:
        status = locked_host.get("/admin/host/status", locked_host.key("master")).json()
        assert status["state"] == "Running"
        assert {"id", "version", "processUptime"} <= set(status)
