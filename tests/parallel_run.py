"""What tests/test_parallel.py starts, alone or under torchrun: a small run that writes down what it did.

Arguments: the file to write, and options of ``Trainer`` as JSON; besides them "die_at", a step at which process 1 is
killed, and "move_at", a step before which the hand of process 0 moves the rate.
"""

import json
import os
import sys

import torch
from tiny import KILL, squares

import unetlab as ul
from unetlab import parallel


def main(path: str, options: dict) -> None:
    die_at, move_at = options.pop("die_at", None), options.pop("move_at", None)
    torch.manual_seed(parallel.rank())  # the network of process 0 is the one that counts
    model = ul.UNet(base_channels=4, depth=2)
    usual = {"batch_size": 8, "augment": "flips", "grad_clip": 1.0, "optimizer": "sgd", "lr": 1e-2, "device": "cpu"}
    run = ul.Trainer(model, squares(49, 32, seed=0), squares(9, 32, seed=1), **usual | options)
    steps = run.train_step

    def train_step(indices):
        if run.step == die_at and parallel.rank() == 1:
            os.kill(os.getpid(), KILL)
        if run.step == move_at:
            run.controls.set(lr=5e-3 if parallel.rank() == 0 else 0.5)  # a hand on the first process alone counts
        return steps(indices)

    run.train_step = train_step
    run.fit(8, verbose=False)
    weights = torch.cat([value.double().flatten() for value in run.model.state_dict().values()])
    all_weights = [torch.zeros_like(weights) for _ in range(parallel.size())]
    if parallel.size() > 1:
        torch.distributed.all_gather(all_weights, weights)
    other = run.evaluate(squares(3, 32, seed=2), batch_size=1)  # all take part
    if parallel.rank() == 0:
        agree = all(torch.equal(all_weights[0], weights) for weights in all_weights)
        about = {"processes": parallel.size(), "agree": agree, "other_dice": other["dice_per_image"]}
        with open(path, "w") as file:
            json.dump(run.history.to_dict() | about, file)


if __name__ == "__main__":
    try:
        with parallel.processes_of_torchrun("cpu"):
            main(sys.argv[1], json.loads(sys.argv[2]))
    except parallel.ProcessLost as error:
        sys.exit(f"LOST: {error}")
