"""What a training step costs as image, batch, width and depth grow, beside what the arithmetic says.

python benchmarks/scaling.py [--rounds 3]

One thing is doubled at a time, from width 8, depth 3, 64 px, batch 8. "arithmetic" counts the multiplications of all
convolutions, as a ratio to the first point. A cost that grows more slowly than that means that fixed costs are shared;
one that grows faster, that the caches are left behind. Results: results/scaling.json and .png.
"""

import argparse
import json
import sys
import time

from common import RESULTS, environment, in_fresh_process, median, save

START = {"width": 8, "depth": 3, "size": 64, "batch": 8}
GROWTH = {"size": (32, 64, 128, 256), "batch": (2, 4, 8, 16, 32), "width": (4, 8, 16, 32), "depth": (1, 2, 3, 4)}


def one(width: str, depth: str, size: str, batch: str) -> None:
    import torch

    import unetlab as ul

    torch.set_num_threads(1)
    n = int(batch)
    x = torch.randint(0, 256, (n, 1, int(size), int(size)), dtype=torch.uint8)
    y = (x[:, 0] > 180).to(torch.uint8)
    model = ul.UNet(1, 1, int(width), int(depth))
    trainer = ul.Trainer(model, (x, y), (x[:1], y[:1]), batch_size=n, device="cpu")
    seconds, indices = [], torch.arange(n)
    while len(seconds) < 4 or (sum(seconds) < 1.5 and len(seconds) < 40):
        start = time.process_time()
        trainer.train_step(indices)
        seconds.append(time.process_time() - start)
    print(json.dumps({"seconds": median(seconds[2:]), "multiplications": n * multiplications(model, int(size))}))


def multiplications(model, size: int) -> int:
    """Of the convolutions, for one image forward, counted by hooks; the backward pass takes twice as many again."""
    import torch

    count = 0

    def add(layer, inputs, output):
        nonlocal count
        pixels = (inputs[0] if isinstance(layer, torch.nn.ConvTranspose2d) else output)[0, 0].numel()
        count += pixels * layer.weight.numel()

    kinds = (torch.nn.Conv2d, torch.nn.ConvTranspose2d)
    hooks = [layer.register_forward_hook(add) for layer in model.modules() if isinstance(layer, kinds)]
    with torch.no_grad():
        model.eval()(torch.zeros(1, 1, size, size))
    for hook in hooks:
        hook.remove()
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    record = {"environment": environment(), "start": START, "points": []}
    for name, values in GROWTH.items():
        for value in values:
            shape = START | {name: value}
            runs = [r for _ in range(rounds) if (r := in_fresh_process(__file__, *shape.values()))]
            seconds = median(r["seconds"] for r in runs)
            record["points"].append({"varied": name, **shape, "ms": seconds * 1e3} | runs[0] | {"seconds": seconds})
            save("scaling", record)
    for name in GROWTH:
        points = [p for p in record["points"] if p["varied"] == name]
        for p in points:
            p["cost"] = round(p["seconds"] / points[0]["seconds"], 2)
            p["arithmetic"] = round(p["multiplications"] / points[0]["multiplications"], 2)
            print(f"{name} {p[name]:4}: {p['ms']:8.1f} ms, cost x{p['cost']:.2f}, arithmetic x{p['arithmetic']:.2f}")
    save("scaling", record)

    from matplotlib import pyplot as plt

    import unetlab as ul

    ul.use_style()
    figure, all_axes = plt.subplots(1, 4, figsize=(11, 3), layout="constrained", sharey=True)
    for axes, name in zip(all_axes, GROWTH, strict=True):
        points = [p for p in record["points"] if p["varied"] == name]
        x = [p[name] for p in points]
        axes.plot(x, [p["cost"] for p in points], "o-", label="measured")
        axes.plot(x, [p["arithmetic"] for p in points], "s--", color="0.5", label="arithmetic")
        axes.set(xlabel=name + (" (px)" if name == "size" else ""), yscale="log", xticks=x, xticklabels=x)
        if name != "depth":
            axes.set_xscale("log", base=2)
            axes.set_xticks(x, x)
    all_axes[0].set_ylabel("cost of a step (first point = 1)")
    all_axes[0].legend()
    figure.savefig(RESULTS / "scaling.png", dpi=150)


if __name__ == "__main__":
    one(*sys.argv[2:]) if sys.argv[1:2] == ["--one"] else main()
