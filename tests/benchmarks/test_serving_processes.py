"""A server's processes read from /proc."""

import subprocess
import sys
import time

import pytest

from benchmarks.serving.processes import Process, ProcessTree, descendants, parsed_stat, running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

BUSY_PARENT_WITH_A_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; x = bytearray(50_000_000); print('up', flush=True); time.sleep(60)"])
sum(i * i for i in range(10_000_000))
print("done", flush=True)
time.sleep(60)
"""


def process(pid: int, parent: int) -> Process:
    return Process(pid, parent, "S", 0, 0)


def test_a_line_of_stat_is_read_whatever_the_name():
    fields = "R 7 1 1 0 -1 0 0 0 0 0 11 22 33 44 20 0 1 0 5555 1 1"
    assert parsed_stat(f"42 (ray::IDLE) (x) {fields}") == Process(42, 7, "R", 11 + 22 + 33 + 44, 5555)


def test_what_has_ended_and_was_not_waited_for_does_not_run():
    assert not Process(1, 0, "Z", 0, 0).alive


def test_descendants_are_children_and_theirs():
    among = {pid: process(pid, parent) for pid, parent in [(2, 1), (3, 2), (4, 3), (5, 1)]}
    assert descendants({2}, among) == {2, 3, 4}
    assert descendants({9}, among) == set()


@pytest.fixture
def tree():
    with subprocess.Popen(
        [sys.executable, "-c", BUSY_PARENT_WITH_A_CHILD], stdout=subprocess.PIPE, text=True
    ) as parent:
        said = {parent.stdout.readline().strip(), parent.stdout.readline().strip()}
        assert said == {"up", "done"}
        found = ProcessTree(parent.pid)
        found.members()
        yield parent, found
        found.signal(9)
        assert found.gone_within(10)


def test_the_time_and_memory_of_all_members_are_counted(tree):
    _, found = tree
    assert len(found.members()) == 2
    assert found.cpu_s() > 0.1
    assert found.memory_bytes() > 50_000_000


def test_an_orphan_still_belongs_to_the_tree(tree):
    parent, found = tree
    parent.kill()
    parent.wait()
    assert [one.pid for one in found.members().values()] != [parent.pid]
    assert len(found.members()) == 1
    assert not found.gone_within(0.1)


def test_an_id_that_was_used_again_is_somebody_else(tree):
    parent, found = tree
    impostor = parent.pid  # a child's would be found again, as its parent's
    found._known[impostor] -= 1
    assert impostor not in found.members()
    found._known[impostor] += 1


def test_this_process_runs_and_time_passes():
    import os

    before = running()[os.getpid()].ticks
    deadline = time.process_time() + 0.1
    while time.process_time() < deadline:
        pass
    assert running()[os.getpid()].ticks >= before + 5
