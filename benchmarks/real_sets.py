"""The real sets of the course: our default recipe and a plain loop, on the same splits, for the same processor time.

python benchmarks/real_sets.py [--sets nuclei membranes ...] [--seeds 3]

The plain loop is what one writes first: the same network, Adam 1e-3, cross-entropy, batches of 8, float32, no
augmentation, STEPS steps. Its processor time is the budget: ours gets as many epochs as fit into it, validation included,
while the plain loop is scored ten times for nothing, and its best score counts. Two scores: ``per_image`` is the mean over
the validation images, ``pooled`` counts the pixels of all of them together, a Dice a class. The best is chosen as
``unetlab train`` chooses it: per image where there is one class, pooled where there are several.
Each run has a process of its own, one thread, and a seed; the two take turns. The seed draws the weights and the split:
the sets are small, and one split may be kind to one recipe. Results are written run by run to
results/real_sets.json; the same command goes on where it stopped.
"""

import argparse
import json
import math
import sys

import peers
from common import clock, environment, in_fresh_process, load, median, save, since

STEPS = {"nuclei": 200, "membranes": 200, "hippocampus": 400, "pets": 200, "aerial": 200, "tiles": 700}
BATCH, CHECKS = 8, 10


def score(model, data) -> dict:
    """Dice on the validation images: mean over the images, and pooled, for each class that is not background."""
    import torch

    from unetlab.metrics import SegmentationMetrics, class_ids

    with torch.inference_mode():
        model.eval()
        ids = torch.cat([class_ids(model(part.float() / 255)) for part in data.val.images.split(BATCH)])
        model.train()
    binary, background = data.num_classes == 1, data.class_names[0] == "background"
    metrics = SegmentationMetrics(
        data.num_classes, "per_image", 1.0 if binary else math.nan, not background, data.ignore_index
    )
    metrics.update(ids, data.val.masks)
    per_image, counts = metrics.compute()["dice"], metrics.counts.sum(0)
    pooled = [2 * tp / max(2 * tp + fp + fn, 1) for tp, fp, fn, _ in counts.tolist()]
    names = data.class_names[1:] if background else data.class_names
    classes = dict(zip(names, (round(dice, 3) for dice in pooled[-len(names) :]), strict=True))
    return {"per_image": round(per_image, 3), "pooled": round(sum(classes.values()) / len(classes), 3)} | {
        "classes": classes
    }


def plain(data, seed: int, budget: float) -> dict:
    """The loop of a beginner. It trains on random windows too where ours does, as whole images would cost it more."""
    import torch
    from torch import nn

    from unetlab.cli import _SETTINGS

    model, side = peers.network(data, seed), _SETTINGS["crop"][1]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    ignore = -100 if data.ignore_index is None else data.ignore_index
    masks, (height, width) = data.train.masks.long(), data.train.images.shape[-2:]
    counts_as = "per_image" if data.num_classes == 1 else "pooled"
    best, spent, steps = {counts_as: -1.0}, 0.0, STEPS[data.name]
    for _ in range(CHECKS):
        start = clock()
        for _ in range(steps // CHECKS):
            some = torch.randint(len(masks), (BATCH,))
            top, left = (int(torch.randint(max(whole - side, 0) + 1, ())) for whole in (height, width))
            window = (..., slice(top, top + side), slice(left, left + side))
            x, y = data.train.images[some][window].float() / 255, masks[some][window]
            optimizer.zero_grad()
            logits = model(x)
            if data.num_classes == 1:
                counts = y != ignore
                loss = nn.functional.binary_cross_entropy_with_logits(logits[:, 0][counts], y[counts].float())
            else:
                loss = nn.functional.cross_entropy(logits, y, ignore_index=ignore)
            loss.backward()
            optimizer.step()
            loss.item()
        spent += since(start)["cpu"]
        best = max(best, score(model, data), key=lambda scores: scores[counts_as])
    return {"cpu": round(spent, 1), "steps": steps} | best


def unetlab(data, seed: int, budget: float) -> dict:
    """Ours: the default settings, and as many epochs as the budget holds; the second of a trial run shows their cost."""
    trial = peers.default_trainer(data, seed)
    trial.fit(1, verbose=None)
    start = clock()
    trial.fit(2, verbose=None)
    epochs = max(1, round(budget / since(start)["cpu"]))
    trainer, start = peers.default_trainer(data, seed), clock()
    trainer.fit(epochs, verbose=None)
    spent = since(start)["cpu"]
    trainer.restore_best()
    return {"cpu": round(spent, 1), "steps": trainer.step, "epochs": epochs} | score(trainer.model, data)


def one(recipe: str, name: str, seed: str, budget: str) -> None:
    """A single run, told as one line of JSON."""
    import torch

    import unetlab as ul

    torch.set_num_threads(1)
    data = ul.load_dataset(name, seed=int(seed))
    result = {"plain": plain, "unetlab": unetlab}[recipe](data, int(seed), float(budget))
    print(json.dumps({"set": name, "recipe": recipe, "seed": int(seed)} | result))


def summary(runs: list[dict]) -> dict:
    """Medians over the seeds."""
    table = {}
    for name in dict.fromkeys(run["set"] for run in runs):
        for recipe in ("plain", "unetlab"):
            own = [run for run in runs if (run["set"], run["recipe"]) == (name, recipe)]
            row = {column: median(run[column] for run in own) for column in ("cpu", "per_image", "pooled")}
            classes = {c: median(run["classes"][c] for run in own) for c in (own[0]["classes"] if own else ())}
            table.setdefault(name, {})[recipe] = {"seeds": len(own)} | row | {"classes": classes}
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=list(STEPS), choices=STEPS)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    record = load("real_sets") | {"environment": environment()}
    runs = record["runs"]
    for seed in range(options.seeds):
        for name in options.sets:
            for recipe in ("plain", "unetlab"):
                done = {(run["set"], run["recipe"], run["seed"]): run for run in runs}
                if (name, recipe, seed) in done:
                    continue
                budget = done[name, "plain", seed]["cpu"] if recipe == "unetlab" else 0
                run = in_fresh_process(__file__, recipe, name, seed, budget)
                if run is None:
                    break
                runs.append(run)
                record["summary"] = summary(runs)
                save("real_sets", record)
                print(
                    f"{name:12} {recipe:8} seed {seed}: Dice {run['per_image']} an image, {run['pooled']} pooled "
                    f"{run['classes']} in {run['cpu']} CPU-s",
                    flush=True,
                )
    print(json.dumps(record["summary"], indent=1))


if __name__ == "__main__":
    one(*sys.argv[2:]) if sys.argv[1:2] == ["--one"] else main()
