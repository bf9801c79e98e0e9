"""Seconds until the validation Dice is 0.85 and 0.90: our default recipe and what a learner would use instead.

python benchmarks/time_to_dice.py [--data cells] [--size 128] [--seeds 5] [--stop-after 25] [--seconds N]

Each run has a process of its own, one thread, and a seed, which draws the weights, and the pictures of a scene or the split
of a real set; the recipes take turns. A recipe is stopped at ``--stop-after`` times our median, or after ``--seconds`` of
processor time. Results are written run by run to results/time_to_dice_DATA.json; the same command goes on where it stopped.
"""

import argparse
import json
import sys

import peers
from common import RESULTS, clock, environment, in_fresh_process, load, median, save, since

TARGETS = (0.80, 0.85, 0.90)
CYCLE = 16  # epochs of the one-cycle recipes, whose schedule must know its length


def one(recipe: str, data_name: str, size: str, seed: str, limit: str) -> None:
    """A single run, told as one line of JSON."""
    import torch

    import unetlab as ul

    torch.set_num_threads(1)
    data = ul.load_dataset(data_name, size=int(size), seed=int(seed))
    curve, start = [], clock()

    def watch(score):
        curve.append(since(start) | {"dice": round(score(), 4)})
        if curve[-1]["dice"] >= TARGETS[-1] or curve[-1]["cpu"] > float(limit):
            raise peers.Enough("reached, or out of time")  # fastai wants words in it

    try:
        peers.RECIPES[recipe](data, int(seed), None if recipe == "unetlab" else CYCLE, watch)
    except peers.Enough:
        pass
    reached = {str(t): next((p for p in curve if p["dice"] >= t), None) for t in TARGETS}
    best = max(point["dice"] for point in curve)
    about = {"recipe": recipe, "seed": int(seed), "suggested rate": getattr(watch, "rate", None)}
    print(json.dumps(about | {"reached": reached, "best": best, "curve": curve}))


def summary(runs: list[dict], limit: float) -> dict:
    """Medians over the seeds, and how many times longer than ours."""
    table = {}
    for target in map(str, TARGETS):
        ours = median(r["reached"][target] and r["reached"][target]["cpu"] for r in runs if r["recipe"] == "unetlab")
        for recipe in dict.fromkeys(r["recipe"] for r in runs):
            own = [r for r in runs if r["recipe"] == recipe]
            row = {"seeds": len(own), "best dice (median)": median(r["best"] for r in own)}
            for unit in ("cpu", "wall"):
                row[unit] = median(r["reached"][target] and r["reached"][target][unit] for r in own)
            spent = median(r["curve"][-1]["cpu"] for r in own)
            if ours:
                row["times ours"] = round(row["cpu"] / ours, 1) if row["cpu"] else f"not reached in {spent / ours:.0f}x"
            table.setdefault(target, {})[recipe] = row
    return table


def figure(record: dict, path) -> None:
    from matplotlib import pyplot as plt

    import unetlab as ul

    ul.use_style()
    figure, axes = plt.subplots(figsize=(8, 4))
    styles = dict(zip(peers.RECIPES, ("-", "--", "-.", ":", (0, (5, 1, 1, 1))), strict=True))
    for i, recipe in enumerate(peers.RECIPES):
        for k, run in enumerate(r for r in record["runs"] if r["recipe"] == recipe):
            seconds, scores = zip(*[(p["cpu"], p["dice"]) for p in run["curve"]], strict=True)
            label = recipe.replace("_", " ") if k == 0 else None
            axes.plot(seconds, scores, color=f"C{i}", linestyle=styles[recipe], label=label, alpha=0.8)
    axes.axhline(0.9, color="0.5", linewidth=0.8)
    axes.set(xscale="log", xlabel="processor time (s, log)", ylabel="validation Dice", ylim=(0, 1))
    axes.set_title(f"{record['data']}, {record['size']} px, the same network")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))  # the curves leave no room
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cells")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--stop-after", type=float, default=25.0, help="times our median")
    parser.add_argument("--seconds", type=float, default=1200.0, help="processor time of one run, at most")
    parser.add_argument("--recipes", nargs="+", default=list(peers.RECIPES), choices=peers.RECIPES)
    options = parser.parse_args()
    name = f"time_to_dice_{options.data}"
    record = load(name) | {"data": options.data, "size": options.size, "environment": environment()}
    runs = record["runs"]
    for seed in range(options.seeds):
        for recipe in options.recipes:
            if any((r["recipe"], r["seed"]) == (recipe, seed) for r in runs):
                continue
            ours = median(r["curve"][-1]["cpu"] for r in runs if r["recipe"] == "unetlab")
            limit = (
                options.seconds if recipe == "unetlab" or not ours else min(options.stop_after * ours, options.seconds)
            )
            run = in_fresh_process(__file__, recipe, options.data, options.size, seed, limit)
            if run is None:
                continue
            runs.append(run)
            record["summary"] = summary(runs, options.seconds)
            save(name, record)
            spent = run["curve"][-1]["cpu"]
            print(f"{recipe:11} seed {seed}: best Dice {run['best']:.3f} after {spent:.0f} CPU-s", flush=True)
    print(json.dumps(record["summary"], indent=1))
    figure(record, RESULTS / f"{name}.png")


if __name__ == "__main__":
    one(*sys.argv[2:]) if sys.argv[1:2] == ["--one"] else main()
