"""Saving and loading: whole states and plain weights, in files that hold numbers and cannot execute code.

Taught in ``04a_early_stopping`` (resume). Everything is a safetensors file: the tensors as they are, the rest (numbers,
strings, lists) as JSON in the file's header. A pickle, which could run a stranger's code, is never opened.
A file is written under another name, flushed to the disk and renamed, so that a crash at any moment leaves the old file
or the new one, never half of one.
"""

import json
import os
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file and the remedy."""


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a file so that at any moment there is the old one or the new one. Parent folders are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def save_state(path: str | Path, state: dict) -> None:
    """Save nested dicts and lists of tensors, numbers, strings and None.

    Raises:
        TypeError: anything else inside.
    """
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_pack(state, "state", tensors))
    write_atomically(path, to_bytes(tensors, metadata={"unetlab_state": structure}))


def load_state(path: str | Path) -> dict:
    """Load what ``save_state`` wrote; tensors come on the CPU.

    Raises:
        CheckpointError: no such file; truncated; not a safetensors file (a pickle is refused unopened); not a state.
    """
    metadata, tensors = _read(path)
    if "unetlab_state" not in metadata:
        raise CheckpointError(f"{path} holds weights but no training state: resume from a checkpoint of a run instead")
    return _unpack(json.loads(metadata["unetlab_state"]), tensors)


def save_weights(path: str | Path, weights: dict[str, Tensor], **about) -> None:
    """Save a model's ``state_dict`` under its own names, with JSON facts about it (its configuration, say)."""
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    write_atomically(path, to_bytes(content, metadata={"unetlab_weights": json.dumps(about)}))


def load_weights(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """Load what ``save_weights`` wrote: the weights and the facts.

    Raises:
        CheckpointError: no such file; truncated; not a safetensors file (a pickle is refused unopened).
    """
    metadata, tensors = _read(path)
    return tensors, json.loads(metadata.get("unetlab_weights", "{}"))


def put_weights(model: torch.nn.Module, weights: dict[str, Tensor], source: str | Path) -> None:
    """Load weights into a model.

    Raises:
        CheckpointError: the names or shapes are those of another architecture; the first that differs is named.
    """
    own = model.state_dict()
    for name in sorted(own.keys() | weights.keys()):
        there, here = (tuple(w[name].shape) if name in w else "missing" for w in (weights, own))
        if there != here:
            raise CheckpointError(
                f"{source} belongs to another architecture: {name} is {there} in the file and {here} in this model; "
                "build the model with the configuration of the run"
            )
    model.load_state_dict(weights)


def save_numbered(folder: str | Path, state: dict, number: int, keep: int = 2) -> None:
    """Save ``checkpoint-NUMBER.safetensors`` into a folder and keep it and those before it, ``keep`` in all.

    Later ones, of a future that was given up by a rewind, are removed.
    """
    path = Path(folder) / f"checkpoint-{number:06d}.safetensors"
    save_state(path, state)
    there = _numbered(folder)
    stay = there[there.index(path) :][:keep]
    for old in set(there) - set(stay):
        old.unlink(missing_ok=True)


def load_newest(path: str | Path) -> dict:
    """Load a checkpoint file, or the newest whole one of a folder; a broken one is named in a warning and passed over.

    Raises:
        CheckpointError: nothing there that can be loaded.
    """
    path = Path(path)
    if not path.is_dir():
        return load_state(path)
    for candidate in _numbered(path):
        try:
            return load_state(candidate)
        except CheckpointError as error:
            warnings.warn(f"{error}; trying the checkpoint before it", stacklevel=2)
    raise CheckpointError(f"{path} holds no whole checkpoint: start the run again")


def _numbered(folder: str | Path) -> list[Path]:
    return sorted(Path(folder).glob("checkpoint-*.safetensors"), reverse=True)


def _read(path: str | Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({error}): truncated, or of another format such as a pickle, "
            "which is not opened because it could run code"
        ) from None


def _pack(value, name: str, tensors: dict[str, Tensor]):
    """Replace each tensor by its name; the tensors gather in ``tensors``."""
    if isinstance(value, Tensor):
        # Numbered, as "a.b" may be one key or two. A clone each: safetensors refuses tensors that share memory, and a
        # state may hold one tensor twice.
        name = f"{name} ({len(tensors)})"
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"$tensor": name}
    if isinstance(value, dict):
        return {"$dict": [[key, _pack(item, f"{name}.{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_pack(item, f"{name}.{i}", tensors) for i, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{name} is a {type(value).__name__}: a checkpoint holds only tensors, numbers, strings and None")


def _unpack(value, tensors: dict[str, Tensor]):
    if isinstance(value, dict):
        if "$tensor" in value:
            return tensors[value["$tensor"]]
        return {key: _unpack(item, tensors) for key, item in value["$dict"]}
    return [_unpack(item, tensors) for item in value] if isinstance(value, list) else value
