"""Provide the apps with caller keys, on both kinds of API version, with empty journals."""

import pytest

from tests.support.processes import LocalApp


@pytest.fixture(autouse=True)
def empty_journals(dated: LocalApp, v1: LocalApp) -> None:
    for app in (dated, v1):
        app.model.clear()
        # Each deployment serves embeddings as well, so that the tests can send each operation with any model.
        app.model.http.put("/control/deployments", json=dict.fromkeys(("chat", "prod-4o", "embed-3"))).raise_for_status()


@pytest.fixture(params=["dated", "v1"])
def app(request: pytest.FixtureRequest) -> LocalApp:
    app: LocalApp = request.getfixturevalue(request.param)
    return app
