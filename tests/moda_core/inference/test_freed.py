"""What an executable holds is free at once when it is dropped: no bound on memory can wait for the garbage collector."""

from __future__ import annotations

import gc
import linecache
import weakref
from collections.abc import Callable, Iterator

import pytest
from serving import modular_model, patched_model, trained_model
from torch import nn
from torch.fx.graph_module import _loader

from moda_core.inference.executables import Form, executable
from moda_core.inference.forms import candidates
from moda_core.inference.sessions import Session
from moda_core.modularity.composition import compose
from moda_core.modularity.models import Model

MODELS: dict[str, Callable[[], Model]] = {
    "whole": trained_model,
    "composed": lambda: compose(modular_model(), ["cat", "dog"]),
    "patched": patched_model,
    "composed vit": lambda: compose(modular_model(name="vit"), ["cat", "dog"]),
}


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("form", candidates("cpu", ["bf16"]))
def test_a_dropped_executable_holds_nothing_for_the_collector(form: Form, kind: str) -> None:
    if form == "onnxruntime" and "vit" in kind:
        pytest.skip("it has operators that are not lowered")
    model = MODELS[kind]()
    made = executable(model, form)
    network = made._run
    assert isinstance(network, nn.Module)
    parts = [weakref.ref(part) for part in (*network.modules(), *network.parameters(), *network.buffers())]
    sessions = [part for part in network.modules() if isinstance(part, Session)]
    parts += [weakref.ref(part.session) for part in sessions]
    enough = 2 if sessions else 10
    del model, made, network, sessions
    assert len(parts) >= enough
    assert sum(part() is not None for part in parts) == 0


@pytest.mark.parametrize("kind", MODELS)
def test_nothing_of_it_is_in_a_circle(kind: str) -> None:
    """What the collector has set aside as being in use would, in a circle, never be freed."""
    made = executable(MODELS[kind](), "folded")
    gc.collect()
    gc.disable()
    try:
        del made
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_no_source_of_it_stays_in_the_process() -> None:
    executable(trained_model(), "folded")
    before = len(_loader.eval_cache), len(linecache.cache)
    for seed in range(3):
        executable(compose(modular_model(seed), ["cat", "dog"]), "folded")
        executable(trained_model(seed), "folded")
    assert (len(_loader.eval_cache), len(linecache.cache)) == before
