"""What the benchmarks share: the clock, the environment beside the numbers, results on disk."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def clock() -> dict:
    """Now: seconds of processor time that this process has used (all its threads), and seconds on the wall."""
    return {"cpu": time.process_time(), "wall": time.perf_counter()}


def since(start: dict) -> dict:
    return {name: round(value - start[name], 3) for name, value in clock().items()}


def environment() -> dict:
    """The machine, its load, and the versions."""
    versions = {"python": platform.python_version()}
    for package in ("torch", "lightning", "fastai", "monai"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        **versions,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def in_fresh_process(file: str, *arguments) -> dict | None:
    """Run ``file --one ARGUMENTS`` in a process of its own; its last line is JSON. None, and its words, if it failed."""
    command = [sys.executable, file, "--one", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{' '.join(map(str, arguments))} could not run: {' '.join(done.stderr.split()[-30:])}", flush=True)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def load(name: str) -> dict:
    """Earlier results, so that an interrupted benchmark goes on."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {"environment": environment(), "runs": []}


def save(name: str, record: dict) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")


def median(values) -> float | None:
    """The median, or None where a value is None: not reached."""
    values = list(values)
    ordered = sorted(values, key=lambda v: float("inf") if v is None else v)
    middle = ordered[len(ordered) // 2] if values else None
    return middle if middle is None or len(values) % 2 or None in values else statistics.median(values)
