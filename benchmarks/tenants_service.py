"""A service with many tenants: one model, and 1,000 different subsets of its classes asked for in one stream."""

from __future__ import annotations

import http.client
import io
import itertools
import json
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.conditions import spread
from benchmarks.endurance.service import Service, served
from benchmarks.load import Outcome, put_load, request
from benchmarks.serving.ourselves import chosen_form
from benchmarks.serving.processes import ProcessTree
from moda_core.data.images import decode
from moda_core.modularity.composition import compose
from moda_core.modularity.models import ModularModel
from moda_core.modularity.networks import network, predict
from moda_core.storage.artifacts import encode

__all__ = ["ENOUGH", "Plan", "picture", "requests_for", "service", "subsets_of", "tenants_lines", "total"]

ENOUGH = 0.9
"""Least throughput of many subsets, as a share of the single model's."""

_MODEL = "shared"
_MOST_REQUESTS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is asked.

    Attributes:
        subsets: different ones, of `classes` classes each.
        seconds: of each load; one comes before the first that counts, for each kind.
        checked: answers that are compared with composed models, one subset each.
    """

    subsets: int = 1000
    classes: int = 3
    connections: int = 32
    rounds: int = 5
    seconds: float = 10.0
    checked: int = 8
    seed: int = 0


def tenants_lines(model: ModularModel, plan: Plan, scratch: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A line per load, and what they come to.

    Raises:
        RuntimeError: if the service does not start, or answers anything but 200.
    """
    subsets = subsets_of(model.labels, plan)
    image = picture(model.input.image_size, plan.seed)
    streams = {"whole model": requests_for([()], image), f"{plan.subsets} subsets": requests_for(subsets, image)}
    with service(model, scratch) as found:
        _load(found, streams["whole model"], plan)
        chosen_form(found.url, _MODEL)  # it is measured beside the first requests
        for requests in streams.values():
            _load(found, requests, plan)
        lines = [
            {"round": turn, "asked": asked, **_load(found, streams[asked], plan)}
            for turn in range(plan.rounds)
            for asked in (list(streams) if turn % 2 else list(reversed(streams)))
        ]
        error = _error(found.port, model, subsets[: plan.checked], image)
    return lines, _summary(lines, *streams) | {"error against composed models": error}


def subsets_of(labels: Sequence[str], plan: Plan) -> list[tuple[str, ...]]:
    """Different subsets of the classes, in random order."""
    every = list(itertools.combinations(labels, plan.classes))
    return random.Random(plan.seed).sample(every, min(plan.subsets, len(every)))


def requests_for(subsets: Sequence[Sequence[str]], image: bytes) -> list[bytes]:
    """One prediction for each subset; the whole model for an empty one."""
    return [
        request("/predict", [("model", _MODEL), *(("classes", label) for label in subset)], image, "image/png")
        for subset in subsets
    ]


def picture(size: int, seed: int) -> bytes:
    """A colour image of noise as a PNG file."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def total(exposition: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels, in Prometheus's text; 0 where there is none."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


@contextmanager
def service(model: ModularModel, scratch: Path) -> Iterator[Service]:
    """A service that has the model; nothing of it runs afterwards.

    Raises:
        Unavailable: if it does not start; the end of its log is in the message.
        RuntimeError: if it refuses the model.
    """
    home = scratch / "home"
    home.mkdir(parents=True, exist_ok=True)
    with served(home, threads=os.cpu_count() or 1, settings={"MODA_DEVICE": "auto"}) as found:
        _upload(found.port, model)
        yield found


def _upload(port: int, model: ModularModel) -> None:
    boundary = "moda-benchmark"
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="name"\r\n\r\n{_MODEL}\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="model.safetensors"\r\n\r\n'
    )
    body = head.encode() + encode(model) + f"\r\n--{boundary}--\r\n".encode()
    _ask(port, "POST", "/models", body, f"multipart/form-data; boundary={boundary}")


def _ask(port: int, method: str, path: str, body: bytes = b"", media_type: str = "text/plain") -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, {"Content-Type": media_type})
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    if answer.status >= 300:
        raise RuntimeError(f"{method} {path.partition('?')[0]} was answered with {answer.status}: {text[:300]}")
    return text


def _load(asked: Service, requests: Sequence[bytes], plan: Plan) -> dict[str, Any]:
    composed, processor_s = _composed(asked), ProcessTree(asked.pid).cpu_s()
    outcome = put_load(asked.port, requests, connections=plan.connections, seconds=plan.seconds, most=_MOST_REQUESTS)
    if outcome.failed or not outcome.latencies_ms:
        raise RuntimeError(f"the service answered {dict(outcome.statuses)}")
    processor_ms = 1e3 * (ProcessTree(asked.pid).cpu_s() - processor_s) / len(outcome.latencies_ms)
    return _line(outcome) | {"processor ms": processor_ms, "compositions": int(_composed(asked) - composed)}


def _composed(asked: Service) -> float:
    """Models that it has composed since it began."""
    return total(asked.metrics(), "moda_model_load_seconds_count", kind="composed")


def _line(outcome: Outcome) -> dict[str, Any]:
    ordered = sorted(outcome.latencies_ms)
    return {
        "requests/s": outcome.per_s,
        "median ms": ordered[len(ordered) // 2],
        "99 % ms": ordered[int(0.99 * (len(ordered) - 1))],
        "requests": len(ordered),
    }


def _summary(lines: Sequence[dict[str, Any]], whole: str, mixed: str) -> dict[str, Any]:
    """Many subsets beside the whole model, round by round: what the clock says, and what the processor did."""
    throughput = list(spread(_ratios(lines, "requests/s", mixed, whole)))
    return {
        "share of the whole model's throughput": throughput,
        "processor time per request, as a share": list(spread(_ratios(lines, "processor ms", mixed, whole))),
        f"goal, at least {ENOUGH:.0%} of the throughput": "reached" if throughput[0] >= ENOUGH else "NOT reached",
        "compositions while it was measured": sum(line["compositions"] for line in lines),
    }


def _ratios(lines: Sequence[dict[str, Any]], measure: str, one: str, other: str) -> list[float]:
    """Of one stream to the other in each round."""
    found = {(line["round"], line["asked"]): line[measure] for line in lines}
    rounds = sorted({line["round"] for line in lines})
    return [found[turn, one] / (found[turn, other] or float("nan")) for turn in rounds]


def _error(port: int, model: ModularModel, subsets: Sequence[Sequence[str]], image: bytes) -> float:
    """The largest difference of a probability from that of the composed model, in standard deviations of these."""
    differences, expected = [], []
    for subset, asked in zip(subsets, requests_for(subsets, image), strict=True):
        head, _, body = asked.partition(b"\r\n\r\n")
        answer = json.loads(_ask(port, "POST", head.split()[1].decode(), body, "image/png"))
        composed = network(compose(model, subset))
        expected.append(predict(composed, [decode(image)])[0])
        order = [answer["classes"].index(label) for label in composed.labels]
        differences.append(torch.tensor(answer["predictions"][0]["probabilities"])[order] - expected[-1])
    return float(torch.stack(differences).abs().max() / torch.stack(expected).std())
