"""Test the access log of a failure that nobody expected."""

import logging
import re

import pytest

from shared.errors import InternalError
from shared.operations import EMBEDDINGS
from shared.telemetry.access_log import rejected

SCOPE = {"type": "http", "method": "POST", "path": "/api/v1/embeddings", "headers": []}


def test_an_unexpected_failure_leaves_a_line_with_the_id_of_the_response(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        error = rejected(OSError("a secret"), SCOPE, caller="team-a", operation=EMBEDDINGS)
    assert isinstance(error, InternalError)
    ids = [re.findall(r"request_id=(\w+)", record.getMessage()) for record in caplog.records]
    assert ids == [[error.request_id]] * 2
    assert "Call caller=team-a operation=embeddings status=500 error=internal_error attempts=0 " in caplog.text
    assert "a secret" not in caplog.text
