"""A birthmark tells a forked child from its parent, whoever forked it."""

import mmap
import platform
import re
import sys

import pytest
from support.journals import run_python

from mixpanel_visitor.process.fork import fork_detector

# In an interpreter of its own: to fork by C code while threads run can hang, in the interpreter itself.
FORK = """
import mmap, os, sys
from mixpanel_visitor.process.fork import fork_detector
from mixpanel_visitor.tracking.dependencies import InsertIds
from support.journals import forks

fork = forks[sys.argv[1]]


def told_by_child(tell):
    readable, writable = os.pipe()
    child = fork()
    if not child:
        os.write(writable, str(tell()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writable)
    return os.read(readable, 1_000).decode()
"""
KERNELS = {
    "wipes pages": "",
    "has no such pages": "sys.platform = 'darwin'",
    "is an emulator that takes any advice and heeds none": """
class Memory(bytearray):
    def __new__(cls, descriptor, size, **more):
        return super().__new__(cls, size)

    def __init__(self, descriptor, size, **more):
        super().__init__(size)

    def madvise(self, advice):
        pass

mmap.mmap = Memory
""",
}


def wipes_pages():
    """Tell whether this kernel should be able to: madvise(2)."""
    release = re.match(r"(\d+)\.(\d+)", platform.release())
    return sys.platform == "linux" and (int(release[1]), int(release[2])) >= (4, 14)


forked_by = pytest.mark.parametrize("by", ["os", "libc"])


@forked_by
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_child_has_another(kernel, by):
    """It finds 0, and its parent goes on to find 1; one that the child makes says 1 there."""
    script = """
mark = fork_detector()
print(mark[0], told_by_child(lambda: mark[0]), told_by_child(lambda: fork_detector()[0]), mark[0])
"""
    assert run_python(FORK + KERNELS[kernel] + script, by) == "1 0 1 1"


@pytest.mark.skipif(not wipes_pages(), reason="only Linux from 4.14 on has such pages")
def test_where_the_kernel_wipes_pages_there_is_no_system_call():
    """It is a page, not a look at the process's ID."""
    assert isinstance(fork_detector(), mmap.mmap)


@forked_by
def test_a_child_draws_its_own_insert_ids(by):
    """Else its events would be taken for its parent's."""
    before, child, after = run_python(
        FORK + "make = InsertIds()\nprint(make(), told_by_child(make), make())", by
    ).split()
    assert before[:16] == after[:16] != child[:16]
    assert {len(before), len(child), len(after)} == {32}
