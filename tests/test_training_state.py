"""A run is whole: killed, stopped, saved, rewound, forked or replayed, it gives the same numbers bit for bit.

The runs have everything that has a state: moving average, dropout, augmentation, clipping, early stopping, moves.
"""

import json
import warnings

import pytest
import torch
from tiny import (
    EPOCHS,
    MOVES,
    STEPS,
    TRAIN,
    VAL,
    differences,
    exit_code,
    process,
    resume_and_finish,
    rich_trainer,
    script,
    squares,
    train_and_die,
    trainer,
    unet,
    whole,
    without_seconds,
)

import unetlab as ul
from unetlab import checkpoint
from unetlab.checkpoint import CheckpointError, load_state, load_weights
from unetlab.schedulers import SCHEDULES

pytestmark = pytest.mark.filterwarnings("ignore:the .* schedule does its best work at the end")
every_schedule = pytest.mark.parametrize("scheduler", SCHEDULES)
FEW = ["constant", "plateau", "one_cycle"]  # no state, a state of its own, a plan of the whole run: for what takes long
few_schedules = pytest.mark.parametrize("scheduler", FEW)


@pytest.fixture(scope="module")
def uninterrupted():
    """The whole state after ten epochs without any disturbance, by schedule; and the run itself."""
    runs = {}

    def run(scheduler):
        if scheduler not in runs:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                runs[scheduler] = rich_trainer(scheduler)
                runs[scheduler].fit(EPOCHS, script(), verbose=False)
        return whole(runs[scheduler])

    return run


def stopped_at(step, scheduler="constant", **options):
    run = rich_trainer(scheduler)
    run.fit(EPOCHS, script((step, {"stop": True})), verbose=False, **options)
    assert run.step == step
    return run


def go_on(run, **options):
    run.fit(script=script(), verbose=False, **options)
    return run


def test_the_runs_are_worth_comparing(uninterrupted):
    """Every part is at work, so that forgetting it would show."""
    states = {name: uninterrupted(name) for name in SCHEDULES}
    for state in states.values():
        assert len(state["history"]["moves"]) == 7
        training = state["training"]
        assert training["ema"]["updates"] == EPOCHS * STEPS == training["step"]
        assert 0 < training["keeper"]["wait"] < EPOCHS and training["keeper"]["patience"] == 50
        assert training["grad_clip"] == 0.5 and training["hand_lr"] == 2e-3
        assert training["scheduler"]["torch"]["last_epoch"] > 0
        for a, b in (("model", "best"), ("best", "ema")):
            assert differences(training[a], training[b]), f"{a} and {b} are the same"
    weights = [json.dumps(state["training"]["model"]["head.weight"].tolist()) for state in states.values()]
    assert len(set(weights)) == len(SCHEDULES)


# ----------------------------------------------------------------------------------------------------------- resuming


@few_schedules
def test_killed_and_resumed(tmp_path, uninterrupted, scheduler):
    """The process is killed in the middle of epoch 6; another one goes on from the run folder."""
    assert exit_code(process(train_and_die, tmp_path / "run", scheduler, 5 * STEPS + 2)) not in (0, 1)
    assert load_state(tmp_path / "run" / "checkpoint-000005.safetensors")["training"]["step"] == 5 * STEPS
    assert exit_code(process(resume_and_finish, tmp_path / "run", tmp_path / "end")) == 0
    expected = uninterrupted(scheduler)
    shown = expected.pop("shown")
    assert differences(without_seconds(load_state(tmp_path / "end")), expected) == []
    assert differences(load_weights(tmp_path / "run" / "best.safetensors")[0], shown) == []
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert [row["epoch"] for row in history["epochs"]] == list(range(1, EPOCHS + 1))


@pytest.mark.parametrize(
    "scheduler, step", [(name, 3 * STEPS + 2) for name in SCHEDULES] + [("cosine", 5 * STEPS), ("plateau", 5 * STEPS)]
)
def test_saved_and_resumed(tmp_path, uninterrupted, scheduler, step):
    """In the middle of an epoch, while the hand holds the rate; and at the end of one, when the schedule has it again."""
    stopped_at(step, scheduler).save(tmp_path / "state")
    run = go_on(ul.Trainer.resume(tmp_path / "state", TRAIN, VAL))
    assert differences(whole(run), uninterrupted(scheduler)) == []


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop"])
def test_saved_and_resumed_with_every_optimizer(tmp_path, optimizer):
    run = rich_trainer("one_cycle", optimizer=optimizer)
    run.fit(6, script((8, {"stop": True})), verbose=False)
    run.save(tmp_path / "state")
    resumed = go_on(ul.Trainer.resume(tmp_path / "state", TRAIN, VAL))
    assert differences(whole(resumed), whole(go_on(run))) == []


