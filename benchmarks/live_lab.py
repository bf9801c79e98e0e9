"""How fast the live lab obeys and what it costs, in JupyterLab and Chromium on this machine: prints JSON, writes nothing.

    python benchmarks/live_lab.py [--moves 40] [--pairs 5] [--epochs 20]

Latency: from a key press in the page to the new rate in ``optimizer.param_groups``, both by the clock of this machine.
Speed: the same training with the lab on the page (four drawings a second) and without it, in turns; the median time
without over the median time with, by the wall clock and by the processor time of the kernel, which all that the lab does
there counts in. The wall clock says little on a busy machine, so the load stands beside it.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "browser"))
from driver import CHROMIUM, NO_CHROMIUM, Notebook, chromium, jupyterlab, write_notebook

SETUP = """
import threading
import time

import torch
import unetlab as ul
from unetlab.lab.session import Session

data = ul.load_dataset("cells")
rates, seconds = [], []

def trainer():
    torch.manual_seed(0)
    return ul.Trainer(ul.UNet(base_channels=8, depth=3), data.train, data.val)

def watch(optimizer):  # write down each new rate, and when it was there
    while True:
        rate = optimizer.param_groups[0]["lr"]
        if not rates or rates[-1][1] != rate:
            rates.append((time.time(), rate))
        time.sleep(0.002)

def train(session, start):
    wall, cpu = time.perf_counter(), time.process_time()
    start()
    session.wait()
    seconds.append((time.perf_counter() - wall, time.process_time() - cpu))

def in_background(function, *arguments):
    threading.Thread(target=function, args=arguments, daemon=True).start()
"""
SHOW = "lab = ul.LiveLab(trainer(), {epochs})\nlab.show()"


def latency(notebook, moves: int) -> dict:
    """Move the slider with the keyboard, one move after the other, at any moment of a step."""
    notebook.add_and_run(SHOW.format(epochs=100_000))
    page = notebook.page
    page.get_by_role("button", name="Start", exact=True).click()
    notebook.until("lab.session.trainer.step > 5")
    notebook.add_and_run("in_background(watch, lab.session.trainer.optimizer)")
    notebook.until("rates")
    slider = page.get_by_role("slider", name="Learning rate", exact=True)
    slider.evaluate("(node) => { window.keys = []; node.addEventListener('keydown', () => keys.push(Date.now())); }")
    clock = "(time.perf_counter(), lab.session.trainer.step)"
    began, first = notebook.value(clock)
    for move in range(moves):
        slider.press(("ArrowRight", "ArrowLeft")[move % 2])
        notebook.until(f"len(rates) == {move + 2}")
        page.wait_for_timeout(37 * (move % 7))
    ended, last = notebook.value(clock)
    keys, arrived = page.evaluate("keys"), [1000 * when for when, _ in notebook.value("rates")][1:]
    notebook.add_and_run("lab.close()")
    waits = sorted(there - here for here, there in zip(keys, arrived, strict=True))
    return {
        "moves": moves,
        "median_ms": round(statistics.median(waits)),
        "p99_ms": round(statistics.quantiles(waits, n=100, method="inclusive")[98]),
        "max_ms": round(waits[-1]),
        "step_ms": round(1000 * (ended - began) / (last - first)),  # a move waits for the end of the step under way
    }


def speed(notebook, pairs: int, epochs: int) -> dict:
    """Train in turns with the lab on the page and without it; the first of each warms up and does not count."""
    times = {"with": [], "without": []}
    for pair in range(pairs + 1):
        for how in ("with", "without") if pair % 2 else ("without", "with"):
            done = notebook.value("len(seconds)")
            if how == "with":
                notebook.add_and_run(SHOW.format(epochs=epochs))
                notebook.add_and_run("in_background(train, lab.session, lab.start)")
            else:
                notebook.add_and_run(f"session = Session(trainer(), {epochs})")
                notebook.add_and_run("in_background(train, session, session.start)")
            notebook.until(f"len(seconds) > {done}", timeout=600)
            times[how].append(notebook.value("seconds[-1]"))
            if how == "with":
                notebook.add_and_run("lab.close()")
    result = {"pairs": pairs, "epochs": epochs}
    for which, clock in enumerate(("wall", "kernel_cpu")):
        counted = {how: [round(value[which], 2) for value in values[1:]] for how, values in times.items()}
        ratio = statistics.median(counted["without"]) / statistics.median(counted["with"])
        result[clock] = {"seconds": counted, "speed_with_over_without": round(ratio, 3)}
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moves", type=int, default=40)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20, help="of each timed run")
    options = parser.parse_args()
    if CHROMIUM is None:
        raise SystemExit(NO_CHROMIUM)
    load = [os.getloadavg()]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "notebooks"
        root.mkdir()
        write_notebook(root / "benchmark.ipynb", [SETUP])
        with jupyterlab(Path(folder), root) as address, chromium() as browser:
            notebook = Notebook(browser.new_page(viewport={"width": 1400, "height": 1050}), address, "benchmark.ipynb")
            notebook.open()
            notebook.run_all()
            result = {
                "latency": latency(notebook, options.moves),
                "speed": speed(notebook, options.pairs, options.epochs),
            }
            problems = notebook.close()
    load.append(os.getloadavg())
    print(json.dumps(result | {"load_before_and_after": load, "cpus": os.cpu_count(), "problems": problems}, indent=1))


if __name__ == "__main__":
    main()
