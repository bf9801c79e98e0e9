"""A hand: a learner's run as a small file, from which anybody can make the run again.

Taught in ``03d_live_learning_rate``. The live lab writes it (``LiveLab.save_hand``), ``unetlab class`` reads those of a
class. In it stands all that a run depends on: the *game* (data, network, settings, length), the seed and the moves. The
score in it is a claim; it counts when a replay reproduces it.

A file comes from a stranger. It is JSON, so nothing in it is executed; every value is checked before it is used, and
sizes have limits, so that no file can keep a teacher's machine busy for hours.
"""

import copy
import inspect
import json
import math
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from unetlab.controls import Script, check_change
from unetlab.history import Move, environment
from unetlab.model import UNet
from unetlab.realsets import load_dataset
from unetlab.run_state import fingerprint, own_functions, pack_settings, unpack_settings
from unetlab.scenes import SCENES, make_scene
from unetlab.training import Trainer

FORMAT = 1  # changes when old files can no longer be read
MOST_BYTES = 1_000_000
MOST_MOVES = 10_000
MOST_EPOCHS = 1000
MOST_PICTURES, MOST_SIDE = 2000, 512  # in a split; in pixels
MOST_MEMORY = 2**26  # values in the largest layer: batch size x pixels x base channels
MOST_WORK = 2e10  # epochs x pictures x pixels x base channels squared: about five minutes on one core
NAME_LENGTH = 40

# A class plays one game, each on a machine of its own; so these are not part of it.
_MACHINE = ("device", "precision", "compile", "seed")
_SETTINGS = tuple(n for n in inspect.signature(Trainer).parameters if n not in ("model", "train", "val", *_MACHINE))
_KNOBS = tuple(n for n, p in inspect.signature(make_scene).parameters.items() if p.kind is p.KEYWORD_ONLY)
_DATA = ("name", "size", "n", "seed")
_GAME = ("data", "fingerprint", "model", "prior", "trainer", "epochs")
_HAND = ("unetlab_hand", "name", "game", "seed", "moves", "epochs", "best_val_dice", "val_dice", "environment")
_ENVIRONMENT = ("python", "torch", "platform", "device", "device_name", "threads", "precision", "processor")
_MOVES = ("lr", "weight_decay", "grad_clip", "patience", "min_delta", "stop")


@dataclass(frozen=True)
class Hand:
    """A hand that was read from a file.

    Attributes:
        name: as given, or None.
        game: what all of a class share; see ``game_of``.
        seed: of the weights and of the order of the images.
        moves: ``Move`` items in the order in which they were made.
        epochs: whole epochs trained.
        val_dice: the claim: validation Dice after each epoch, NaN where it was not finite.
        environment: versions, device and processor on which it was played.
    """

    name: str | None
    game: dict
    seed: int
    moves: tuple[Move, ...]
    epochs: int
    val_dice: tuple[float, ...]
    environment: dict

    @property
    def score(self) -> float:
        """The best validation Dice of the run."""
        return best(self.val_dice)


def best(val_dice: Iterable[float]) -> float:
    """The highest finite value, 0 if there is none."""
    return max((value for value in val_dice if math.isfinite(value)), default=0.0)


# ------------------------------------------------------------------------------------------------------- to a file


def record_of(trainer: Trainer, name: str | None = None) -> dict:
    """A run as the dict of its file.

    ``game`` is None, and ``why_no_game`` says why, if another machine could not make the run again; the file then holds
    the moves alone, for ``Script.from_json``.

    Args:
        trainer: the run; it may still be training.
        name: of the learner; it stands in no file unless it is given.

    Raises:
        ValueError: a name that is too long or cannot be printed.
    """
    history = trainer.history.truncated(len(trainer.history), 0, len(trainer.history.moves))
    dice = history.column("val_dice")
    try:
        game = {"game": game_of(trainer)}
    except ValueError as error:
        game = {"game": None, "why_no_game": str(error)}
    return {
        "unetlab_hand": FORMAT,
        "name": _checked_name(name),
        "moves": [asdict(move) for move in history.moves],
        "epochs": len(history),
        "best_val_dice": best(dice),
        "val_dice": [value if math.isfinite(value) else None for value in dice],
        "seed": trainer.seed,
        **game,
        "environment": _facts(trainer.history.environment),
    }


def this_machine() -> dict:
    """What the last digits of a replay depend on: one thread of this processor, and the versions."""
    return _facts(environment(torch.device("cpu"), precision="fp32") | {"threads": 1})