def test_resumed_again_and_again(tmp_path, uninterrupted):
    run = stopped_at(1, "cosine")
    for step in (3, 7, 9, 16, 29):
        run.save(tmp_path / "state")
        run = ul.Trainer.resume(tmp_path / "state", TRAIN, VAL)
        run.fit(script=script((step, {"stop": True})), verbose=False)
    assert differences(whole(go_on(run)), uninterrupted("cosine")) == []


def test_saved_before_training(tmp_path, uninterrupted):
    rich_trainer().save(tmp_path / "state")
    run = ul.Trainer.resume(tmp_path / "state", TRAIN, VAL)
    run.fit(EPOCHS, script(), verbose=False)
    assert differences(whole(run), uninterrupted("constant")) == []


def test_a_resumed_run_shows_the_same_weights(tmp_path):
    run = stopped_at(8 * STEPS)
    run.save(tmp_path / "state")
    resumed = ul.Trainer.resume(tmp_path / "state", TRAIN, VAL)
    assert differences(whole(resumed), whole(run)) == []
    assert torch.equal(resumed.predict(VAL[0]), run.predict(VAL[0]))
    assert resumed.history.to_dict() == run.history.to_dict()


def test_resumed_moments_have_the_layout_of_their_weights(tmp_path):
    """The file holds them contiguous, the network is channels_last, and fused optimizers take both as flat memory."""
    stopped_at(5 * STEPS).save(tmp_path / "state")
    state = ul.Trainer.resume(tmp_path / "state", TRAIN, VAL).optimizer.state
    assert any(not parameter.is_contiguous() for parameter in state)
    for parameter, slots in state.items():
        assert slots["exp_avg"].stride() == slots["exp_avg_sq"].stride() == parameter.stride()


def test_an_early_stop_survives_the_process(tmp_path):
    """Killed after its last checkpoint was written, a run that had stopped is not trained any further."""
    options = {"early_stopping": ul.EarlyStopping(patience=2, min_delta=1)}
    run = trainer(**options)
    run.fit(9, run_dir=tmp_path, verbose=False)
    assert run.epoch == 3
    resumed = ul.Trainer.resume(tmp_path, TRAIN, VAL)
    resumed.fit(verbose=False)
    assert differences(whole(resumed), whole(run)) == []


# ---------------------------------------------------------------------------------------------------------- run folders


class Crash(BaseException):
    """The process ends here."""


def bad_luck(monkeypatch, write):
    """Let the process end just before its n-th file is written."""
    usual, count = checkpoint.write_atomically, iter(range(1, 1000))

    def write_or_crash(path, content):
        if next(count) == write:
            raise Crash
        usual(path, content)

    monkeypatch.setattr(checkpoint, "write_atomically", write_or_crash)


@pytest.mark.parametrize("write", range(1, 14))
def test_a_crash_between_any_two_files(tmp_path, monkeypatch, write):
    """Checkpoint, history and best weights are three files; whichever is missing, the end is the same."""
    expected = trainer(ema=0.5)
    expected.fit(4, run_dir=tmp_path / "expected", verbose=False)

    with monkeypatch.context() as patch:
        bad_luck(patch, write)
        with pytest.raises(Crash):
            trainer(ema=0.5).fit(4, run_dir=tmp_path / "run", verbose=False)
    try:
        run = ul.Trainer.resume(tmp_path / "run", TRAIN, VAL)
    except CheckpointError:
        assert write <= 2  # before the first checkpoint there is nothing to lose
        run = trainer(ema=0.5)
    run.fit(4, run_dir=tmp_path / "run", verbose=False)

    assert differences(whole(run), whole(expected)) == []
    ends = [load_weights(tmp_path / name / "best.safetensors") for name in ("run", "expected")]
    assert differences(ends[0][0], ends[1][0]) == [] and ends[0][1] == ends[1][1]
    histories = [json.loads((tmp_path / name / "history.json").read_text()) for name in ("run", "expected")]
    assert histories[0]["steps"] == histories[1]["steps"] and len(histories[0]["epochs"]) == 4


