"""The state of a run as data: snapshots within their memory, layouts, settings in a file."""

import pytest
import torch
from tiny import STEPS, differences, squares, trainer, unet, whole

import unetlab as ul
from unetlab import run_state
from unetlab.checkpoint import CheckpointError, save_state
from unetlab.run_state import Snapshots, clone, fingerprint, load, load_optimizer, pack_settings, unpack_settings

KIB = {"weights": torch.zeros(256)}  # 1024 bytes


# ------------------------------------------------------------------------------------------------------------ snapshots


@pytest.mark.parametrize("room", [2, 3, 5, 8])
def test_snapshots_thin_out(monkeypatch, room):
    """The first, the last and an even spread stay; there are never more than fit."""
    monkeypatch.setattr(run_state, "SNAPSHOT_BYTES", room * 1024)
    snapshots = Snapshots()
    for epoch in range(60):
        snapshots.add(epoch, KIB)
        assert len(snapshots) <= room
        assert {0, epoch} <= set(snapshots)
    epochs = sorted(snapshots)
    gaps = [b - a for a, b in zip(epochs, epochs[1:], strict=False)]
    assert max(gaps) <= 4 * 60 / room  # the middle of the run can be taken up again too


def test_snapshots_all_stay_while_there_is_room():
    snapshots = Snapshots()
    for epoch in range(60):
        snapshots.add(epoch, KIB)
    assert sorted(snapshots) == list(range(60))


def test_a_dropped_snapshot_is_named(monkeypatch):
    monkeypatch.setattr(run_state, "SNAPSHOT_BYTES", 1)
    run = trainer()
    run.fit(5, verbose=False)
    with pytest.raises(ValueError, match="there is no snapshot of epoch 3; snapshots: 0, 5"):
        run.rewind(3)
    with pytest.raises(ValueError, match="there is no snapshot of epoch 3"):
        run.fork(3)
    expected = whole(run)
    run.rewind(0)
    run.fit(5, verbose=False)
    assert differences(whole(run), expected) == []


def test_snapshots_before_any_training():
    with pytest.raises(ValueError, match="snapshots: none yet"):
        trainer().rewind(0)


def test_drop_after():
    snapshots = Snapshots({epoch: KIB for epoch in range(5)})
    snapshots.drop_after(2)
    assert sorted(snapshots) == [0, 1, 2]


# -------------------------------------------------------------------------------------------------------------- tensors


def test_clone_is_deep_and_keeps_the_layout():
    weight = torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last).requires_grad_()
    tree = {"a": weight, "b": [weight, {"c": (1, "x", None)}]}
    copy = clone(tree)
    assert copy["a"].stride() == weight.stride() and not copy["a"].requires_grad
    assert copy["b"][1] == {"c": [1, "x", None]}
    weight.data.zero_()
    assert copy["a"].any() and copy["b"][0].any()


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "rmsprop"])
def test_optimizer_moments_take_the_layout_of_their_weights(name):
    """A file keeps contiguous tensors, but fused optimizers walk a weight and its moments as flat memory together."""

    def steps(model, optimizer, n):
        for _ in range(n):
            optimizer.zero_grad()
            x = torch.linspace(0, 1, 512).view(2, 1, 16, 16)
            model(x).square().mean().backward()
            optimizer.step()

    def made():
        model = unet(base_channels=4, norm="none").to(memory_format=torch.channels_last)
        return model, ul.ingredients.make_optimizer(name, model.parameters(), 1e-2, torch.device("cpu"))

    model, optimizer = made()
    steps(model, optimizer, 3)
    state = optimizer.state_dict()
    state["state"] = {
        i: {k: v.contiguous() if torch.is_tensor(v) else v for k, v in slots.items()}
        for i, slots in state["state"].items()
    }
    again, other = made()
    again.load_state_dict(model.state_dict())
    load_optimizer(other, state)
    layouts = [(p.stride(), v.stride()) for p, s in other.state.items() for v in s.values() if v.shape == p.shape]
    assert layouts and all(weight == moment for weight, moment in layouts)
    assert any(not p.is_contiguous() for p in other.state)  # there was something to get wrong
    steps(model, optimizer, 3)
    steps(again, other, 3)
    assert differences(dict(model.state_dict()), dict(again.state_dict())) == []


