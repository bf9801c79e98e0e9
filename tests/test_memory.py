"""Memory that is kept between the steps of a run: pages are not given back and fetched again."""

import subprocess
import sys

import pytest

from unetlab import memory

PROGRAM = """
import resource
import torch
from unetlab.memory import kept_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(2**21) + torch.ones(2**21)  # three times 8 MB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with kept_memory():
    faults()
    print(faults())
"""


@pytest.mark.skipif(memory._glibc() is None, reason="the C library is not glibc: nothing is done there")
def test_pages_stay_in_the_process():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100  # without it 2 million numbers a tensor are 2048 pages, up to 120,000 in all


def test_nothing_happens_where_the_library_is_another(monkeypatch):
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    with memory.kept_memory():
        pass


def test_the_usual_comes_back_after_an_error(monkeypatch):
    calls = []

    class Library:
        def mallopt(self, *what):
            calls.append(what)

        def malloc_trim(self, pad):
            calls.append("trim")

    monkeypatch.setattr(memory, "_glibc", Library)
    with pytest.raises(KeyError), memory.kept_memory():
        raise KeyError
    assert dict(calls[:2]) == memory._KEEP and dict(calls[2:4]) == memory._USUAL and calls[4] == "trim"