def test_files_of_a_run_folder(tmp_path):
    run = stopped_at(7 * STEPS, run_dir=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best.safetensors",
        "checkpoint-000006.safetensors",
        "checkpoint-000007.safetensors",
        "history.json",
    ]
    record = json.loads((tmp_path / "history.json").read_text())
    assert record["stop_reason"] == "stopped by hand at step 21"
    assert ul.History.from_json(tmp_path / "history.json").moves == run.history.moves
    weights, about = load_weights(tmp_path / "best.safetensors")
    assert ul.UNet(**about["model"]).load_state_dict(weights)
    assert about["epoch"] == run.early_stopping.best_epoch + 1


def test_a_broken_newest_checkpoint_costs_one_epoch(tmp_path, uninterrupted):
    stopped_at(7 * STEPS, run_dir=tmp_path)
    newest = tmp_path / "checkpoint-000007.safetensors"
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="checkpoint-000007.safetensors is not a whole"):
        run = ul.Trainer.resume(tmp_path, TRAIN, VAL)
    assert run.epoch == 6
    assert differences(whole(go_on(run)), uninterrupted("constant")) == []


def test_a_rewound_run_resumes_where_it_was(tmp_path):
    """Its folder still holds later checkpoints, of the future that was given up."""
    run = trainer()
    run.fit(6, run_dir=tmp_path, verbose=False)
    run.rewind(2)
    run.fit(6, ul.Script([(2 * STEPS, {"lr": 0.02}), (4 * STEPS, {"stop": True})]), run_dir=tmp_path, verbose=False)
    resumed = ul.Trainer.resume(tmp_path, TRAIN, VAL)
    assert resumed.epoch == 4
    resumed.fit(run_dir=tmp_path, verbose=False)
    run.fit(verbose=False)
    assert differences(whole(resumed), whole(run)) == []


# ------------------------------------------------------------------------------------------------------ what is refused


def saved(tmp_path, run):
    run.fit(1, verbose=False)
    run.save(tmp_path / "state")
    return tmp_path / "state"


def test_other_data_are_noticed(tmp_path):
    path = saved(tmp_path, trainer())
    for train, val in ((VAL, VAL), (TRAIN, TRAIN), (squares(10, seed=7), VAL)):
        with pytest.raises(ValueError, match="was trained on other data"):
            ul.Trainer.resume(path, train, val)


def test_your_own_parts_are_given_again(tmp_path):
    def loss(logits, masks):
        return ul.DiceLoss()(logits, masks)

    path = saved(tmp_path, trainer(loss=loss))
    with pytest.raises(ValueError, match="cannot hold your own loss: pass it to resume again"):
        ul.Trainer.resume(path, TRAIN, VAL)
    resumed = ul.Trainer.resume(path, TRAIN, VAL, loss=loss)
    assert resumed.epoch == 1


def test_your_own_network_is_given_again(tmp_path):
    def convolution():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return torch.nn.Conv2d(1, 1, 3, padding=1)

    path = saved(tmp_path, trainer(convolution()))
    with pytest.raises(ValueError, match=r"cannot hold your own model: pass model=\.\.\."):
        ul.Trainer.resume(path, TRAIN, VAL)
    resumed = ul.Trainer.resume(path, TRAIN, VAL, model=torch.nn.Conv2d(1, 1, 3, padding=1))
    expected = trainer(convolution())
    for run in (resumed, expected):
        run.fit(3, verbose=False)
    assert resumed.history.column("val_loss") == expected.history.column("val_loss")


def test_a_changed_unet_is_not_taken_for_a_plain_one(tmp_path):
    """Its weights would fit, but it is another network."""

    class WithoutSkips(ul.UNet):
        def merge(self, skip, up):
            return super().merge(torch.zeros_like(skip), up)

    path = saved(tmp_path, trainer(WithoutSkips(base_channels=2, depth=1)))
    with pytest.raises(ValueError, match="cannot hold your own model"):
        ul.Trainer.resume(path, TRAIN, VAL)
    resumed = ul.Trainer.resume(path, TRAIN, VAL, model=WithoutSkips(base_channels=2, depth=1))
    assert isinstance(resumed.model, WithoutSkips)


# ------------------------------------------------------------------------------------------- stopped by hand in mid-epoch


FIVE_EPOCHS = [(2, {"lr": 5e-3}), (6, {"grad_clip": 0.5}), (11, {"lr": None})]


@pytest.fixture(scope="module")
def five_epochs():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        run = rich_trainer("cosine")
        run.fit(5, ul.Script(FIVE_EPOCHS), verbose=False)
    return whole(run)


