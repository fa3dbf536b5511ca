"""What /proc says of this process."""

import asyncio
import mmap
import os
import sys
from pathlib import Path

import pytest

from benchmarks.endurance.samples import Sampler, sample

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def mapped(size: int) -> mmap.mmap:
    """Memory of its own: what the allocator has left from before would not show."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for page in range(0, size, mmap.PAGESIZE):
        memory[page] = 1
    return memory


def test_memory_and_files_are_seen(tmp_path: Path):
    before = sample(os.getpid())
    held = mapped(64_000_000)
    with (tmp_path / "one").open("w"), (tmp_path / "two").open("w"):
        during = sample(os.getpid(), done=3)
    assert during.done == 3
    assert during.files == before.files + 2
    assert during.anonymous - before.anonymous == pytest.approx(len(held), rel=0.2)
    assert during.resident > during.anonymous
    assert before.threads >= 1


def test_a_process_that_keeps_something_of_each_request_grows():
    kept: list[mmap.mmap] = []

    async def work() -> Sampler:
        async with Sampler(os.getpid(), lambda: len(kept), interval_s=0.01) as samples:
            for _ in range(60):
                kept.append(mapped(1_000_000))
                await asyncio.sleep(0.005)
        return samples

    samples = asyncio.run(work())
    assert samples.samples[-1].done == 60
    assert samples.growth("anonymous").slope == pytest.approx(1e6, rel=0.3)
    assert samples.growth("resident").grows(tolerated=1e5)
