"""A hand in a file: what is written, that it can be played again, and that no file does any harm."""

import copy
import json
import math
import pickle

import numpy as np
import pytest
import torch
from hands_of import EPOCHS, STEPS, a_trainer, changed, played
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import unetlab as ul
from unetlab import hands
from unetlab.hands import best, game_of, make_trainer, play, read_hand, record_of, this_machine
from unetlab.lab.session import Session

MOVES = [(2, {"lr": 0.05}), (5, {"lr": None}), (6, {"weight_decay": 0.1})]


def again(path):
    """The validation Dice of a hand, played again from its file."""
    hand = read_hand(path)
    trainer = make_trainer(hand.game, hand.seed)
    play(trainer, hand.epochs, hand.game["epochs"], hand.moves)
    return hand, trainer.history


def saved(session, folder, name=None):
    session.save_hand(folder / "hand.json", name)
    return folder / "hand.json"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return saved(played(MOVES), tmp_path_factory.mktemp("hand"))


@pytest.fixture
def file(whole, tmp_path):
    """A hand that a test may edit."""
    path = tmp_path / "hand.json"
    path.write_bytes(whole.read_bytes())
    return path


# ------------------------------------------------------------------------------------------------- what is written


def test_a_hand_is_small_nameless_and_played_again_exactly(whole):
    hand, history = again(whole)
    assert whole.stat().st_size < 4000 and hand.name is None
    assert history.column("val_dice") == list(hand.val_dice) and len(history) == EPOCHS
    assert [(move.step, move.name, move.new) for move in hand.moves] == [
        (2, "lr", 0.05),
        (5, "lr", None),
        (6, "weight_decay", 0.1),
    ]
    assert hand.score == max(hand.val_dice) > 0
    here = this_machine()
    assert {name: hand.environment[name] for name in here} == here


def test_a_hand_is_a_list_of_moves_too(whole):
    assert ul.Script.from_json(whole).moves == MOVES


def test_a_name_stands_in_the_file_if_it_is_given(tmp_path):
    assert read_hand(saved(played(), tmp_path, " Ada ")).name == "Ada"
    for name in ("", "x" * 41, "a\nb", "\u202eadA", 7):
        with pytest.raises(ValueError, match="name must be a text"):
            saved(played(), tmp_path, name)


@pytest.mark.parametrize("schedule", ["cosine", {"name": "plateau", "patience": 0}])
def test_rewound_stopped_and_forked_runs_are_played_again(tmp_path, schedule):
    data = ul.load_dataset("cells", size=16, n=(8, 4, 1), seed=3, foreground=0.2)
    options = {"scheduler": schedule, "augment": "flips", "ema": 0.9, "grad_clip": 1.0, "loss": {"name": "tversky"}}
    session = Session(a_trainer(seed=5, data=data, **options), EPOCHS, ul.Script([(3, {"stop": True})]))
    session.start()
    session.wait(60)
    session.set(lr=0.02)
    session.start()  # goes on from the step at which it was stopped
    session.wait(60)
    session.rewind(2)
    session.set(lr=0.01)
    session.start()
    session.wait(60)
    for run in (session.run, session.fork(1, lr=0.03)):
        session.wait(60)
        session.run = run
        hand, history = again(saved(session, tmp_path))
        assert history.column("val_dice") == list(hand.val_dice) == run.trainer.history.column("val_dice")
        assert hand.moves


def test_a_run_that_was_stopped_early_keeps_its_schedule(tmp_path):
    session = played([(2 * STEPS + 1, {"stop": True})], a_trainer(scheduler="cosine"))
    hand, history = again(saved(session, tmp_path))
    assert hand.epochs == 2 and history.column("val_dice") == list(hand.val_dice)
    assert history.steps[-1] == session.trainer.history.steps[2 * STEPS - 1]


def test_more_patience_after_early_stopping(tmp_path):
    stopping = ul.EarlyStopping("val_loss", patience=1, min_delta=10)  # nothing is an improvement after the first
    session = played(trainer=a_trainer(early_stopping=stopping))
    assert len(session.trainer.history) == 2
    session.set(patience=50)
    session.start()
    session.wait(60)
    assert len(session.trainer.history) == EPOCHS
    hand, history = again(saved(session, tmp_path))
    assert hand.game["trainer"]["early_stopping"]["patience"] == 1  # as it began
    assert history.column("val_dice") == list(hand.val_dice)


