"""What a class costs a machine: N kernels at once, each runs a notebook until it shows its first picture. Linux only.

    python benchmarks/classroom.py [--pupils 1 2 4 8] [--limit 1200] [--notebook notebooks/03d_live_learning_rate.ipynb]

For each N: seconds until the last kernel answered, until the last widget was on its page, until the last picture was; how
many came so far within the limit; and the memory of a kernel then. Memory is the proportional set size: a page that several
kernels share counts once in all. The server, the browser and the system come on top. Times depend on the load, which stands
beside them.
"""

import argparse
import statistics
import threading
import time
from collections import Counter
from pathlib import Path

import nbformat
from common import environment, load, save
from jupyter_client.manager import start_new_kernel

ROOT = Path(__file__).parents[1]
PICTURE, WIDGET = "image/png", "application/vnd.jupyter.widget-view+json"


class Pupil(threading.Thread):
    """One kernel and its clock: ``seen`` holds the seconds until each kind of output came for the first time."""

    def __init__(self, cells: list[str], limit: float, everybody_is_done: threading.Barrier):
        super().__init__()
        self.cells, self.limit, self.barrier = cells, limit, everybody_is_done
        self.seen: dict[str, float] = {}
        self.problem: str | None = None
        self.megabytes = 0.0

    def run(self):
        began, manager = time.monotonic(), None
        try:
            manager, client = start_new_kernel(startup_timeout=self.limit, cwd=str(ROOT / "notebooks"))
            self.seen["kernel"] = time.monotonic() - began
            for cell in self.cells:
                left = max(1.0, self.limit - (time.monotonic() - began))
                reply = client.execute_interactive(cell, timeout=left, output_hook=lambda m: self._look(m, began))
                if reply["content"]["status"] != "ok":
                    self.problem = f"{reply['content']['ename']}: {reply['content']['evalue']}"
                if self.problem or PICTURE in self.seen:
                    break
        except (RuntimeError, TimeoutError) as error:  # no kernel, or no answer in time
            self.problem = f"{error} ({self.limit:g} s)"
        if manager is not None and manager.is_alive():
            self.megabytes = _proportional_megabytes(manager.provisioner.pid)
        self.barrier.wait()  # memory is shared as long as all kernels live
        if manager is not None:
            client.stop_channels()
            manager.shutdown_kernel(now=True)

    def _look(self, message, began: float):
        for kind in message["content"].get("data", ()):
            self.seen.setdefault(kind, time.monotonic() - began)


def _proportional_megabytes(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def a_class(number: int, cells: list[str], limit: float) -> dict:
    """Start so many pupils at once, and wait for all, each at most ``limit`` seconds."""
    barrier = threading.Barrier(number)
    pupils = [Pupil(cells, limit, barrier) for _ in range(number)]
    before = environment()["load"]
    for pupil in pupils:
        pupil.start()
    for pupil in pupils:
        pupil.join()
    row = {"pupils": number, "load_before": before, "load": environment()["load"], "limit": limit}
    row["problems"] = dict(Counter(pupil.problem for pupil in pupils if pupil.problem))
    for name, kind in (("kernel", "kernel"), ("widget", WIDGET), ("picture", PICTURE)):
        times = [pupil.seen[kind] for pupil in pupils if kind in pupil.seen]
        if times:
            row[f"seconds_to_{name}"] = {
                "pupils": len(times),
                "median": round(statistics.median(times), 1),
                "last": round(max(times), 1),
            }
    row["megabytes"] = {
        "median": round(statistics.median(pupil.megabytes for pupil in pupils)),
        "all": round(sum(pupil.megabytes for pupil in pupils)),
    }
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pupils", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--limit", type=float, default=1200, help="seconds that a pupil waits at most")
    parser.add_argument("--notebook", type=Path, default=ROOT / "notebooks" / "03d_live_learning_rate.ipynb")
    options = parser.parse_args()
    notebook = nbformat.read(options.notebook, 4)
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    record = load("classroom")
    record |= {"environment": environment(), "notebook": options.notebook.name}
    for number in options.pupils:
        row = a_class(number, cells, options.limit)
        print(row, flush=True)
        record["runs"] = [old for old in record["runs"] if old["pupils"] != number] + [row]
        save("classroom", record)


if __name__ == "__main__":
    main()
