"""Predictions as they are written down."""

from __future__ import annotations

import math

import pytest
from pydantic_core import to_json

from moda_core.errors import Conflict
from service.answers import prediction_members
from service.inference.servables import Servable
from service.schemas import PredictionList

LABELS = ("cat", "dog", "ship")


def test_members_are_those_of_the_schema_in_the_callers_order():
    meant = Servable("0" * 64, None, LABELS, ("ship", "cat"))
    members = prediction_members(meant, LABELS, [[0.25, 0.5, 0.25], [0.125, 0.125, 0.75]])
    whole = PredictionList.model_validate(members)
    assert to_json(members) == whole.model_dump_json().encode()
    assert [one.probabilities for one in whole.predictions] == [[0.25, 0.25], [0.75, 0.125]]
    assert [one.label for one in whole.predictions] == ["ship", "ship"]


def test_probabilities_that_are_no_numbers_are_refused_with_a_remedy():
    meant = Servable("0" * 64, None, LABELS, LABELS)
    with pytest.raises(Conflict, match=r"beyond what float32 holds.*learning rate"):
        prediction_members(meant, LABELS, [[0.5, 0.25, 0.25], [math.nan] * 3])