def test_the_prior_of_the_output_is_part_of_the_game(tmp_path):
    torch.manual_seed(0)
    model = ul.UNet(base_channels=2, depth=1)
    model.set_output_prior(0.2)
    hand, history = again(saved(played(trainer=a_trainer(model=model)), tmp_path))
    assert hand.game["prior"] == [pytest.approx(0.2)]
    assert history.column("val_dice") == list(hand.val_dice)


class OwnNetwork(ul.UNet):
    pass


@pytest.mark.parametrize(
    "what, why",
    [
        ({"data": ul.datasets.load_scene("cells", 16, (8, 4, 1))}, "not the train and val of one ul.load_dataset"),
        ({"model": OwnNetwork(base_channels=2, depth=1)}, "not a ul.UNet"),
        ({"loss": lambda logits, masks: logits.mean()}, "its loss is a function of your own"),
        ({"model": ul.UNet(base_channels=2, depth=1)}, r"not made by torch.manual_seed\(0\)"),
    ],
)
def test_what_no_other_machine_could_make_again_is_said_at_once(what, why, tmp_path):
    session = played(trainer=a_trainer(**what))
    with pytest.raises(ValueError, match=why):
        session.save_hand(tmp_path / "hand.json")
    assert not (tmp_path / "hand.json").exists()
    session.save_moves(tmp_path / "moves.json")  # for oneself they serve all the same
    assert ul.Script.from_json(tmp_path / "moves.json").moves == []
    with pytest.raises(ValueError, match=f"moves alone, no class can replay them: .*{why}"):
        read_hand(tmp_path / "moves.json")


def test_runs_without_a_known_start_or_plan(tmp_path):
    trainer = a_trainer()
    with pytest.raises(ValueError, match="no whole epoch"):
        game_of(trainer)
    trainer.fit(2, verbose=None)
    trainer.save(tmp_path / "state.safetensors")
    data = ul.load_dataset("cells", size=16, n=(8, 4, 1))
    resumed = ul.Trainer.resume(tmp_path / "state.safetensors", data.train, data.val)
    with pytest.raises(ValueError, match="resumed"):
        game_of(resumed)
    trainer.fit(3, verbose=None)
    with pytest.raises(ValueError, match="went on after the 2 epochs"):
        game_of(trainer)


def test_a_diverged_run_is_valid_json(tmp_path):
    session = played([(3, {"lr": 1e30})])
    record = record_of(session.trainer)
    text = json.dumps(record, allow_nan=False)
    assert session.trainer.diverged and len(record["val_dice"]) == record["epochs"] and "NaN" not in text


def test_the_best_of_a_curve():
    assert best([0.2, math.nan, 0.4, 0.3]) == 0.4 and best([math.nan]) == 0


# ---------------------------------------------------------------------------------------------- files that are refused


def put(*path, value):
    """An edit: the entry at ``path`` becomes ``value``."""

    def change(record):
        for step in path[:-1]:
            record = record[step]
        record[path[-1]] = value

    return change


def without(*path):
    def change(record):
        for step in path[:-1]:
            record = record[step]
        del record[path[-1]]

    return change


SETTINGS = ("game", "trainer")


