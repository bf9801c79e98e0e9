"""A pytest plugin that keeps the promise to learners: a notebook runs in two minutes on two CPU cores.

`python course.py test` loads it with -p. It reads how much processor time the kernel of each notebook has used, prints
it, and fails the run if one used more than the budget. Processor time, not time on the wall: that one depends on what
else the machine does.
"""

import os

import psutil
import pytest

# Seconds, from the start of the kernel to the last cell. A reader waits for two minutes at most; here two notebooks run side
# by side and share caches and memory, which costs up to a quarter more.
BUDGET = 150
seconds = {}


def pytest_configure():
    os.environ.pop("MPLBACKEND", None)  # a backend of the reader's own would keep the figures out of the notebooks


@pytest.hookimpl(tryfirst=True)  # before nbval stops the kernel
def pytest_runtest_teardown(item):
    if item.path.suffix == ".ipynb" and item.parent.kernel.is_alive():
        used = psutil.Process(item.parent.kernel.km.provisioner.pid).cpu_times()
        total = used.user + used.system + used.children_user + used.children_system
        item.user_properties.append(("kernel_seconds", total))  # travels with the report from worker to controller


def pytest_runtest_logreport(report):
    for name, value in report.user_properties:
        if name == "kernel_seconds":
            seconds[report.nodeid.split("::")[0]] = value


def over_budget():
    return [name for name in sorted(seconds) if seconds[name] > BUDGET]


def pytest_sessionfinish(session):
    if over_budget() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    if seconds:
        terminalreporter.section("processor seconds per notebook")
    for name in sorted(seconds):
        terminalreporter.line(f"{seconds[name]:6.1f} {name}")
    for name in over_budget():
        terminalreporter.line(f"FAILED {name}: {seconds[name]:.0f} s, and {BUDGET} s are its budget", red=True)