@pytest.mark.parametrize("step", range(1, 5 * STEPS))
def test_stopped_at_any_step_and_continued(five_epochs, step):
    run = rich_trainer("cosine")
    run.fit(5, ul.Script([(step, {"stop": True}), *FIVE_EPOCHS]), verbose=False)
    assert run.history.stop_reason == f"stopped by hand at step {step}" and len(run.history.steps) == step
    run.fit(script=ul.Script(FIVE_EPOCHS), verbose=False)
    assert run.history.stop_reason is None
    assert differences(whole(run), five_epochs) == []


def test_stopped_twice_in_one_place():
    run = stopped_at(7)
    run.fit(script=script((7, {"stop": True})), verbose=False)
    assert run.step == 7


# ------------------------------------------------------------------------------------------------------- rewind, replay


@few_schedules
def test_rewound_and_trained_again(uninterrupted, scheduler):
    run = rich_trainer(scheduler)
    run.fit(EPOCHS, script((7 * STEPS + 1, {"stop": True})), verbose=False)
    for epoch in (7, 4):
        run.rewind(epoch)
        assert (run.epoch, len(run.history), len(run.history.steps)) == (epoch, epoch, epoch * STEPS)
        assert all(move.step < epoch * STEPS for move in run.history.moves)
        assert max(run.snapshots) == epoch
    assert differences(whole(go_on(run)), uninterrupted(scheduler)) == []


def test_rewound_to_the_start(uninterrupted):
    run = stopped_at(13, "one_cycle")
    run.rewind(0)
    assert differences(whole(go_on(run)), uninterrupted("one_cycle")) == []


def test_rewound_to_the_weights_of_then():
    run, short = trainer(), trainer()
    run.fit(6, verbose=False)
    short.fit(2, verbose=False)
    run.rewind(2)
    assert differences(dict(run.model.state_dict()), dict(short.model.state_dict())) == []
    assert run.evaluate(VAL)["loss"] == pytest.approx(run.history.epochs[1]["val_loss"])


def test_rewound_after_a_stop_in_mid_epoch(uninterrupted):
    run = stopped_at(17, "exponential")
    run.rewind(3)
    assert differences(whole(go_on(run)), uninterrupted("exponential")) == []


def test_rewind_beyond_what_there_is():
    run = stopped_at(2 * STEPS)
    with pytest.raises(ValueError, match="there is no snapshot of epoch 7; snapshots: 0, 1, 2"):
        run.rewind(7)


@few_schedules
def test_replayed_from_its_moves(uninterrupted, scheduler):
    moves = [ul.Move(**move) for move in uninterrupted(scheduler)["history"]["moves"]]
    run = rich_trainer(scheduler)
    run.fit(EPOCHS, ul.Script(moves), verbose=False)
    assert differences(whole(run), uninterrupted(scheduler)) == []


def test_the_moves_matter(uninterrupted):
    run = rich_trainer()
    run.fit(EPOCHS, ul.Script(MOVES[1:]), verbose=False)
    assert differences(whole(run)["training"]["model"], uninterrupted("constant")["training"]["model"])


# ---------------------------------------------------------------------------------------------------------------- forks


@pytest.mark.parametrize("scheduler, epoch", [(name, 4) for name in FEW] + [("cosine", 0), ("plateau", 5)])
def test_a_fork_without_changes_equals_its_parent(uninterrupted, scheduler, epoch):
    run = stopped_at(5 * STEPS + 1, scheduler)
    parent = whole(run)
    fork = go_on(run.fork(epoch))
    assert differences(whole(fork), uninterrupted(scheduler)) == []
    assert fork.model is not run.model and fork.early_stopping is not run.early_stopping
    assert differences(whole(run), parent) == []  # the parent has not noticed


def test_a_fork_of_a_fork_and_a_fork_of_a_resumed_run(tmp_path, uninterrupted):
    run = stopped_at(6 * STEPS)
    fork = go_on(run.fork(2).fork(2))
    assert differences(whole(fork), uninterrupted("constant")) == []
    run.save(tmp_path / "state")
    fork = go_on(ul.Trainer.resume(tmp_path / "state", TRAIN, VAL).fork(6))
    assert differences(whole(fork), uninterrupted("constant")) == []


