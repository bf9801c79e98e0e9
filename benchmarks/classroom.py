"""What a class costs a machine: N kernels at once, each with a hand on its live lab. Linux only.

    python benchmarks/classroom.py [--pupils 1 2 4 8] [--moves 10] [--limit 1200]

Each kernel runs notebook 03d until its first picture. When all have come so far, or given up, each presses Start in its lab
and moves the learning rate, once a second, with the messages that a page sends.

For each N: seconds until the last kernel answered, until the last widget was on its page, until the last picture was; how
many came so far within the limit; seconds from a move until it stood in the history of the run, as the kernel said; and the
memory of a kernel then. Memory is the proportional set size: a page that several kernels share counts once in all. The
server, the browser and the system come on top. Times depend on the load, which stands beside them.
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

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "03d_live_learning_rate.ipynb"
PICTURE, WIDGET = "image/png", "application/vnd.jupyter.widget-view+json"
RATES = (3e-3, 1e-2)  # in turns; no run fails at them

# The kernel answers this when the run has taken the move.
TAKEN = """
import time
while lab.session.trainer.history.moves[-1].new != {rate}:
    time.sleep(0.005)
"""


class Pupil(threading.Thread):
    """One kernel and its clock.

    ``seen`` holds the seconds until each kind of output came for the first time, ``taken`` those that each move took.
    """

    def __init__(self, cells: list[str], moves: int, limit: float, everybody: threading.Barrier):
        super().__init__()
        self.cells, self.moves, self.limit, self.everybody = cells, moves, limit, everybody
        self.seen: dict[str, float] = {}
        self.taken: list[float] = []
        self.lab = ""  # the name by which page and kernel know the widget
        self.manager = None
        self.problem: str | None = None
        self.megabytes = 0.0

    def run(self):
        self.began = time.monotonic()
        self._try(self._run_cells)
        self.everybody.wait()
        if self.problem is None:
            self._try(self._move_slider)
        if self.manager is not None and self.manager.is_alive():
            self.megabytes = _proportional_megabytes(self.manager.provisioner.pid)
        self.everybody.wait()  # memory is shared as long as all kernels live
        if self.manager is not None:
            self.client.stop_channels()
            self.manager.shutdown_kernel(now=True)

    def _try(self, part):
        try:
            part()
        except (RuntimeError, TimeoutError) as error:  # no kernel, a cell that failed, or no answer in time
            self.problem = str(error)

    def _run_cells(self):
        self.manager, self.client = start_new_kernel(startup_timeout=self.limit, cwd=str(NOTEBOOK.parent))
        self.seen["kernel"] = time.monotonic() - self.began
        for cell in self.cells:
            self._execute(cell, max(1.0, self.limit - (time.monotonic() - self.began)))
            if PICTURE in self.seen:
                break

    def _move_slider(self):
        self._touch("start", True)
        for move in range(self.moves):
            time.sleep(1)
            rate, moved = RATES[move % 2], time.monotonic()
            self._touch("lr", rate)
            self._execute(TAKEN.format(rate=rate), self.limit)
            self.taken.append(time.monotonic() - moved)

    def _execute(self, code: str, seconds: float):
        reply = self.client.execute_interactive(code, timeout=seconds, output_hook=self._look)["content"]
        if reply["status"] != "ok":
            raise RuntimeError(f"{reply['ename']}: {reply['evalue']}")

    def _touch(self, control: str, value):
        """What the page sends when a control of the lab is touched."""
        data = {"method": "custom", "content": {"id": control, "value": value}}
        message = self.client.session.msg("comm_msg", {"comm_id": self.lab, "data": data})
        self.client.shell_channel.send(message)

    def _look(self, message):
        for kind, data in message["content"].get("data", {}).items():
            self.seen.setdefault(kind, time.monotonic() - self.began)
            if kind == WIDGET:
                self.lab = data["model_id"]


def _proportional_megabytes(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def a_class(number: int, cells: list[str], moves: int, limit: float) -> dict:
    """Start so many pupils at once, and wait for all, each at most ``limit`` seconds for a part."""
    barrier = threading.Barrier(number)
    pupils = [Pupil(cells, moves, limit, barrier) for _ in range(number)]
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
    if taken := sorted(seconds for pupil in pupils for seconds in pupil.taken):
        row["seconds_to_take_a_move"] = {
            "moves": len(taken),
            "median": round(statistics.median(taken), 2),
            "last": round(taken[-1], 2),
        }
    row["megabytes"] = {
        "median": round(statistics.median(pupil.megabytes for pupil in pupils)),
        "all": round(sum(pupil.megabytes for pupil in pupils)),
    }
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pupils", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--moves", type=int, default=10, help="of each pupil's slider; the run lasts for about 25")
    parser.add_argument("--limit", type=float, default=1200, help="seconds that a pupil waits at most")
    options = parser.parse_args()
    notebook = nbformat.read(NOTEBOOK, 4)
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    record = load("classroom")
    record |= {"environment": environment(), "notebook": NOTEBOOK.name}
    for number in options.pupils:
        row = a_class(number, cells, options.moves, options.limit)
        print(row, flush=True)
        record["runs"] = [old for old in record["runs"] if old["pupils"] != number] + [row]
        save("classroom", record)


if __name__ == "__main__":
    main()