def _facts(of_run: dict) -> dict:
    return {name: value for name, value in (of_run | {"processor": _processor()}).items() if name in _ENVIRONMENT}


def game_of(trainer: Trainer) -> dict:
    """What a run depends on besides its seed and its moves, as plain values.

    ``data`` (the arguments of ``load_dataset``), ``fingerprint`` (shapes and sums of both splits), ``model`` (of
    ``UNet``), ``prior`` (of ``set_output_prior``), ``trainer`` (settings of ``Trainer``) and ``epochs`` (as planned).

    Raises:
        ValueError: another machine could not make this run again; the message says why.
    """
    if not len(trainer.history):
        raise ValueError("it has no whole epoch yet")
    if len(trainer.history) > trainer.planned_epochs:
        raise ValueError(f"it went on after the {trainer.planned_epochs} epochs that it was planned for")
    origins = [getattr(split, "origin", None) for split in (trainer._train, trainer._val)]
    if origins[0] is None or origins[0] != origins[1]:
        raise ValueError("its pictures are not the train and val of one ul.load_dataset(NAME, ...)")
    if type(trainer.model) is not UNet:
        raise ValueError("its network is not a ul.UNet, so a file cannot describe it")
    settings = {name: value for name, value in trainer.settings.items() if name in _SETTINGS}
    settings["early_stopping"] = _as_it_began(trainer)
    settings = pack_settings(settings)
    if own := own_functions(settings):
        raise ValueError(f"its {' and '.join(own)} is a function of your own, which a file cannot hold")
    game = {
        "data": origins[0],
        "fingerprint": _fingerprints(trainer),
        "model": trainer.model.config,
        "prior": trainer.model.output_prior,
        "trainer": settings,
        "epochs": trainer.planned_epochs,
    }
    if 0 not in trainer.snapshots:
        raise ValueError("it was resumed from a file, so how its weights began is not known; train it from its start")
    weights, seeded = trainer.snapshots.at(0)["model"], make_network(game, trainer.seed).state_dict()
    if any(not torch.equal(weights[name].cpu(), seeded[name]) for name in seeded):
        seed = f"torch.manual_seed({trainer.seed}), the seed of its Trainer"
        raise ValueError(f"its network was not made by {seed}, and then ul.UNet(...)")
    return json.loads(json.dumps(game))  # lists for tuples, as a file gives them back


def _as_it_began(trainer: Trainer):
    """Early stopping with the patience of the start, which a hand may have moved since."""
    stopping = copy.deepcopy(trainer.early_stopping)
    for move in reversed(trainer.history.moves):
        if move.name in ("patience", "min_delta"):
            setattr(stopping, move.name, move.old)
    return stopping


def _fingerprints(trainer: Trainer) -> list:
    pairs = (trainer.images, trainer.masks), (trainer.val_images, trainer.val_masks)
    return [fingerprint(*pair) for pair in pairs]


def _processor() -> str:
    """The name of the processor: the last digits of a run depend on it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names or [platform.processor() or platform.machine()])[0][:100]


# ---------------------------------------------------------------------------------------------------- from a file


def read_hand(path: str | Path) -> Hand:
    """Read a file of ``LiveLab.save_hand``; nothing is trained.

    Raises:
        ValueError: what is wrong with the file, in one line (which does not name it). OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"larger than {MOST_BYTES // 1000} kB; a hand has a few")
    try:
        return _checked(_json(content))
    except RecursionError:
        raise ValueError("damaged: nested too deep") from None


def _json(content: bytes):
    try:
        return json.loads(content.decode(), parse_constant=_no_such_number)
    except ValueError as error:
        raise ValueError(f"damaged, not JSON ({error})") from None


def _checked(record) -> Hand:
    if not isinstance(record, dict) or "unetlab_hand" not in record:
        raise ValueError("no hand: LiveLab.save_hand writes one")
    if record["unetlab_hand"] != FORMAT:
        raise ValueError(
            f"a hand of format {_shown(record['unetlab_hand'])}; this unetlab reads {FORMAT}: install one version"
        )
    if record.get("game", 0) is None:
        raise ValueError(f"moves alone, no class can replay them: {record.get('why_no_game')}")
    _exactly(record, _HAND, "the hand")
    _check_game(record["game"])
    json.dumps(record["game"])  # so that whoever does it later need not fear deep nesting
    epochs = _whole(record["epochs"], "epochs", 1, record["game"]["epochs"])
    return Hand(
        name=_checked_name(record["name"]),
        game=record["game"],
        seed=_whole(record["seed"], "seed", 0, 2**32 - 1),
        moves=_checked_moves(record["moves"], record["game"]),
        epochs=epochs,
        val_dice=_checked_curve(record["val_dice"], epochs, record["best_val_dice"]),
        environment=_checked_environment(record["environment"]),
    )


