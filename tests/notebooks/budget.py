"""A pytest plugin that keeps the promise to learners: a notebook runs in two minutes on two CPU cores.

`python course.py test` loads it with -p. It adds up the seconds of each notebook's cells, prints them, and fails the
run if a notebook took longer.
"""

import os
from collections import Counter

import pytest

BUDGET = 120  # seconds, from the start of the kernel to the last cell
seconds = Counter()


def pytest_configure():
    os.environ.pop("MPLBACKEND", None)  # a backend of the reader's own would keep the figures out of the notebooks


def pytest_runtest_logreport(report):
    name = report.nodeid.split("::")[0]
    if name.endswith(".ipynb"):
        seconds[name] += report.duration


def over_budget():
    return [name for name in sorted(seconds) if seconds[name] > BUDGET]


def pytest_sessionfinish(session):
    if over_budget() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    if seconds:
        terminalreporter.section("seconds per notebook")
    for name in sorted(seconds):
        terminalreporter.line(f"{seconds[name]:6.1f} {name}")
    for name in over_budget():
        terminalreporter.line(f"FAILED {name}: {seconds[name]:.0f} s, and {BUDGET} s are its budget", red=True)
