"""How long a learner waits before anything moves: imports, the first step, the first picture of the live lab.

python benchmarks/startup.py [--rounds 5]

Each measurement is a fresh process, processor time and wall, medians over the rounds; files are in the system's cache
after the first round. The promise: `import unetlab` costs at most 0.3 s more than `import torch`.
Results: results/startup.json and .png.
"""

import argparse
import json
import sys

from common import RESULTS, clock, environment, in_fresh_process, median, save, since


def import_torch():
    import torch  # noqa: F401


def import_unetlab():
    import unetlab  # noqa: F401


def first_step():
    import torch

    trainer().train_step(torch.arange(8))


def first_picture():
    """The lab's chart and prediction strip before the first epoch, as `show` builds them; no browser."""
    import unetlab as ul

    lab = ul.LiveLab(trainer(), epochs=1)
    lab.show()
    lab.close()


def trainer():
    import unetlab as ul

    data = ul.load_dataset("cells", size=64)
    return ul.Trainer(ul.UNet(base_channels=8, depth=3), data.train, data.val, batch_size=8, device="cpu")


STAGES = {f.__name__: f for f in (import_torch, import_unetlab, first_step, first_picture)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    runs = [r for _ in range(rounds) for stage in STAGES if (r := in_fresh_process(__file__, stage)) is not None]
    summary = {
        stage: {unit: median(r[unit] for r in runs if r["stage"] == stage) for unit in ("cpu", "wall")}
        for stage in STAGES
    }
    extra = {unit: summary["import_unetlab"][unit] - summary["import_torch"][unit] for unit in ("cpu", "wall")}
    summary["unetlab beyond torch"] = {unit: round(value, 3) for unit, value in extra.items()}
    save("startup", {"environment": environment(), "runs": runs, "summary": summary})
    print(json.dumps(summary, indent=1))

    from matplotlib import pyplot as plt

    import unetlab as ul

    ul.use_style()
    figure, axes = plt.subplots(figsize=(7, 2.6))
    axes.barh([s.replace("_", " ") for s in STAGES], [summary[s]["cpu"] for s in STAGES])
    axes.bar_label(axes.containers[0], fmt="%.2f", padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set(xlabel="processor time from the start of Python (s)", title="Start-up")
    figure.savefig(RESULTS / "startup.png", dpi=150)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        start = clock()
        STAGES[sys.argv[2]]()
        print(json.dumps({"stage": sys.argv[2]} | since(start)))
    else:
        main()
