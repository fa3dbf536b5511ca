"""One line of JSON per event, whatever is in it."""

from __future__ import annotations

import io
import json

import pytest

from service.json_lines import JsonLines


def logged(**members: object) -> dict[str, object]:
    written = io.StringIO()
    JsonLines(written).info("request", **members)
    [line] = written.getvalue().splitlines()
    return json.loads(line)


def test_a_line_has_what_was_said_with_its_level_and_time():
    line = logged(route="/predict", status=200, duration_ms=1.5)
    assert (line["event"], line["level"], line["route"], line["status"]) == ("request", "info", "/predict", 200)
    assert str(line["timestamp"]).endswith("Z")


def test_a_bug_has_its_traceback():
    written = io.StringIO()
    try:
        raise LookupError("nobody's key")
    except LookupError:
        JsonLines(written).exception("request failed", route="/predict")
    [line] = map(json.loads, written.getvalue().splitlines())
    assert (line["event"], line["level"], line["route"]) == ("request failed", "error", "/predict")
    assert line["exception"].splitlines()[-1] == "LookupError: nobody's key"


@pytest.mark.parametrize("odd", ["half a character \udc80", b"\xff\xfe", object(), "line\nbreak", float("nan")])
def test_no_value_keeps_a_line_from_being_written(odd: object):
    assert logged(odd=odd, status=500)["status"] == 500
