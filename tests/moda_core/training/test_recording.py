"""What a recording asks of CUDA, and what it does with its batches; the recorded steps themselves need CUDA."""

import contextlib
import gc
import weakref

import pytest
import torch

from moda_core.training.criteria import Standard
from moda_core.training.execution import Execution
from moda_core.training.recording import STEPS_BEFORE_RECORDING, Recording
from moda_core.training.steps import Step

FIRST, SECOND = torch.device("cuda", 0), torch.device("cuda", 1)


class FakeGraph:
    """Notes what is called while it records, and calls it again when replayed."""

    def __init__(self):
        self.calls, self.results = [], []

    def replay(self):
        for call, arguments, result in self.calls:
            result.copy_(call(*arguments))


class FakeStream:
    """Knows its device, and the streams it waited for."""

    def __init__(self, device):
        self.device, self.waited = device, []

    def wait_stream(self, other):
        self.waited.append(other)


class FakeCuda:
    """CUDA's side of a recording, on the CPU; the graph that is being recorded is in `recording`."""

    def __init__(self):
        self.recording, self.devices, self.used = [], [], []
        self.current = {device: FakeStream(device) for device in (FIRST, SECOND)}

    @contextlib.contextmanager
    def graph(self, which, *, stream):
        self.used.append(("recording", stream, *self.devices))
        self.recording.append(which)
        yield
        self.recording.pop()

    @contextlib.contextmanager
    def stream(self, stream):
        self.used.append(("beside", stream))
        yield

    @contextlib.contextmanager
    def device(self, device):
        self.devices.append(device)
        yield
        self.devices.pop()


@pytest.fixture
def cuda(monkeypatch):
    fake = FakeCuda()

    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "Stream", FakeStream)
    monkeypatch.setattr(torch.cuda, "graph", fake.graph)
    monkeypatch.setattr(torch.cuda, "stream", fake.stream)
    monkeypatch.setattr(torch.cuda, "device", fake.device)
    monkeypatch.setattr(torch.cuda, "current_stream", fake.current.__getitem__)
    return fake


class Summed:
    """A step that notes the batches it was given, when it runs."""

    def __init__(self, cuda):
        self.cuda, self.done = cuda, []

    def really(self, pixels, labels):
        self.done.append((pixels.sum().item(), labels.tolist()))
        return pixels.sum()[None] + labels.sum()

    def __call__(self, pixels, labels):
        if not self.cuda.recording:
            return self.really(pixels, labels)
        result = torch.full((1,), torch.nan)
        self.cuda.recording[-1].calls.append((self.really, (pixels, labels), result))
        return result


def batches(count):
    return [(torch.full((2, 1, 1, 1), float(n)), torch.tensor([n, 0])) for n in range(count)]


def test_a_recording_does_each_batch_once_and_reads_the_batch_it_is_given(cuda):
    step, recording, given = Summed(cuda), Recording(FIRST), batches(STEPS_BEFORE_RECORDING + 3)
    found = [recording(step, *batch).item() for batch in given]
    assert step.done == [(2.0 * n, [n, 0]) for n in range(len(given))]
    assert found == [3.0 * n for n in range(len(given))]


def test_all_of_it_is_on_one_stream_of_the_device_of_the_batches(cuda):
    recording, step = Recording(SECOND), Summed(cuda)
    for batch in batches(STEPS_BEFORE_RECORDING + 3):
        recording(step, *batch)
    stream = recording.stream
    assert stream.device == SECOND
    assert cuda.used == [("beside", stream)] * STEPS_BEFORE_RECORDING + [("recording", stream, SECOND)]
    assert stream.waited == [cuda.current[SECOND]] * STEPS_BEFORE_RECORDING
    assert cuda.current[SECOND].waited == [stream] * STEPS_BEFORE_RECORDING
    assert cuda.current[FIRST].waited == []


def test_a_step_with_a_recording_is_gone_with_its_last_name(cuda):
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters())
    step = Step(Standard(model), optimizer, FIRST, Execution(captured=True))
    assert step.recording is not None
    alive = weakref.ref(step)
    gc.disable()  # which would find cycles
    try:
        del step
        assert alive() is None
    finally:
        gc.enable()
