"""Who is the best of the peers, which cells are measured, and what the tables say, on rounds made by hand."""

import pytest

from benchmarks.serving.contestants import OURS, Contestant
from benchmarks.serving.goals import goals
from benchmarks.serving.load import Loaded
from benchmarks.serving.results import METRICS, Results
from benchmarks.serving.rounds import Cell, Measured, Plan, Visit
from benchmarks.serving.servers import Stopped
from benchmarks.serving.tables import markdown, rounds_of, tables

RATE, P99 = METRICS["req/s"], METRICS["p99 ms"]


def visit(name, number, figures, *, start_s=1.0, memory_mb=100.0, errors=0):
    """A visit with (rate, p99) for each cell."""
    measured = tuple(
        Measured(cell, Loaded(duration_s=2.0, requests=int(2 * rate), p50_ms=p99 / 2, p99_ms=p99, errors=errors), 0.5)
        for cell, (rate, p99) in figures.items()
    )
    family = name.partition(",")[0]
    return Visit(name, family, number, start_s, {"tiny": memory_mb}, measured, Stopped(0.2, 0, 0, 0))


def cell(form="multipart", connections=1, *, way="module", model="tiny"):
    return Cell(model, way, form, connections)


OWN, PEERS = cell(way="executable"), cell()


def results(rounds=7, *, ours=(900, 2.0), fast=(300, 9.0), even=(200, 5.0)):
    found = []
    for number in range(rounds):
        found.append(visit("B, batching", number, {PEERS: fast}, start_s=4.0, memory_mb=500.0))
        found.append(visit("A, no batching", number, {PEERS: even}, start_s=3.0, memory_mb=600.0))
        found.append(visit(OURS, number, {OWN: ours}))
    return Results(found, {})


def test_the_best_peer_may_be_another_for_each_figure():
    found = results()
    rate, p99 = found.beside_best(PEERS, RATE), found.beside_best(PEERS, P99)
    assert (rate.other, rate.ratio.median, rate.difference) == ("B, batching", 3, "ours more")
    assert (p99.other, p99.ratio.median, p99.difference) == ("A, no batching", 0.4, "ours less")


def test_what_no_peer_has_measured_is_not_compared():
    assert results().beside_best(cell("raw"), RATE) is None
    assert results().beside_best(cell(way="executable"), RATE) is None


def test_equal_servers_have_no_difference():
    assert results(ours=(300, 5.0)).beside_best(PEERS, RATE).difference == "none"


def test_goals_name_what_was_measured_and_what_was_reached():
    rows = {row["goal"]: row for row in goals(results())}
    assert rows["tiny, multipart, 1 connections: requests/s of the best peer's"]["verdict"] == "met"
    assert rows["tiny, multipart, 1 connections: p99 of the best peer's"]["verdict"] == "met"
    assert rows["memory of all processes, tiny: below the least peer's"]["beside"] == "B, batching"
    assert rows["start: below the fastest peer's"]["beside"] == "A, no batching"
    assert not [goal for goal in rows if "raw" in goal or "resnet18" in goal]


def test_a_goal_that_was_missed_says_so():
    rows = {row["goal"]: row["verdict"] for row in goals(results(ours=(500, 3.0)))}
    assert rows["tiny, multipart, 1 connections: requests/s of the best peer's"] == "not met"
    assert rows["tiny, multipart, 1 connections: p99 of the best peer's"] == "not met"


def test_the_service_stands_beside_its_executable_in_the_batches_that_its_clients_allow():
    own = {cell(way="executable", model="resnet18", connections=count): (80, 100.0) for count in (1, 8, 128)}
    found = Results(
        [visit(OURS, number, own) for number in range(3)], {"resnet18": [{1: 50.0, 8: 100.0, 32: 160.0}] * 3}
    )
    ratios = {count: found.beside_executable("resnet18", count).ratio.median for count in (1, 8, 128)}
    assert ratios == {1: 1.6, 8: 0.8, 128: 0.5}
    assert found.beside_executable("resnet18", 32) is None
    assert found.beside_executable("tiny", 1) is None


def test_errors_are_summed_over_rounds():
    found = Results([visit(OURS, number, {OWN: (10, 1.0)}, errors=2) for number in range(3)], {})
    assert found.errors(OURS) == found.errors(OURS, OWN) == 6
    assert found.errors(OURS, PEERS) == 0


def test_the_page_holds_every_table_and_the_rows_hold_every_round():
    found = results(rounds=2)
    shown = tables(found, {"More": [{"what": 1}], "Nothing": []})
    conditions = {"versions": {"ours": {"torch": "2", "numpy": "3"}, "ray": {"ray": "4"}}, "missing": []}
    page = markdown("Serving", conditions, shown, ["A note."])
    assert "- versions: ours: torch 2, numpy 3; ray: ray 4\n- missing: none\n" in page
    assert "## More" in page
    assert "Nothing" not in page
    assert page.count("| A, no batching |") >= 2
    assert len(rounds_of(found)) == 6
    assert rounds_of(found)[0]["req/s"] == 300


def contestant(name, *, batching=True, ways=("module", "executable")):
    return Contestant(
        name=name, family=name, ways=ways, command=lambda _: [], environment={}, path=lambda *_: "/", batching=batching
    )  # fmt: skip


def test_ours_is_measured_in_every_cell_in_which_a_peer_is():
    plan, own = Plan(), contestant(OURS, ways=("executable",))
    wanted = {(one.model, one.form, one.connections) for one in plan.cells(own)}
    for batching in (True, False):
        cells = plan.cells(contestant("Peer", batching=batching))
        assert {(one.model, one.form, one.connections) for one in cells} <= wanted


def test_the_tiny_model_is_measured_in_both_forms_at_all_counts_on_everybody():
    for batching in (True, False):
        cells = set(Plan().cells(contestant("Peer", batching=batching)))
        assert cells >= {cell(form, count) for form in ("multipart", "raw") for count in (1, 8, 32, 128)}


def test_a_model_and_way_are_measured_in_one_piece():
    pairs = [(one.model, one.way) for one in Plan().cells(contestant("Peer"))]
    assert pairs == sorted(pairs, key=list(dict.fromkeys(pairs)).index)


@pytest.mark.parametrize(("connections", "seconds"), [(1, 3), (32, 4), (128, 10)])
def test_a_slow_model_has_time_to_answer_each_connection_several_times(connections, seconds):
    assert Plan().seconds_of(cell(connections=connections, model="resnet18")) == seconds
