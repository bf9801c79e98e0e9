"""The hands of a class: collected, played again, compared. ``unetlab class FOLDER``; chapter 3 (`03d_live_learning_rate`).

Every hand is played again from its file, with its own seed: a score that does not come out is refused. The best ones then
go into a final, on three seeds that nobody has played, beside schedules with the same settings and the rate that the hands
found. A learner has tried moves on one seed until they worked there; whether it is the moves that are good, or the seed,
only other seeds can tell. So a lead is called one only if the lowest run of the one lies above the highest of the other.
"""

import functools
import hashlib
import json
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from unetlab.cache import cached, look_up
from unetlab.hands import Hand, best, make_trainer, play, read_hand, this_machine
from unetlab.history import Move

SCHEDULES = ("constant", "step", "cosine", "warmup_cosine", "one_cycle")
FINAL_SEEDS = 3
FIRST_SEED = 100
TOLERANCE = 0.02  # between machines; two threads instead of one moved the best Dice of a run by up to 0.005
MOST_FILES = 1000


@dataclass(frozen=True)
class Job:
    """A run to be made: a game, a seed, and moves or a schedule."""

    game: str  # as JSON, so that jobs can be compared
    seed: int
    epochs: int
    moves: tuple[Move, ...] = ()
    schedule: str | None = None
    lr: float | None = None  # the highest rate of the schedule


@dataclass(frozen=True)
class Curve:
    """What came of a job: validation Dice after each epoch, the learning rate of each step."""

    val_dice: np.ndarray
    lr: np.ndarray

    @property
    def score(self) -> float:
        return best(self.val_dice)


@dataclass(frozen=True)
class Row:
    """A line of the leaderboard: a hand, or a schedule (which has no file, and no score of its own).

    Attributes:
        curve: of a hand on its own seed, of a schedule on the first seed of the final.
        finals: scores on the seeds of the final, empty for a hand that is not in it.
        note: how well the replay agreed with the file.
    """

    label: str
    curve: Curve
    finals: tuple[float, ...] = ()
    file: Path | None = None
    note: str = ""

    @property
    def mean(self) -> float:
        return sum(self.finals) / len(self.finals)

    @property
    def is_hand(self) -> bool:
        return self.file is not None

    def leads(self, other: "Row") -> bool:
        """Whether every run of this row is better than every run of the other."""
        return min(self.finals) > max(other.finals)


@dataclass(frozen=True)
class Board:
    """The result of a class.

    Attributes:
        game: what was played.
        seeds: those of the final.
        lr: the highest rate of the schedules.
        finalists: hands and schedules, by their mean in the final.
        others: the other hands, by the score on their own seed.
        refused: why each file was refused.
    """

    game: dict
    seeds: tuple[int, ...]
    lr: float
    finalists: list[Row]
    others: list[Row]
    refused: dict[Path, str]

    @property
    def tied(self) -> list[Row]:
        """The first row and all those over which it has no lead."""
        first = self.finalists[0]
        return [first, *(row for row in self.finalists[1:] if not first.leads(row))]

    @property
    def hands(self) -> int:
        return sum(row.is_hand for row in self.finalists + self.others)


