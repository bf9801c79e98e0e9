"""The whole state of a run, as data: what makes *train 10* equal *train 5, kill the process, resume 5*.

Taught in ``03d_live_learning_rate`` (rewind, fork) and ``04a_early_stopping`` (resume). A state is a nested dict of
tensors, numbers and strings: weights, optimizer, schedule, early stopping, moving average, best weights, the hand's
values and the step. There is no random state in it, because ``Trainer`` draws everything from (seed, step).
"""

from dataclasses import asdict

import torch
from torch import Tensor

from unetlab import checkpoint
from unetlab.augment import Augment
from unetlab.early_stopping import EarlyStopping

SNAPSHOT_BYTES = 2**30  # memory for the snapshots of one run; past it every second one is dropped
_CUSTOM = "(your own, not in the file)"


class Snapshots(dict):
    """States by epoch, kept in memory for ``rewind`` and ``fork``."""

    every = 1

    def add(self, epoch: int, state: dict) -> None:
        """Keep a state; when memory runs short, only those of every second, fourth, ... epoch, and the newest."""
        self[epoch] = state
        self._thin(epoch)
        while len(self) > max(SNAPSHOT_BYTES // _bytes(state), 2):
            self.every *= 2
            self._thin(epoch)

    def _thin(self, newest: int) -> None:
        for old in [e for e in self if e % self.every and e != newest]:
            del self[old]

    def at(self, epoch: int) -> dict:
        """The state at the end of an epoch. Raises ValueError naming the epochs there are."""
        if epoch not in self:
            there = ", ".join(map(str, sorted(self))) or "none yet"
            raise ValueError(f"there is no snapshot of epoch {epoch}; snapshots: {there}")
        return self[epoch]

    def drop_after(self, epoch: int) -> None:
        for later in [e for e in self if e > epoch]:
            del self[later]


def clone(tree):
    """A deep copy of nested dicts and lists of tensors; tensors keep their device and memory layout."""
    if isinstance(tree, Tensor):
        return tree.detach().clone()
    if isinstance(tree, dict):
        return {key: clone(value) for key, value in tree.items()}
    return [clone(value) for value in tree] if isinstance(tree, list | tuple) else tree


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict) -> None:
    """Load a state and give each moment the memory layout of its parameter: fused optimizers walk both as flat memory."""
    optimizer.load_state_dict(clone(state))
    for parameter, slots in optimizer.state.items():
        for name, value in slots.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                slots[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def pack_settings(settings: dict) -> dict:
    """The arguments of ``Trainer`` as a file can hold them; your own functions become a mark."""
    return {name: _plain(value) for name, value in settings.items()}


def own_functions(settings: dict) -> list[str]:
    """The names of packed settings that are functions of your own, which no file can hold."""
    return [n for n, v in settings.items() if _CUSTOM in (v.values() if isinstance(v, dict) else [v])]


def unpack_settings(settings: dict, given: dict, path) -> dict:
    """The inverse, completed by what is ``given`` again. Raises ValueError naming what is missing."""
    settings = settings | given
    custom = own_functions(settings)
    if custom:
        raise ValueError(f"{path} cannot hold your own {' and '.join(custom)}: pass it to resume again")
    for name, kind in (("early_stopping", EarlyStopping), ("augment", Augment)):
        if isinstance(settings[name], dict):
            settings[name] = kind(**settings[name])
    return settings


def fingerprint(images: Tensor, masks: Tensor) -> list:
    """Enough to notice other data: the shape and two sums."""
    return [list(images.shape), images.double().sum().item(), masks.long().sum().item()]


def load(path) -> dict:
    """The newest whole state of a run folder, or the state in a file. Raises CheckpointError."""
    state = checkpoint.load_newest(path)
    if "training" not in state:
        raise checkpoint.CheckpointError(f"{path} holds a state that is not a run's: resume from a run's checkpoint")
    return state


def _plain(setting):
    if isinstance(setting, Augment):
        return asdict(setting)
    if isinstance(setting, EarlyStopping):
        return setting.settings()
    if hasattr(setting, "tolist"):  # class weights, as a tensor or an array
        return setting.tolist()
    if setting is None or isinstance(setting, str | int | float):
        return setting
    if isinstance(setting, dict):
        return {name: _plain(value) for name, value in setting.items()}
    return [_plain(value) for value in setting] if isinstance(setting, list | tuple) else _CUSTOM


def _bytes(tree) -> int:
    if isinstance(tree, Tensor):
        return tree.nbytes
    values = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return sum(_bytes(value) for value in values)