def test_load_optimizer_takes_a_copy():
    run = trainer()
    run.fit(1, verbose=False)
    state = clone(run.optimizer.state_dict())
    kept = clone(state)
    load_optimizer(run.optimizer, state)
    run.train_step(torch.arange(4))
    assert differences(state, kept) == []


# ------------------------------------------------------------------------------------------------------------- settings


def test_settings_survive_a_file():
    settings = {
        "loss": {"name": "ce", "class_weights": [1.0, 3.0]},
        "scheduler": {"name": "plateau", "patience": 2},
        "optimizer": "sgd",
        "early_stopping": ul.EarlyStopping("val_dice", "max", 3, 0.01, False, 2),
        "augment": ul.Augment(flip=True, crop=8),
        "ema": None,
        "lr": 0.1,
        "compile": False,
    }
    again = unpack_settings(pack_settings(settings), {}, "file")
    assert again["early_stopping"].settings() == settings["early_stopping"].settings()
    assert {k: v for k, v in again.items() if k != "early_stopping"} == {
        k: v for k, v in settings.items() if k != "early_stopping"
    }


def test_your_own_functions_must_be_given_again():
    def loss(logits, masks):
        return logits.mean()

    packed = pack_settings({"loss": loss, "optimizer": torch.optim.Adagrad, "augment": None, "early_stopping": None})
    with pytest.raises(ValueError, match="run7 cannot hold your own loss and optimizer: pass it to resume again"):
        unpack_settings(packed, {}, "run7")
    with pytest.raises(ValueError, match="your own optimizer: pass"):
        unpack_settings(packed, {"loss": loss}, "run7")
    again = unpack_settings(packed, {"loss": loss, "optimizer": torch.optim.Adagrad}, "run7")
    assert again["loss"] is loss and again["optimizer"] is torch.optim.Adagrad


def test_tensors_among_the_options_survive_or_are_asked_for():
    """Class weights are often a tensor; they must come back, or be named as missing."""
    packed = pack_settings({"loss": {"name": "ce", "class_weights": torch.tensor([1.0, 3.0])}})
    try:
        again = unpack_settings(packed | {"early_stopping": None, "augment": None}, {}, "run7")
    except ValueError as error:
        assert "cannot hold your own loss" in str(error)
    else:
        assert torch.as_tensor(again["loss"]["class_weights"]).tolist() == [1.0, 3.0]


def test_modules_among_the_options_are_asked_for():
    packed = pack_settings(
        {"loss": {"name": "compound", "dice": ul.DiceLoss()}, "early_stopping": None, "augment": None}
    )
    with pytest.raises(ValueError, match="run7 cannot hold your own loss: pass it"):
        unpack_settings(packed, {}, "run7")


def test_fingerprints_tell_data_apart():
    images, masks = squares(4)
    same = fingerprint(images, masks)
    assert fingerprint(images.clone(), masks.clone()) == same
    one_pixel = images.clone()
    one_pixel[2, 0, 3, 3] += 1
    flipped = masks.clone()
    flipped[0, 0, 0] ^= 1
    others = [fingerprint(one_pixel, masks), fingerprint(images, flipped), fingerprint(images[:3], masks[:3])]
    assert all(other != same for other in others)


def test_a_state_that_is_not_a_runs(tmp_path):
    save_state(tmp_path / "x", {"weights": torch.ones(1)})
    with pytest.raises(CheckpointError, match="holds a state that is not a run's"):
        load(tmp_path / "x")


def test_load_takes_files_and_folders(tmp_path):
    run = trainer()
    run.fit(2, run_dir=tmp_path / "run", verbose=False)
    run.save(tmp_path / "file")
    assert load(tmp_path / "run")["training"]["step"] == load(tmp_path / "file")["training"]["step"] == 2 * STEPS