def make_board(folder: str | Path, finalists: int = 8, progress: Callable[..., Iterable] | None = None) -> Board:
    """Collect the hands of a folder and compare them.

    Args:
        folder: with the files, subfolders included.
        finalists: so many hands go into the final.
        progress: called as ``progress(runs, stage, total)``, gives the runs back one by one as they are finished, and shows
            how far it is (as ``tqdm`` does). The stages are "replays" and "the final".

    Raises:
        ValueError: no folder, no hand in it that can be replayed.
    """
    hands, refused = collect(folder)
    if not hands:
        raise ValueError(_nobody(folder, refused))
    game = next(iter(hands.values())).game
    text = json.dumps(game, sort_keys=True)
    played = {path: Job(text, hand.seed, hand.epochs, hand.moves) for path, hand in hands.items()}
    curves = run_all(played.values(), progress, "replays")
    notes = {}
    for path, hand in hands.items():
        try:
            notes[path] = compare(hand, curves[played[path]])
        except ValueError as error:
            refused[path] = str(error)
    if not notes:
        raise ValueError(_nobody(folder, refused))
    labels = _labels(hands[path] for path in notes)
    rows = [
        Row(label, curves[played[path]], file=path, note=note)
        for label, (path, note) in zip(labels, notes.items(), strict=True)
    ]
    rows.sort(key=lambda row: -row.curve.score)

    seeds, lr = _fresh_seeds({hand.seed for hand in hands.values()}), _rate_of(rows)
    rivals = {
        (name, seed): Job(text, seed, game["epochs"], schedule=name, lr=lr) for name in SCHEDULES for seed in seeds
    }
    again = {
        (row.file, seed): Job(text, seed, hands[row.file].epochs, hands[row.file].moves)
        for row in rows[:finalists]
        for seed in seeds
    }
    curves |= run_all([*again.values(), *rivals.values()], progress, "the final")
    final, others = [], rows[finalists:]
    for row in rows[:finalists]:
        runs = [curves[again[row.file, seed]] for seed in seeds]
        if any(isinstance(run, ValueError) for run in runs):
            others.append(row)
        else:
            final.append(Row(row.label, row.curve, tuple(run.score for run in runs), row.file, row.note))
    for name in SCHEDULES:
        runs = [curves[rivals[name, seed]] for seed in seeds]
        if not any(isinstance(run, ValueError) for run in runs):
            final.append(Row(f"schedule: {name.replace('_', '-')}", runs[0], tuple(run.score for run in runs)))
    final.sort(key=lambda row: -row.mean)
    return Board(game, seeds, lr, final, others, {path: one_line(why) for path, why in refused.items()})


def one_line(text) -> str:
    """A text that may come from a stranger's file, or be its name: short, and nothing in it that moves the cursor."""
    line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(str(text).split()))
    return line if len(line) <= 250 else line[:247] + "..."


def _nobody(folder, refused: dict[Path, str]) -> str:
    first = "".join(f"; {path}: {why}" for path, why in list(refused.items())[:1])
    return f"{folder}: none of its {len(refused)} files is a hand that can be played again" + one_line(first)


def _fresh_seeds(played: set[int]) -> tuple[int, ...]:
    """The first seeds from 100 on that nobody has played."""
    return tuple(seed for seed in range(FIRST_SEED, FIRST_SEED + len(played) + FINAL_SEEDS) if seed not in played)[
        :FINAL_SEEDS
    ]


def _rate_of(rows: list[Row]) -> float:
    """The rate that the schedules get: the middle one of the hands' highest rates, to half a power of ten.

    A game may begin at a rate that is far too low, for the hands to raise it; the schedules shall not lose by that.
    """
    return float(f"{10 ** (round(2 * np.median([np.log10(row.curve.lr.max()) for row in rows])) / 2):.2g}")


def _labels(hands: Iterable[Hand]) -> list[str]:
    """A label for each hand: its name, with a number if several have it; a number alone where none was given."""
    names, met, labels = [hand.name or "no name" for hand in hands], Counter(), []
    for name in names:
        met[name] += 1
        labels.append(f"{name} {met[name]}" if names.count(name) > 1 or name == "no name" else name)
    return labels


# --------------------------------------------------------------------------------------------------------- collecting


