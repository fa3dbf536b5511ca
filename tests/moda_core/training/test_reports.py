import json
from dataclasses import replace

import pytest

from moda_core.errors import InvalidInput
from moda_core.training.reports import EpochReport


@pytest.fixture
def report():
    return EpochReport(
        epoch=2,
        epochs=9,
        loss=1.25,
        cross_entropy=1.0,
        terms={"affinity": 0.1, "dispersion": 0.1, "compactness": 0.05},
        accuracy=0.5,
        learning_rate=0.05,
        samples_per_s=1000.0,
        seconds=1.5,
        remaining_s=10.5,
    )


def test_a_report_survives_json(report):
    assert report.to_json()["dispersion"] == 0.1
    assert EpochReport.from_json(json.loads(json.dumps(report.to_json()))) == report


@pytest.mark.parametrize("name", ["loss", "epoch", "terms"])
def test_a_term_has_no_fields_name(report, name):
    with pytest.raises(InvalidInput, match=name):
        replace(report, terms={name: 1.0})
