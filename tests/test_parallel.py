"""Two processes against one. They are started by torchrun and talk over the loopback; gloo carries the messages."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from unetlab import parallel

HERE = Path(__file__).parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def start(*command, torchrun=False):
    path = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    command = [*(TORCHRUN if torchrun else [sys.executable]), *map(str, command)]
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


def history(folder, processes, **options):
    """What tests/parallel_run.py wrote down."""
    path = folder / f"{processes}.json"
    done = start(HERE / "parallel_run.py", path, json.dumps(options), torchrun=processes == 2)
    assert done.returncode == 0, done.stderr
    return json.loads(path.read_text())


def column(run, rows, name):
    return torch.tensor([row[name] for row in run[rows]], dtype=torch.float64)


def test_two_processes_equal_one(tmp_path):
    """Augmented, clipped, moved by hand; the last batch of an epoch is a single image, so one process gets none."""
    one, two = (history(tmp_path, n, move_at=20) for n in (1, 2))
    assert (one["processes"], two["processes"]) == (1, 2)
    assert len(two["steps"]) == 56 and two["agree"]
    assert one["moves"] == two["moves"] and two["moves"][0]["new"] == 5e-3
    assert (column(one, "steps", "loss") - column(two, "steps", "loss")).abs().max() < 1e-5
    assert column(one, "steps", "loss")[-1] < 0.9 * column(one, "steps", "loss")[0]  # and it learned something
    for name in ("val_loss", "val_dice", "val_iou"):
        assert (column(one, "epochs", name) - column(two, "epochs", name)).abs().max() < 1e-3
    assert two["other_dice"] == pytest.approx(one["other_dice"], abs=1e-3)


def test_killed_process_ends_the_run_with_a_clear_message(tmp_path):
    options = json.dumps({"die_at": 10})
    done = start(HERE / "parallel_run.py", tmp_path / "none.json", options, torchrun=True)
    assert done.returncode != 0 and not (tmp_path / "none.json").exists()
    assert "LOST: another process of this run has ended" in done.stderr
    assert "Signal 9" in done.stderr  # torchrun says which and why


def test_the_command_on_two_processes_and_its_resume_on_one(tmp_path):
    moves = tmp_path / "moves.json"
    moves.write_text('[[3, {"stop": true}]]')
    options = "train --data cells --size 32 --base-channels 2 --depth 1 --epochs 2 --batch-size 48 --lr 1e-3".split()
    stopped = start("-m", "unetlab", *options, "--moves", moves, "--out", tmp_path / "run", torchrun=True)
    assert stopped.returncode == 0, stopped.stderr
    assert stopped.stdout.count("parameters on cpu") == 1  # one process speaks
    assert "stopped by hand at step 3" in stopped.stdout
    moves.write_text("[]")
    config = json.loads((tmp_path / "run/config.json").read_text())
    (tmp_path / "run/config.json").write_text(json.dumps(config | {"moves": []}))
    resumed = start("-m", "unetlab", "train", "--resume", tmp_path / "run")
    assert resumed.returncode == 0, resumed.stderr
    whole = start("-m", "unetlab", *options, "--out", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    runs = [json.loads((tmp_path / name / "history.json").read_text()) for name in ("run", "whole")]
    assert [len(run["steps"]) for run in runs] == [4, 4]
    assert (column(runs[0], "steps", "loss") - column(runs[1], "steps", "loss")).abs().max() < 1e-5


@pytest.mark.parametrize("n, size", [(0, 1), (1, 3), (5, 2), (8, 3), (16, 4)])
def test_shares_cover_everything_once(n, size, monkeypatch):
    monkeypatch.setattr(parallel, "size", lambda: size)
    shares = []
    for rank in range(size):
        monkeypatch.setattr(parallel, "rank", lambda rank=rank: rank)
        shares.append(list(range(n))[parallel.share(n)])
    assert sum(shares, []) == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone_nothing_changes():
    model, loss, part = torch.nn.BatchNorm2d(2), torch.ones(()), torch.ones(3, 2)
    assert (parallel.rank(), parallel.size(), parallel.share(7)) == (0, 1, slice(0, 7))
    assert parallel.share_batch_norm(model, torch.device("cpu")) is model and type(model) is torch.nn.BatchNorm2d
    assert parallel.add_gradients(model, loss) is loss and parallel.put_together(part, 3) is part
    assert parallel.from_first("x") == "x"
    shared = parallel.SharedBatchNorm(2)
    x = torch.rand(4, 2, 3, 3)
    assert torch.equal(shared(x), model(x)) and shared.state_dict().keys() == model.state_dict().keys()
