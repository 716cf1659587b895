"""Test what the router does with a failure that nobody expected."""

import logging
import re

import pytest
from azurefunctions.extensions.http.fastapi import Request

from shared.errors import InternalError
from shared.openai_api.router import rejection
from shared.operations import EMBEDDINGS


def test_an_unexpected_failure_leaves_a_line_with_the_id_of_the_response(caplog: pytest.LogCaptureFixture) -> None:
    request = Request({"type": "http", "method": "POST", "path": "/api/v1/embeddings", "headers": []})
    with caplog.at_level(logging.INFO):
        error = rejection(OSError("a secret"), request, "team-a", EMBEDDINGS)
    assert isinstance(error, InternalError)
    ids = [re.findall(r"request_id=(\w+)", record.getMessage()) for record in caplog.records]
    assert ids == [[error.request_id]] * 2
    assert "Call caller=team-a operation=embeddings status=500 error=internal_error attempts=0 " in caplog.text
    assert "a secret" not in caplog.text
