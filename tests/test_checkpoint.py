"""Checkpoints: whole or not at all, whatever happens to the process or the file, and never code."""

import math
import pickle
import random
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import TRAIN, VAL, differences, exit_code, process, save_for_ever, trainer, unet

import unetlab as ul
from unetlab.checkpoint import (
    CheckpointError,
    load_newest,
    load_state,
    load_weights,
    put_weights,
    save_numbered,
    save_state,
    save_weights,
    write_atomically,
)

STATE = {
    "tensors": {
        "float": torch.randn(3, 4),
        "half": torch.randn(5).to(torch.bfloat16),
        "bytes": torch.arange(256, dtype=torch.uint8),
        "bool": torch.tensor([True, False]),
        "number": torch.tensor(3.5),
        "long": torch.tensor(2**60),
        "empty": torch.zeros(0, 3),
        "not finite": torch.tensor([math.nan, math.inf, -math.inf]),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "a view": torch.arange(10.0)[2:7:2],
        "needs a gradient": torch.ones(2, requires_grad=True),
    },
    "floats": [0.1, 1e-300, math.pi, math.inf, -math.inf, math.nan, -0.0],
    "int keys": {0: "a", 5: torch.ones(1), -1: {7: None}},
    "nothing": [None, True, False, 2**70, "text with $tensor and ü", "", [], {}],
    "$tensor": "a key that looks like a mark",
}


# ---------------------------------------------------------------------------------------------------------- round trip


def test_round_trip(tmp_path):
    save_state(tmp_path / "state.safetensors", STATE)
    again = load_state(tmp_path / "state.safetensors")
    assert differences(again, STATE) == []
    assert again["tensors"]["not finite"].isnan().tolist() == [True, False, False]
    assert math.copysign(1, again["floats"][-1]) == -1


def test_tuples_become_lists(tmp_path):
    save_state(tmp_path / "x", {"betas": (0.9, 0.999), "both": ((1, torch.ones(1)), [2])})
    again = load_state(tmp_path / "x")
    assert again["betas"] == [0.9, 0.999]
    assert again["both"] == [[1, torch.ones(1)], [2]]


def test_one_tensor_twice(tmp_path):
    shared = torch.ones(3)
    save_state(tmp_path / "x", {"a": shared, "b": shared, "c": shared[:2]})
    again = load_state(tmp_path / "x")
    assert [again[k].tolist() for k in "abc"] == [[1, 1, 1], [1, 1, 1], [1, 1]]
    again["a"].zero_()
    assert again["b"].tolist() == [1, 1, 1]


def test_names_that_look_alike(tmp_path):
    state = {"a.b": torch.zeros(1), "a": {"b": torch.ones(1)}, 1: torch.full((1,), 2.0), "1": torch.full((1,), 3.0)}
    save_state(tmp_path / "x", state)
    assert differences(load_state(tmp_path / "x"), state) == []


@pytest.mark.parametrize("value", [object(), {1, 2}, lambda: 0, torch.float32, b"bytes"])
def test_what_is_not_data_is_refused(tmp_path, value):
    with pytest.raises(TypeError, match=r"state\.deep\.1 is a .*: a checkpoint holds only"):
        save_state(tmp_path / "x", {"deep": [0, value]})
    assert list(tmp_path.iterdir()) == []


def test_weights_round_trip(tmp_path):
    model = unet()
    save_weights(tmp_path / "w.safetensors", model.state_dict(), model=model.config, epoch=3)
    weights, about = load_weights(tmp_path / "w.safetensors")
    assert about == {"model": model.config, "epoch": 3}
    assert differences(weights, dict(model.state_dict())) == []
    # The field's own reader gets the same.
    assert differences(safetensors.torch.load_file(tmp_path / "w.safetensors"), weights) == []


def test_folders_are_made(tmp_path):
    write_atomically(tmp_path / "a" / "b" / "c.txt", b"x")
    assert (tmp_path / "a" / "b" / "c.txt").read_bytes() == b"x"


# -------------------------------------------------------------------------------------------------------- broken files


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "x"
    save_state(path, {"a": torch.arange(1000.0), "b": [1, 2, {"c": torch.ones(7)}]})
    return path.read_bytes()


def header_length(content):
    return 8 + int.from_bytes(content[:8], "little")


def refused(path):
    for load in (load_state, load_weights):
        with pytest.raises(CheckpointError, match=str(path)):
            load(path)