@every_schedule
def test_a_fork_with_another_rate(scheduler):
    """It takes up the schedule of the new rate at this point of the run, and out of the hand."""
    run = trainer(scheduler=scheduler)
    run.fit(6, ul.Script([(4, {"lr": 0.5})]), verbose=False)
    fork = run.fork(3, lr=4e-3)
    rates = [row["lr"] for row in fork.fit(verbose=False).steps]
    assert rates[: 3 * STEPS] == [row["lr"] for row in run.history.steps[: 3 * STEPS]]
    if scheduler == "plateau":
        assert rates[3 * STEPS :] == [4e-3] * 3 * STEPS
    else:
        assert rates[3 * STEPS :] == ul.schedule_preview(scheduler, 6 * STEPS, lr=4e-3)[3 * STEPS :].tolist()


@pytest.mark.parametrize("before", ["constant", "one_cycle"])
@every_schedule
def test_a_fork_with_another_schedule(before, scheduler):
    run = trainer(scheduler=before)
    run.fit(4, verbose=False)
    rates = [row["lr"] for row in run.fork(2, scheduler=scheduler).fit(verbose=False).steps[2 * STEPS :]]
    if scheduler == "plateau":
        assert rates == [1e-3] * 2 * STEPS
    else:
        assert rates == ul.schedule_preview(scheduler, 4 * STEPS, lr=1e-3)[2 * STEPS :].tolist()


def test_a_fork_with_other_patience():
    run = trainer(early_stopping=ul.EarlyStopping(patience=100, min_delta=1))
    run.fit(8, verbose=False)
    fork = run.fork(3, patience=4, min_delta=0.5)
    fork.fit(verbose=False)
    assert fork.epoch == 5  # the four evaluations after the first count, shared past included
    assert (run.early_stopping.patience, run.early_stopping.min_delta) == (100, 1)
    with pytest.raises(ValueError, match="patience must be"):
        run.fork(3, patience=-1)
    with pytest.raises(ValueError, match="no early stopping"):
        forkable = trainer()
        forkable.fit(1, verbose=False)
        forkable.fork(1, patience=3)


def test_a_fork_with_early_stopping_of_its_own():
    run = trainer()
    run.fit(4, verbose=False)
    fork = run.fork(2, early_stopping=ul.EarlyStopping(patience=1, min_delta=1))
    fork.fit(verbose=False)
    assert fork.epoch == 4 and fork.early_stopping.best_epoch == 0  # it looks from the fork on
    assert run.early_stopping is None


@pytest.mark.parametrize(
    "change", [{"grad_clip": 1e-3}, {"loss": "ce"}, {"augment": "flips"}, {"seed": 9}, {"precision": "bf16"}]
)
def test_a_fork_differs_from_there_on(change):
    run = trainer()
    run.fit(4, verbose=False)
    fork = run.fork(2, **change)
    fork.fit(verbose=False)
    facts = fork.history.environment
    assert (facts["seed"], facts["precision"]) == (change.get("seed", 0), change.get("precision", "fp32"))
    ours, theirs = ([row["loss"] for row in r.history.steps] for r in (run, fork))
    assert ours[: 2 * STEPS] == theirs[: 2 * STEPS]
    assert ours[2 * STEPS + 1 :] != theirs[2 * STEPS + 1 :]


@pytest.mark.parametrize("name", ["batch_size", "accumulate", "optimizer", "ema", "learning_rate", "model"])
def test_what_a_fork_cannot_change(name):
    run = trainer()
    run.fit(1, verbose=False)
    with pytest.raises(ValueError, match=f"a fork cannot change {name}: choose from augment"):
        run.fork(1, **{name: 3})


def test_a_fork_of_nothing():
    run = trainer()
    with pytest.raises(ValueError, match="there is no snapshot of epoch 0; snapshots: none yet"):
        run.fork(0)


def test_snapshots_do_not_follow_the_run():
    """A snapshot that shared memory with the weights would be rewritten by the next step."""
    run = trainer(unet(), ema=0.9)
    run.fit(1, verbose=False)
    kept = checkpoint_of(run.snapshots.at(1))
    run.fit(3, verbose=False)
    assert differences(checkpoint_of(run.snapshots.at(1)), kept) == []
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.zero_()
    run.rewind(1)
    run.train_step(torch.arange(4))
    assert differences(checkpoint_of(run.snapshots.at(1)), kept) == []


def checkpoint_of(state):
    """A copy of a snapshot's tensors that nothing can change."""
    return {name: {k: v.clone() for k, v in state[name].items()} for name in ("model", "best")} | {
        "ema": {k: v.clone() for k, v in state["ema"]["weights"].items()},
        "optimizer": {i: {k: v.clone() for k, v in slots.items()} for i, slots in state["optimizer"]["state"].items()},
    }
