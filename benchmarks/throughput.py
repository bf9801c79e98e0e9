"""Optimizer steps a second, at the same network, batch and precision: the plain loop, unetlab, Lightning, fastai, MONAI.

python benchmarks/throughput.py [--width 16] [--depth 3] [--size 128] [--batch 8] [--rounds 5] [--threads 1]

Every loop runs in a process of its own, as a learner would have it; the loops take turns, ``--rounds`` times. "unetlab" is
the trainer with everything recorded, its controls live, and no augmentation; "unetlab, all on" has clipping, augmentation
and a moving average besides. MONAI's BasicUNet is another network, of the same widths, in the plain loop. Times are
processor time of the training steps alone: no validation, no start. Results: results/throughput_*.json and .png.
"""

import argparse
import json
import sys
import time

from common import RESULTS, environment, in_fresh_process, load, median, save

WARM_UP, STEPS = 3, 12


def loops(width: int, depth: int, size: int, batch: int) -> dict:
    """Name -> a function that trains and calls ``tick()`` after every step."""
    import peers
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    import unetlab as ul

    data = ul.load_dataset("cells", size=size)
    n = batch * (WARM_UP + STEPS)
    x = data.train.images.repeat(-(-n // len(data.train.images)), 1, 1, 1)[:n]
    y = data.train.masks.repeat(-(-n // len(data.train.masks)), 1, 1)[:n]
    pairs = TensorDataset(x.float() / 255, y.float()[:, None])

    def unet():
        return ul.UNet(1, 1, width, depth)

    def plain(tick, model=None):
        model = model or unet()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
        for images, masks in DataLoader(pairs, batch, shuffle=True):
            optimizer.zero_grad()
            loss = peers.bce_and_dice(model(images), masks)
            loss.backward()
            optimizer.step()
            loss.item()
            tick()

    def unetlab(tick, **options):
        trainer = ul.Trainer(unet(), (x, y), (x[:1], y[:1]), batch_size=batch, device="cpu", **options)
        record = trainer._record

        def record_and_tick(waiting, epoch):
            good = record(waiting, epoch)
            if len(trainer.history.steps) > len(ticks):
                ticks.append(tick())
            return good

        ticks, trainer._record = [], record_and_tick
        trainer.fit(1, verbose=None)

    def all_on(tick):
        unetlab(tick, grad_clip=1.0, augment="standard", ema=0.99)

    def lightning(tick):
        import lightning as L

        class Module(L.LightningModule):
            def __init__(self):
                super().__init__()
                self.model = unet()

            def training_step(self, pair, _):
                return peers.bce_and_dice(self.model(pair[0]), pair[1])

            def configure_optimizers(self):
                return torch.optim.Adam(self.parameters(), lr=1e-4)

            def on_train_batch_end(self, *_):
                tick()

        quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
        L.Trainer(accelerator="cpu", max_epochs=1, **quiet).fit(Module(), DataLoader(pairs, batch, shuffle=True))

    def fastai(tick):
        from fastai.basics import Callback, DataLoaders, Learner
        from fastai.basics import DataLoader as Loader
        from fastai.callback import progress  # noqa: F401, gives Learner its no_bar

        class Tick(Callback):
            def after_batch(self):
                tick()

        train = Loader(pairs, bs=batch, shuffle=True, num_workers=0)
        learner = Learner(DataLoaders(train, train, device="cpu"), unet(), loss_func=peers.bce_and_dice, cbs=Tick())
        with learner.no_bar(), learner.no_logging():
            learner.fit(1)

    def monai(tick):
        from monai.networks.nets import BasicUNet

        widths = [width * 2**level for level in range(5)]
        plain(tick, BasicUNet(2, 1, 1, features=(*widths, width), norm="batch"))

    return {
        "plain loop": plain,
        "unetlab": unetlab,
        "unetlab, all on": all_on,
        "lightning": lightning,
        "fastai": fastai,
        "monai BasicUNet": monai,
    }


class Measured(Exception):
    """Enough steps were taken."""


def one(name: str, threads: str, *shape: str) -> None:
    import torch

    torch.set_num_threads(int(threads))
    cpu, wall = [], []

    def tick():
        cpu.append(time.process_time())
        wall.append(time.perf_counter())
        if len(cpu) == WARM_UP + STEPS:
            raise Measured("measured")

    try:
        loops(*map(int, shape))[name](tick)
    except Measured:
        pass
    steps = {
        k: [b - a for a, b in zip(t[WARM_UP - 1 :], t[WARM_UP:], strict=False)]
        for k, t in (("cpu", cpu), ("wall", wall))
    }
    print(json.dumps({"loop": name} | {k: round(median(v), 5) for k, v in steps.items()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, usual in {"width": 16, "depth": 3, "size": 128, "batch": 8, "rounds": 5, "threads": 1}.items():
        parser.add_argument(f"--{option}", type=int, default=usual)
    options = parser.parse_args()
    shape = (options.width, options.depth, options.size, options.batch)
    name = "throughput_w{}_d{}_{}px_b{}".format(*shape) + f"_t{options.threads}"
    record = load(name) | {"environment": environment() | {"threads": options.threads}}
    for turn in range(options.rounds):
        for loop in ("plain loop", "unetlab", "unetlab, all on", "lightning", "fastai", "monai BasicUNet"):
            if any((r["loop"], r["round"]) == (loop, turn) for r in record["runs"]):
                continue
            run = in_fresh_process(__file__, loop, options.threads, *shape)
            if run is not None:
                record["runs"].append(run | {"round": turn})
                save(name, record)
    times = {}
    for run in record["runs"]:
        times.setdefault(run["loop"], []).append(run["cpu"])
    plain = median(times["plain loop"])
    record["summary"] = {
        loop: {
            "ms a step (cpu)": round(median(v) * 1e3, 1),
            "steps a cpu-second": round(1 / median(v), 2),
            "speed against the plain loop": round(plain / median(v), 3),
            "rounds": len(v),
        }
        for loop, v in times.items()
    }
    save(name, record)
    print(json.dumps(record["summary"], indent=1))
    figure(record, RESULTS / f"{name}.png", shape)


def figure(record: dict, path, shape) -> None:
    from matplotlib import pyplot as plt

    import unetlab as ul

    ul.use_style()
    figure, axes = plt.subplots(figsize=(7, 3))
    bars = {loop: row["speed against the plain loop"] for loop, row in record["summary"].items()}
    axes.barh(list(bars), list(bars.values()), color=["0.6", "C0", "C0", "C1", "C2", "C3"][: len(bars)])
    axes.bar_label(axes.containers[0], fmt="%.2f", padding=3)
    axes.axvline(1, color="0.3", linewidth=0.8)
    axes.invert_yaxis()
    axes.set(xlabel="steps a second of processor time, the plain loop being 1", xlim=(0, max(bars.values()) * 1.15))
    axes.set_title("width {}, depth {}, {} px, batch {}".format(*shape))
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    one(*sys.argv[2:]) if sys.argv[1:2] == ["--one"] else main()