@pytest.mark.parametrize(
    "change, why",
    [
        (put("unetlab_hand", value=2), "format 2"),
        (without("unetlab_hand"), "no hand"),
        (without("moves"), "no 'moves'"),
        (put("extra", value=1), "unknown entry 'extra'"),
        (put("seed", value=True), "seed must be a whole number"),
        (put("seed", value=-1), "seed must be a whole number"),
        (put("name", value=["x"]), "name must be a text"),
        (put("moves", value={}), "moves must be a list"),
        (put("moves", 0, value=[2, {"lr": 1}]), "a move must be an object, not a list"),
        (put("moves", 0, "step", value=8), "the step of a move must be a whole number from 0 to 7, not 8"),
        (put("moves", 0, "step", value=-1), "the step of a move"),
        (put("moves", 0, "step", value=6), "the step of a move must be a whole number from 6"),  # not in order
        (put("moves", 0, "step", value=1.5), "the step of a move"),
        (put("moves", 0, "name", value="model"), "a move of 'model'"),
        (put("moves", 0, "name", value=[]), "a move of a list"),
        (put("moves", 0, "name", value="patience"), "no early stopping"),
        (put("moves", 0, "new", value=-0.1), "lr must be a finite learning rate"),
        (put("moves", 0, "new", value="0.1"), "a move of lr must be a number"),
        (put("moves", 0, "new", value=10**400), "a move of lr must be a number"),
        (put("epochs", value=0), "epochs must be a whole number from 1 to 4"),
        (put("epochs", value=5), "epochs must be a whole number from 1 to 4"),
        (put("epochs", value=3), "val_dice must be a list of 3"),
        (put("val_dice", 0, value=1.5), "a value of val_dice must be a number from 0 to 1"),
        (put("val_dice", 0, value="x"), "a value of val_dice"),
        (put("best_val_dice", value=0.99), "best_val_dice 0.9900 is not the best of its own curve"),
        (put("game", value=[]), "the game must be an object"),
        (put("game", value=None), "moves alone"),
        (put("game", "epochs", value=10**6), "epochs of the game"),
        (put("game", "data", "name", value=["cells"]), "the name of the data"),
        (put("game", "data", "path", value="/etc/passwd"), "the data has an unknown entry 'path'"),
        (put("game", "data", "n", value=8), "n of the data"),
        (put("game", "data", "n", value=[9, 4, 1]), "fingerprint differ"),
        (put("game", "data", "n", value=[8, 4, 10**9]), "n of the data must be a whole number"),
        (put("game", "data", "seed", value="0"), "the seed of the data"),
        (put("game", "data", "noise", value="much"), "noise must be a number"),
        (put("game", "fingerprint", value=[[8]]), "the fingerprint of the data is not one"),
        (put("game", "model", "width", value=8), "the network has an unknown entry 'width'"),
        (put("game", "model", "base_channels", value=65), "base_channels must be"),
        (put(*SETTINGS, "device", value="cuda"), "the trainer has an unknown entry 'device'"),
        (without(*SETTINGS, "loss"), "the trainer has no 'loss'"),
        (put(*SETTINGS, "batch_size", value=0), "batch_size must be"),
        (put(*SETTINGS, "accumulate", value=2.0), "accumulate must be"),
        (put("environment", "threads", value=[1]), "threads of the environment"),
        (put("environment", value={}), "the environment has no"),
    ],
)
def test_edited_files_are_refused_in_one_line(change, why, file):
    changed(file, change)
    with pytest.raises(ValueError, match=why.replace("(", r"\(")) as error:
        read_hand(file)
    assert "\n" not in str(error.value) and len(str(error.value)) < 250


@pytest.mark.parametrize(
    "content, why",
    [
        (b"", "damaged, not JSON"),
        (b'{"unetlab_hand": 1, "name": nu', "damaged, not JSON"),
        (b"\xff\xfe{}", "damaged, not JSON"),
        (b"[" * 100_000, "damaged"),
        (b'{"a": ' * 50_000 + b"1" + b"}" * 50_000, "damaged"),
        (b"[1, 2]", "no hand"),
        (b"NaN", "NaN is no JSON"),
        (b"9" * 5000, "damaged, not JSON"),
        (b" " * (hands.MOST_BYTES + 1), "larger than 1000 kB"),
        (pickle.dumps(print), "damaged, not JSON"),
    ],
)
def test_damaged_files_are_refused(content, why, tmp_path):
    path = tmp_path / "hand.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=why):
        read_hand(path)


def test_too_large_a_game_is_refused(file):
    def bomb(record):
        game = record["game"]
        game["epochs"], game["model"]["base_channels"] = 1000, 64
        game["data"] |= {"size": 512, "n": [2000, 2000, 1]}
        for split in game["fingerprint"]:
            split[0] = [2000, 1, 512, 512]

    changed(file, bomb)
    with pytest.raises(ValueError, match="times too large to be replayed"):
        read_hand(file)


def places(value, path=()):
    """The path of every entry in nested lists and dicts."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [place for key, item in items for place in places(item, (*path, key))]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(data=st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_stands_in_an_entry_the_answer_is_a_hand_or_a_line(whole, tmp_path, data):
    record = json.loads(whole.read_text())
    place = data.draw(st.sampled_from(places(record)))
    put(*place, value=data.draw(ANYTHING))(record)
    path = tmp_path / "hand.json"
    path.write_text(json.dumps(record))
    try:
        hand = read_hand(path)
    except ValueError as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert 1 <= hand.epochs <= EPOCHS and np.isfinite(hand.score)


def test_other_pictures_than_the_file_says(whole):
    hand = read_hand(whole)
    game = copy.deepcopy(hand.game)
    game["data"]["seed"] = 1
    with pytest.raises(ValueError, match="pictures are not those"):
        make_trainer(game, 0)
