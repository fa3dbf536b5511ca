"""The benchmark of many subsets: its load, its reading of metrics, and a small run of all that it measures."""

import asyncio
import json
import threading
from collections import Counter
from contextlib import contextmanager
from decimal import Decimal

import pytest
import torch

from benchmarks import tenants
from benchmarks.load import put_load, request
from benchmarks.tenants_service import Plan, requests_for, subsets_of, tenants_lines, total
from moda_core.modularity.models import ActivationCounts, TrainedModel
from moda_core.modularity.modules import decomposed
from moda_core.specs import ArchitectureSpec, InputSpec
from moda_core.structure.unitgraph import unit_graph
from moda_core.training.initial import initial_network

LABELS = tuple("abcd")


@contextmanager
def answering(answer):
    """The port of a server that reads whole requests and writes `answer(target, body)`; None hangs up."""
    loop, asked = asyncio.new_event_loop(), []

    async def talk(reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                body = await reader.readexactly(int(head.lower().partition("content-length:")[2].split("\r\n")[0]))
                asked.append((head.split()[1], body))
                given = answer(*asked[-1])
                if given is None:
                    break
                for piece in given:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    server = loop.run_until_complete(asyncio.start_server(talk, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        loop.call_soon_threadsafe(server.close)  # which is for its own thread alone
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def ok(_target, _body):
    """An answer in pieces."""
    return [b"HTTP/1.1 200 OK\r\ncontent-", b"length: 4\r\n\r\nab", b"cd"]


def test_requests_go_round_until_there_were_enough():
    requests = [request("/predict", [("classes", name), ("classes", "ü &")], b"image", "image/png") for name in "ab"]
    with answering(ok) as (port, asked):
        outcome = put_load(port, requests, connections=3, seconds=30, most=20)
    assert (outcome.statuses, outcome.failed, len(outcome.latencies_ms)) == ({200: 20}, 0, 20)
    assert Counter(asked) == {(f"/predict?classes={name}&classes=%C3%BC%20%26", b"image"): 10 for name in "ab"}
    assert outcome.per_s == pytest.approx(20 / outcome.seconds)


def test_load_ends_when_its_time_is_up():
    with answering(ok) as (port, _):
        outcome = put_load(port, [request("/", [], b"", "text/plain")], connections=2, seconds=0.1, most=10**6)
    assert outcome.seconds < 5
    assert outcome.statuses[200] > 0


def test_other_answers_and_lost_connections_are_failures():
    with answering(lambda *_: [b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"]) as (port, _):
        assert put_load(port, [request("/", [], b"", "text/plain")], connections=1, seconds=9, most=5).statuses == {
            503: 5
        }
    with answering(lambda *_: None) as (port, _):
        outcome = put_load(port, [request("/", [], b"", "text/plain")], connections=2, seconds=9, most=5)
    assert (outcome.statuses, outcome.failed) == ({0: 2}, 2)


def test_subsets_differ_and_become_queries():
    labels = tuple(f"class {index}" for index in range(20))
    drawn = subsets_of(labels, Plan())
    assert len(drawn) == len({frozenset(subset) for subset in drawn}) == 1000
    [asked, whole] = requests_for([("a", "b"), ()], b"png")
    assert asked.startswith(b"POST /predict?model=shared&classes=a&classes=b HTTP/1.1\r\n")
    assert whole.startswith(b"POST /predict?model=shared HTTP/1.1\r\n")


def test_metrics_are_summed_by_label():
    text = '# TYPE loads counter\nloads_total{kind="a",x="1"} 2\nloads_total{kind="a",x="2"} 3\nloads_total{kind="b",x="1"} 4\n'
    assert total(text, "loads_total", kind="a") == 5
    assert total(text, "loads_total") == 9
    assert total(text, "others_total") == 0


def small_model():
    architecture = ArchitectureSpec(name="cnn", classes=4, channels=3, image_size=16)
    draw = torch.Generator().manual_seed(4)
    layers = unit_graph(architecture).layers
    counts = {layer.name: (torch.rand(4, layer.units, generator=draw) < 0.4).to(torch.int32) for layer in layers}
    held = ActivationCounts(counts, {layer.name: torch.arange(layer.units) for layer in layers}, (1,) * 4)
    rule = InputSpec(image_size=16, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
    trained = TrainedModel(architecture, LABELS, rule, initial_network(architecture, 1).state_dict())
    return decomposed(trained, held, Decimal("0.9"))


def test_costs_and_crossing_are_measured_told_and_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(tenants, "drawn_model", lambda *_, **__: small_model())
    found = tmp_path / "tenants.json"
    arguments = ["--no-service", "--rounds", "2", "--threads", str(torch.get_num_threads()), "--json", str(found)]
    assert tenants.main(arguments) == 0
    content = json.loads(found.read_text())
    masking, crossing = content["tables"].values()
    assert [line["batch"] for line in masking] == [1, 8, 32]
    assert [line["n"] for line in crossing] == list(tenants.OWN)
    assert all(line["together"] == pytest.approx(line["own ms"] + line["the others mixed"]) for line in crossing)
    assert "<svg" in found.with_suffix(".svg").read_text()


def test_a_service_answers_many_subsets_as_their_composed_models_do(tmp_path):
    plan = Plan(subsets=4, classes=2, connections=2, rounds=1, seconds=0.3, checked=3)
    lines, summary = tenants_lines(small_model(), plan, tmp_path)
    assert [line["asked"] for line in lines] == ["4 subsets", "whole model"]
    assert all(line["requests/s"] > 0 for line in lines)
    assert all(line["processor ms"] >= 0 for line in lines)
    assert summary["error against composed models"] < 1e-3
