from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn

from moda_core.structure.tracing import trace


class Small(nn.Module):
    """A classifier whose forward pass runs something while it is traced."""

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
        self.meanwhile = meanwhile

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.meanwhile()
        return self.layers(x)

    def __deepcopy__(self, memo: dict) -> Small:
        twin = Small(self.meanwhile)
        return twin.to("meta")


def test_another_thread_predicts_while_a_network_is_traced():
    other, image = Small().eval(), torch.rand(2, 1, 4, 4)
    expected = other(image)
    answers = []

    def predict_elsewhere() -> None:
        thread = threading.Thread(target=lambda: answers.append(other(image)))
        thread.start()
        thread.join()

    traced = trace(Small(predict_elsewhere), (1, 4, 4), training=False)
    assert answers
    assert all(torch.equal(answer, expected) for answer in answers)
    assert [node.op for node in traced.graph.nodes].count("call_module") == 3


def test_networks_traced_at_once_are_each_traced_whole_and_leave_modules_as_they_were():
    called, read = nn.Module.__call__, nn.Module.__getattr__
    with ThreadPoolExecutor(4) as threads:
        traces = list(threads.map(lambda _: trace(Small(), (1, 4, 4), training=False), range(16)))
    assert len({str(one.graph) for one in traces}) == 1
    assert nn.Module.__call__ is called
    assert nn.Module.__getattr__ is read
