"""One line of JSON per event, whatever is in it."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout

import pytest

from service.telemetry import request_logger


def logged(**members: object) -> dict[str, object]:
    written = io.StringIO()
    with redirect_stdout(written):
        request_logger().info("request", **members)
    [line] = written.getvalue().splitlines()
    return json.loads(line)


def test_a_line_has_what_was_said_with_its_level_and_time():
    line = logged(route="/predict", status=200, duration_ms=1.5)
    assert (line["event"], line["level"], line["route"], line["status"]) == ("request", "info", "/predict", 200)
    assert str(line["timestamp"]).endswith("Z")


@pytest.mark.parametrize("odd", ["half a character \udc80", b"\xff\xfe", object(), "line\nbreak", float("nan")])
def test_no_value_keeps_a_line_from_being_written(odd: object):
    assert logged(odd=odd, status=500)["status"] == 500