def collect(folder: str | Path) -> tuple[dict[Path, Hand], dict[Path, str]]:
    """The hands of a folder by file, and why each of the other files was refused. Nothing is trained yet.

    All hands that stay played the same game: the one that most of the files hold.

    Raises:
        ValueError: there is no such folder, or there are no ``.json`` files in it, or too many.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; collect the files of LiveLab.save_hand in one")
    files = [path for path in sorted(folder.rglob("*.json")) if path.is_file()]
    files = [path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not 0 < len(files) <= MOST_FILES:
        raise ValueError(f"{folder}: holds {len(files)} .json files; a class has 1 to {MOST_FILES}")
    hands, refused = {}, {}
    for path in files:
        try:
            hands[path] = read_hand(path)
        except (ValueError, OSError) as error:
            refused[path] = str(error)
    first_of: dict[tuple, Path] = {}
    for path, hand in list(hands.items()):
        key = json.dumps(hand.game, sort_keys=True), hand.seed, hand.epochs, hand.moves
        if key in first_of:
            refused[path] = f"the very moves of {first_of[key].name}: one of the two is a copy"
            del hands[path]
        first_of.setdefault(key, path)
    if hands:
        games = [json.dumps(hand.game, sort_keys=True) for hand in hands.values()]
        usual, count = Counter(games).most_common(1)[0]
        for (path, hand), game in zip(list(hands.items()), games, strict=True):
            if game != usual:
                others = f"{count} other{'s' * (count > 1)}"
                refused[path] = f"another game than the {others}: {_difference(hand.game, json.loads(usual))}"
                del hands[path]
    return hands, refused


def _difference(game: dict, usual: dict, place: str = "") -> str:
    """The first entry in which two games differ, in words."""
    for name in sorted(game.keys() | usual.keys()):
        here, there = game.get(name), usual.get(name)
        if isinstance(here, dict) and isinstance(there, dict) and here != there:
            return _difference(here, there, f"{place}{name} ")
        if here != there:
            return f"{place}{name} is {str(here)[:60]}, not {str(there)[:60]}"
    return "its entries are written in another way"


# ---------------------------------------------------------------------------------------------------------- replaying


def compare(hand: Hand, replay: "Curve | ValueError") -> str:
    """How well a replay agrees with what the file says; a note for the leaderboard.

    On the very same kind of machine every digit must agree. Elsewhere the last digits differ and grow, so there the best
    Dice must agree within ``TOLERANCE``. (The leaderboard shows the replay's score, so nothing is gained by that much.)

    Raises:
        ValueError: it does not agree, or the run could not be made.
    """
    if isinstance(replay, ValueError):
        raise replay
    claim, found = np.array(hand.val_dice), replay.val_dice
    if len(claim) == len(found) and np.allclose(claim, found, rtol=0, atol=1e-6, equal_nan=True):
        return "exact"
    says = f"the file says {hand.score:.4f}, its moves give {replay.score:.4f}"
    here = this_machine()
    differs = [name for name in here if name != "python" and hand.environment[name] != here[name]]
    if not differs:
        raise ValueError(f"edited: {says}, on the same kind of machine")
    gap, where = abs(hand.score - replay.score), f"other {' and '.join(differs).replace('_', ' ')}"
    if gap > TOLERANCE:
        raise ValueError(f"edited: {says}; that is more than {TOLERANCE}, which another machine explains ({where})")
    return f"to {gap:.3f} ({where})"


def run_all(jobs: Iterable[Job], progress=None, stage: str = "runs") -> "dict[Job, Curve | ValueError]":
    """Make runs, as many at a time as there are processor cores, one thread each; what was made before is remembered.

    The longest begin first, so that no core waits for a long one at the end.

    Raises:
        ValueError: a process ended without an answer.
    """
    results = {}
    for job in jobs:
        known = look_up(_key(job))
        results[job] = None if known is None else Curve(**known[0])
    new = sorted((job for job, result in results.items() if result is None), key=lambda job: -job.epochs)
    if new:
        workers = min(len(new), cores())
        context = multiprocessing.get_context("spawn")  # a fork of a process in which torch has threads may hang
        with ProcessPoolExecutor(workers, context, initializer=_alone) as pool:
            waiting = {pool.submit(run, job): job for job in new}
            try:
                done = as_completed(waiting)
                for future in progress(done, stage, len(new)) if progress else done:
                    error = future.exception()
                    if isinstance(error, BrokenProcessPool):
                        raise ValueError("a replay ended without an answer; is there enough memory?")
                    results[waiting[future]] = future.result() if error is None else error
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return results


def cores() -> int:
    """How many processor cores this process may use: on a class server fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _alone() -> None:
    """In a process that makes runs: one thread, Ctrl-C is for the process that waits, and the end of that one is the end."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A pool whose parent was killed would wait for work for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)


def run(job: Job) -> Curve:
    """Make a run. Raises ValueError if it cannot be made, whatever the reason: its settings come from a stranger."""

    def build():
        game = json.loads(job.game)
        trainer = make_trainer(game, job.seed, job.schedule, job.lr)
        play(trainer, job.epochs, game["epochs"], job.moves)
        rates = [row["lr"] for row in trainer.history.steps]
        return {"val_dice": np.array(trainer.history.column("val_dice")), "lr": np.array(rates)}, {}

    try:
        arrays, _ = cached(_key(job), build)
    except Exception as error:
        raise ValueError(
            f"its settings make no run ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        ) from None
    return Curve(**{name: np.array(array) for name, array in arrays.items()})


def _key(job: Job) -> str:
    """The name of a run in the cache: a hash of the job, the machine, and the code that makes it."""
    moves = [(move.step, move.name, move.new) for move in job.moves]
    facts = job.game, job.seed, job.epochs, moves, job.schedule, job.lr, sorted(this_machine().items()), _code()
    return f"hand-{hashlib.sha256(repr(facts).encode()).hexdigest()[:32]}"


@functools.cache
def _code() -> str:
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