def test_truncated_at_every_kind_of_place(tmp_path, whole_file):
    header = header_length(whole_file)
    for place in (0, 1, 7, 8, 9, header // 2, header - 1, header, header + 1, header + 1999, len(whole_file) - 1):
        (tmp_path / "cut").write_bytes(whole_file[:place])
        refused(tmp_path / "cut")


@settings(max_examples=50)
@given(data=st.data())
def test_truncated_anywhere(tmp_path_factory, whole_file, data):
    path = tmp_path_factory.mktemp("cut") / "x"
    path.write_bytes(whole_file[: data.draw(st.integers(0, len(whole_file) - 1))])
    refused(path)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\x89PNG\r\n\x1a\n" + bytes(100), bytes(1000), b"\xff" * 1000, b"PK\x03\x04" + bytes(100)]
)
def test_other_files(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    refused(tmp_path / "x")


def test_half_zeros(tmp_path, whole_file):
    """What a computer without power may leave: the right length, and no header."""
    (tmp_path / "x").write_bytes(bytes(header_length(whole_file)) + whole_file[header_length(whole_file) :])
    refused(tmp_path / "x")


def test_no_file(tmp_path):
    for load in (load_state, load_weights, load_newest):
        with pytest.raises(CheckpointError, match="missing.safetensors does not exist"):
            load(tmp_path / "missing.safetensors")


class Payload:
    """A pickle of this touches a file when it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("write", [lambda x, p: p.write_bytes(pickle.dumps(x)), lambda x, p: torch.save({"w": x}, p)])
def test_a_pickle_is_refused_and_nothing_runs(tmp_path, write):
    victim = tmp_path / "was here"
    for path in (tmp_path / "model.pt", tmp_path / "checkpoint-000001.safetensors"):
        write(Payload(victim), path)
        refused(path)
        with pytest.raises(CheckpointError, match="pickle, which is not opened because it could run code"):
            ul.Trainer.resume(path, TRAIN, VAL)
    with pytest.warns(UserWarning, match="pickle"), pytest.raises(CheckpointError, match="no whole checkpoint"):
        ul.Trainer.resume(tmp_path, TRAIN, VAL)
    assert not victim.exists()
    pickle.loads(pickle.dumps(Payload(victim)))
    assert victim.exists()  # the payload would have worked


def test_plain_weights_are_no_state(tmp_path):
    save_weights(tmp_path / "best.safetensors", unet().state_dict())
    safetensors.torch.save_file({"w": torch.ones(1)}, tmp_path / "foreign.safetensors")
    for name in ("best.safetensors", "foreign.safetensors"):
        with pytest.raises(CheckpointError, match=f"{name} holds weights but no training state"):
            load_state(tmp_path / name)
    assert load_weights(tmp_path / "foreign.safetensors")[1] == {}


# ------------------------------------------------------------------------------------------------- other architectures


def test_another_architecture_is_named():
    weights = unet(base_channels=2).state_dict()
    for other, difference in (
        (unet(base_channels=3), r"bottleneck\.0\.weight is \(4, 2, 3, 3\) in the file and \(6, 3, 3, 3\)"),
        (unet(norm="none"), r"bottleneck\.0\.bias is missing in the file and \(4,\)"),
        (unet(depth=2), r"bottleneck\.0\.weight is \(4, 2, 3, 3\) in the file and \(8, 4, 3, 3\)"),
        (unet(num_classes=3), r"head\.bias is \(1,\) in the file and \(3,\)"),
    ):
        before = {name: value.clone() for name, value in other.state_dict().items()}
        with pytest.raises(CheckpointError, match=f"run7 belongs to another architecture: {difference}"):
            put_weights(other, weights, "run7")
        assert differences(dict(other.state_dict()), before) == []  # nothing was half loaded


def test_resume_with_another_architecture(tmp_path):
    run = trainer()
    run.fit(1, verbose=False)
    run.save(tmp_path / "x")
    with pytest.raises(CheckpointError, match="belongs to another architecture"):
        ul.Trainer.resume(tmp_path / "x", TRAIN, VAL, model=unet(base_channels=3))


# --------------------------------------------------------------------------------------------------------- run folders


def numbered(folder):
    return sorted(path.name for path in folder.glob("checkpoint*"))


def test_the_newest_are_kept(tmp_path):
    for number in range(1, 5):
        save_numbered(tmp_path, {"number": number}, number)
    assert numbered(tmp_path) == ["checkpoint-000003.safetensors", "checkpoint-000004.safetensors"]
    assert load_newest(tmp_path) == {"number": 4}


def test_a_broken_newest_falls_back_with_a_warning(tmp_path):
    for number in (9, 10):
        save_numbered(tmp_path, {"number": number, "x": torch.ones(9)}, number)
    newest = tmp_path / "checkpoint-000010.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.warns(
        UserWarning, match="checkpoint-000010.safetensors is not a whole .* trying the checkpoint before"
    ):
        assert load_newest(tmp_path)["number"] == 9


def test_an_empty_folder(tmp_path):
    with pytest.raises(CheckpointError, match="holds no whole checkpoint"):
        load_newest(tmp_path)


def test_a_kill_while_saving_loses_nothing(tmp_path):
    """A process that does nothing but save is killed at random moments; the folder always holds a whole, newer state."""
    rng, last = random.Random(0), 0
    for _ in range(12):
        child = process(save_for_ever, tmp_path, last)
        deadline = time.monotonic() + 60
        while not numbered(tmp_path) or load_newest(tmp_path)["number"] <= last:  # until it is at work
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.05))
        child.kill()
        assert exit_code(child) != 0
        for path in tmp_path.glob("checkpoint*"):  # not only the newest: none is broken
            state = load_state(path)
            assert all((tensor == state["number"]).all() for tensor in state["weights"])
        assert load_newest(tmp_path)["number"] > last
        last = load_newest(tmp_path)["number"]