def _no_such_number(name: str):
    raise ValueError(f"{name} is no JSON")


def _exactly(values, names: tuple[str, ...], what: str) -> None:
    if not isinstance(values, dict):
        raise ValueError(f"{what} must be an object, not {_shown(values)}")
    if unknown := values.keys() - set(names):
        raise ValueError(f"{what} has an unknown entry {_shown(min(unknown))}")
    if missing := set(names) - values.keys():
        raise ValueError(f"{what} has no {min(missing)!r}")


def _whole(value, what: str, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{what} must be a whole number from {least} to {most}, not {_shown(value)}")
    return value


def _number(value, what: str, low: float = -math.inf, high: float = math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{what} must be a number from {low:g} to {high:g}, not {_shown(value)}")
    return value


def _shown(value) -> str:
    """A value in a message: short, and whatever is in a list or an object stays there."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = ascii(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _checked_name(name) -> str | None:
    if name is None:
        return None
    if not isinstance(name, str) or not name.strip() or len(name) > NAME_LENGTH or not name.isprintable():
        raise ValueError(f"name must be a text of 1 to {NAME_LENGTH} letters that can be printed, not {_shown(name)}")
    return name.strip()


def _check_game(game) -> None:
    """Names, types and sizes. What else may be wrong (a loss that does not exist) is found by making the trainer."""
    _exactly(game, _GAME, "the game")
    _exactly(game["model"], tuple(inspect.signature(UNet).parameters), "the network")
    _exactly(game["trainer"], _SETTINGS, "the trainer")
    epochs = _whole(game["epochs"], "epochs of the game", 1, MOST_EPOCHS)
    shapes = _shapes(game["fingerprint"])
    _check_data(game["data"], shapes)
    base = _whole(game["model"]["base_channels"], "base_channels", 1, 64)
    _whole(game["model"]["depth"], "depth", 1, 6)
    batch = _whole(game["trainer"]["batch_size"], "batch_size", 1, MOST_PICTURES)
    pixels = max(shape[2] * shape[3] for shape in shapes)
    memory = min(batch, max(shape[0] for shape in shapes)) * pixels * base
    work = epochs * sum(shape[0] for shape in shapes) * pixels * base**2
    if memory > MOST_MEMORY or work > MOST_WORK:
        much = max(memory / MOST_MEMORY, work / MOST_WORK)
        raise ValueError(f"its game is {much:.0f} times too large to be replayed for a class")


def _check_data(data, shapes: list[list[int]]) -> None:
    knobs = data.keys() & set(_KNOBS) if isinstance(data, dict) else ()
    _exactly(data, (*_DATA, *knobs), "the data")
    if not isinstance(data["name"], str):
        raise ValueError(f"the name of the data must be a text, not {_shown(data['name'])}")
    _whole(data["seed"], "the seed of the data", 0, 2**32 - 1)
    for knob in knobs:
        if data[knob] is not None:
            _number(data[knob], knob)
    counts, size = data["n"], data["size"]
    if not isinstance(counts, list) or len(counts) != 3:
        raise ValueError(f"n of the data must be three numbers, not {_shown(counts)}")
    drawn = data["name"] in SCENES  # a real set has as many pictures as it has, of its own size
    for count in counts:
        if drawn or count is not None:
            _whole(count, "n of the data", 1, MOST_PICTURES)
    if drawn or size is not None:
        _whole(size, "the size of the data", 1, MOST_SIDE)
    if drawn and [[count, size, size] for count in counts[:2]] != [[n, h, w] for n, _, h, w in shapes]:
        raise ValueError(f"its data and their fingerprint differ: n {counts}, size {size}, and shapes {shapes}")


def _shapes(fingerprints) -> list[list[int]]:
    """The shapes (N, C, H, W) of train and val that a game says its images have."""
    try:
        shapes = [shape for shape, _, _ in fingerprints]
        if [len(shape) for shape in shapes] != [4, 4]:
            raise TypeError
    except (TypeError, ValueError):
        raise ValueError(f"the fingerprint of the data is not one: {_shown(fingerprints)}") from None
    most = MOST_PICTURES, 8, MOST_SIDE, MOST_SIDE
    return [[_whole(n, "a size of the data", 1, top) for n, top in zip(shape, most, strict=True)] for shape in shapes]


def _checked_moves(moves, game: dict) -> tuple[Move, ...]:
    if not isinstance(moves, list) or len(moves) > MOST_MOVES:
        raise ValueError(f"moves must be a list of at most {MOST_MOVES}, not {_shown(moves)}")
    batch = game["trainer"]["batch_size"] * _whole(game["trainer"]["accumulate"], "accumulate", 1, MOST_PICTURES)
    steps = game["epochs"] * math.ceil(_shapes(game["fingerprint"])[0][0] / batch)
    adjustable = _MOVES[:3] if game["trainer"]["early_stopping"] is None else _MOVES[:5]
    checked, last = [], 0
    for move in moves:
        _exactly(move, ("step", "epoch", "name", "old", "new"), "a move")
        last, name, new = _whole(move["step"], "the step of a move", last, steps - 1), move["name"], move["new"]
        if name not in _MOVES:
            raise ValueError(f"a move of {_shown(name)}: choose one of {', '.join(_MOVES)}")
        if name == "stop":
            new = bool(new)
        elif new is not None:
            _number(new, f"a move of {name}", -1e30, 1e30)
        if name != "stop" and (name, new) != ("lr", None):
            check_change(name, new, adjustable)
        checked.append(Move(last, _whole(move["epoch"], "the epoch of a move", 0, MOST_EPOCHS), name, None, new))
    return tuple(checked)


def _checked_curve(curve, epochs: int, claim) -> tuple[float, ...]:
    if not isinstance(curve, list) or len(curve) != epochs:
        raise ValueError(f"val_dice must be a list of {epochs} values, one an epoch, not {_shown(curve)}")
    values = tuple(math.nan if v is None else _number(v, "a value of val_dice", 0, 1) for v in curve)
    if _number(claim, "best_val_dice", 0, 1) != best(values):
        raise ValueError(f"best_val_dice {claim:.4f} is not the best of its own curve, {best(values):.4f}")
    return values


def _checked_environment(environment) -> dict:
    _exactly(environment, _ENVIRONMENT, "the environment")
    for name, value in environment.items():
        if not isinstance(value, str | int) or len(str(value)) > 100:
            raise ValueError(f"{name} of the environment must be a short text or number, not {_shown(value)}")
    return environment


# ------------------------------------------------------------------------------------------------------ played again


def make_network(game: dict, seed: int) -> UNet:
    """The network of a game as it begins; the random numbers of the process are left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = UNet(**game["model"])
    if game["prior"] is not None:
        model.set_output_prior(game["prior"])
    return model


def make_trainer(game: dict, seed: int, schedule: str | None = None, lr: float | None = None) -> Trainer:
    """A trainer that plays a game from its start, on the CPU: the same for everybody.

    Args:
        game: of ``game_of``.
        seed: of the weights and of the order of the images.
        schedule, lr: instead of those of the game.

    Raises:
        ValueError: there is no such data set here, or other pictures are in it.
    """
    arguments = {name: value for name, value in game["data"].items() if name != "name"}
    data = load_dataset(game["data"]["name"], **arguments)
    own = {"scheduler": schedule, "lr": lr}
    changed = {"device": "cpu", "precision": "fp32", "seed": seed} | {n: v for n, v in own.items() if v is not None}
    settings = unpack_settings(game["trainer"], changed, "a hand")
    trainer = Trainer(make_network(game, seed), data.train, data.val, **settings)
    if _fingerprints(trainer) != game["fingerprint"]:
        raise ValueError(f"its pictures are not those of load_dataset({game['data']['name']!r}) here")
    return trainer


def play(trainer: Trainer, epochs: int, planned: int, moves: Iterable[Move] = ()) -> None:
    """Train ``epochs`` epochs of a run of ``planned`` ones and make the moves of a hand on the way.

    A hand may stop a run and start it again, and give more patience to one that early stopping has ended; neither
    leaves a trace in the numbers, so the replay goes through.
    """
    script = Script(move for move in moves if move.name != "stop")
    if epochs < planned:  # the schedule is that of the planned length all the same
        script.moves.append((epochs * trainer.steps_per_epoch, {"stop": True}))
    reached = -1
    while reached < trainer.step < epochs * trainer.steps_per_epoch:
        reached = trainer.step
        more = dict(script.at(reached)).get("patience")
        if more is not None and reached:
            trainer.controls.set(patience=more)
        trainer.fit(planned, script=script, verbose=None)
