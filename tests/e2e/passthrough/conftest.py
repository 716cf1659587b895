"""Provide the apps with caller keys, on both kinds of API version, with empty journals."""

import pytest

from tests.support.processes import LocalApp


@pytest.fixture(autouse=True)
def empty_journals(dated: LocalApp, v1: LocalApp) -> None:
    dated.model.clear()
    v1.model.clear()


@pytest.fixture(params=["dated", "v1"])
def app(request: pytest.FixtureRequest) -> LocalApp:
    app: LocalApp = request.getfixturevalue(request.param)
    return app
