"""The most memory a process needs: the plain loop and unetlab, with the same network, batch and images.

python benchmarks/memory.py [--width 16] [--depth 3] [--size 128] [--batch 8]

Peak resident memory after three epochs of four steps, in a process each, and before training, when everything is loaded.
unetlab keeps what one step frees for the next one, and a snapshot of every epoch (for rewind and fork).
Results: results/memory.json and .png. Not on Windows, which does not tell the peak.
"""

import argparse
import json
import sys

from common import RESULTS, environment, in_fresh_process, save

EPOCHS, STEPS = 3, 4


def peak() -> float:
    """MB; Linux counts in KB, macOS in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def one(name: str, *shape: str) -> None:
    import peers
    import torch

    import unetlab as ul

    width, depth, size, batch = map(int, shape)
    torch.set_num_threads(1)
    x = torch.randint(0, 256, (batch * STEPS, 1, size, size), dtype=torch.uint8)
    y = (x[:, 0] > 180).to(torch.uint8)
    model = ul.UNet(1, 1, width, depth)
    before = peak()
    if name == "unetlab":
        ul.Trainer(model, (x, y), (x[:batch], y[:batch]), batch_size=batch, device="cpu").fit(EPOCHS, verbose=None)
    else:
        images, masks = x.float() / 255, y.float()[:, None]
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
        for _ in range(EPOCHS):
            for part in torch.arange(len(x)).split(batch):
                optimizer.zero_grad()
                loss = peers.bce_and_dice(model(images[part]), masks[part])
                loss.backward()
                optimizer.step()
                loss.item()
    print(json.dumps({"loop": name, "before": round(before, 1), "peak": round(peak(), 1)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, usual in {"width": 16, "depth": 3, "size": 128, "batch": 8}.items():
        parser.add_argument(f"--{option}", type=int, default=usual)
    shape = tuple(vars(parser.parse_args()).values())
    runs = [in_fresh_process(__file__, name, *shape) for name in ("plain loop", "unetlab")]
    record = {"environment": environment(), "width, depth, size, batch": shape, "MB": [r for r in runs if r]}
    save("memory", record)
    print(json.dumps(record["MB"], indent=1))
    figure(record, RESULTS / "memory.png")


def figure(record: dict, path) -> None:
    from matplotlib import pyplot as plt

    import unetlab as ul

    ul.use_style()
    figure, axes = plt.subplots(figsize=(7, 2.4), layout="constrained")
    names, before, most = zip(*[(r["loop"], r["before"], r["peak"]) for r in record["MB"]], strict=True)
    axes.barh(names, most, color="C0", label="while training")
    axes.barh(names, before, color="0.7", label="everything loaded")
    title = "width {}, depth {}, {} px, batch {}".format(*record["width, depth, size, batch"])
    axes.set(xlabel="peak resident memory (MB)", title=title)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncol=2)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    one(*sys.argv[2:]) if sys.argv[1:2] == ["--one"] else main()
