"""The probe cabinet of the bug clinic: what one can measure on a run, each with a price in points.

A probe takes a finished ``Run`` and answers in a few lines of text. Every patient is offered every probe that applies to its
script (no network, no mode), so the offer itself gives little away.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F

from unetlab.exercises.clinic.bench import dice, fit
from unetlab.exercises.clinic.run import Run


@dataclass(frozen=True)
class Probe:
    """``look(run)`` answers the question ``asks`` for ``price`` points, for runs of which ``applies(run)`` is true."""

    name: str
    price: int
    asks: str
    applies: Callable[[Run], bool]
    look: Callable[[Run], str]


PROBES: dict[str, Probe] = {}


def _probe(price: int, asks: str, applies: Callable[[Run], bool]) -> Callable:
    def register(look: Callable) -> Callable:
        PROBES[look.__name__] = Probe(look.__name__, price, asks, applies, look)
        return look

    return register


def _has(*names: str) -> Callable[[Run], bool]:
    return lambda run: set(names) <= run.memory.keys()


def _answers(run: Run) -> bool:
    """Whether there is a network that one can show the script's images."""
    return run.error is None and _has("net", "images")(run) and bool(run.network_passes())


def _binary(run: Run) -> bool:
    return _has("masks")(run) and run["masks"].dim() == 4


# ------------------------------------------------------------------------------------------------------------ the data


@_probe(1, "Which values do the masks hold, and how often?", _has("masks"))
def mask_values(run: Run) -> str:
    names = [name for name in ("files", "masks") if name in run.memory]
    return "\n".join(f"{name}: {_describe(run[name])}; {_values(run[name])}" for name in names)


@_probe(1, "In which range do the images lie?", _has("images"))
def image_values(run: Run) -> str:
    return f"images: {_range(run['images'])}"


@_probe(1, "How many pixels are there, and how large a number can each format hold?", _has("masks"))
def pixel_sums(run: Run) -> str:
    masks = run["masks"]
    limits = ", ".join(f"{str(t)[6:]} {torch.finfo(t).max:.4g}" for t in (torch.float16, torch.bfloat16, torch.float32))
    return f"{masks.numel():,} pixels, {int((masks > 0).sum()):,} of objects\nlargest number: {limits}"


@_probe(1, "Which patients (groups) stand in which split?", _has("train_groups", "val_groups"))
def groups(run: Run) -> str:
    train, val = (sorted(set(run[name])) for name in ("train_groups", "val_groups"))
    return f"training: patients {train}\nvalidation: patients {val}\nin both: {sorted(set(train) & set(val)) or 'none'}"


@_probe(1, "How large is each batch that the loader hands out?", _has("loader"))
def batch_sizes(run: Run) -> str:
    with torch.random.fork_rng(devices=[]):
        sizes = [len(part[0]) for part in run["loader"]]
    return f"batches of {sizes}: {sum(sizes)} of {len(run['loader'].dataset)} images"


# --------------------------------------------------------------------------------------------------------- the network


@_probe(1, "In which range do the network's outputs lie?", _answers)
def output_values(run: Run) -> str:
    return f"outputs: {_range(_outputs(run, 'images'))}"


@_probe(1, "What shape had the input of each layer, in the last pass?", lambda run: bool(run.network_passes()))
def shapes(run: Run) -> str:
    last = max(i for i, one in enumerate(run.passes) if one.module == id(run["net"]))
    layers = [one for one in run.passes[last:] if one.kind in ("Conv2d", "MaxPool2d", "ConvTranspose2d")]
    return "\n".join(dict.fromkeys(f"{one.kind} got {one.shape}" for one in layers))


@_probe(1, "Was the network in training or in evaluation mode, pass by pass?", lambda run: bool(run.network_passes()))
def mode_trace(run: Run) -> str:
    lines = []
    for with_gradient, what in ((True, "passes with gradients"), (False, "passes without gradients")):
        passes = [one for one in run.network_passes() if one.with_gradient == with_gradient]
        modes = _in_a_row(["training mode" if one.training else "evaluation mode" for one in passes])
        lines.append(f"{what}: {modes or 'none'}")
    return "\n".join([*lines, f"at the end: {'training' if run['net'].training else 'evaluation'} mode"])


@_probe(
    2, "What is the Dice of these weights on these images in either mode?", lambda run: _answers(run) and _binary(run)
)
def both_modes(run: Run) -> str:
    training, evaluation = (dice(_outputs(run, "images", mode) > 0, run["masks"] > 0) for mode in (True, False))
    return f"training mode {training:.3f}, evaluation mode {evaluation:.3f}"


@_probe(
    3,
    "With new weights and this rate: are the first two images learnt by heart in 40 steps?",
    lambda run: _answers(run) and _has("optimizer", "loss_function", "masks")(run),
)
def overfit_two_images(run: Run) -> str:
    net, old = copy.deepcopy(run["net"]).train(), run["optimizer"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for layer in net.modules():
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
        optimizer = type(old)(net.parameters(), **old.defaults)
        losses = fit(net, optimizer, run["loss_function"], run["images"][:2], run["masks"][:2], steps=40)
    return f"the loss goes from {losses[0]:.3f} to {losses[-1]:.3f}"


# ----------------------------------------------------------------------------------------------------------- the steps


@_probe(1, "Which learning rate did each optimizer step use?", lambda run: bool(run.rates))
def rate_trace(run: Run) -> str:
    rates = [f"{rate:.3g}" for rate in run.rates]
    if len(set(rates)) <= 12:
        return _in_a_row(rates)
    every = max(1, len(rates) // 10)
    return f"{len(rates)} steps, each {every}th: {', '.join(rates[::every])}; the last {rates[-1]}"


@_probe(1, "How long was the gradient at each step?", lambda run: any(run.gradients))
def gradient_norm(run: Run) -> str:
    return _summary(run.gradients)


@_probe(1, "How far did each step move the weights?", lambda run: any(run.moves))
def step_length(run: Run) -> str:
    return _summary(run.moves)


@_probe(
    2,
    "How are optimizer, scheduler and early stopping set, defaults too? (Epochs from 0.)",
    _has("optimizer"),
)
def settings(run: Run) -> str:
    lines = []
    for name in ("optimizer", "scheduler", "stopper"):
        if name in run.memory:
            thing = run[name]
            values = thing.defaults if name == "optimizer" else vars(thing)
            plain = [f"{key} {values[key]}" for key in _SETTINGS if isinstance(values.get(key), int | float | str)]
            lines.append(f"{type(thing).__name__}: {', '.join(plain)}")
    return "\n".join(lines)


_SETTINGS = ("lr", "momentum", "monitor", "mode", "patience", "min_delta", "threshold", "threshold_mode", "gamma")
_SETTINGS += ("T_max", "total_steps", "best_epoch", "stopped_epoch")


@_probe(1, "What did torch warn of while the script ran?", lambda run: True)
def warnings(run: Run) -> str:
    return "\n".join(text.split(". ")[0] for text in run.warnings) or "nothing"


# ----------------------------------------------------------------------------------------------------------- the score


@_probe(1, "What was found in each image?", lambda run: _has("found")(run) and _binary(run))
def image_by_image(run: Run) -> str:
    rows = zip(run["found"].flatten(1), run["masks"].flatten(1), strict=True)
    return "\n".join(
        f"image {i}: {int(m.sum())} object pixels, {int(f.sum())} found, {int((f * m).sum())} of them rightly"
        for i, (f, m) in enumerate(rows, start=1)
    )


@_probe(1, "What would a network score that says 'background' everywhere?", _binary)
def lazy_answer(run: Run) -> str:
    share = (run["masks"] > 0).float().mean()
    return f"objects are {share:.1%} of the pixels: it has an accuracy of {1 - share:.3f} and a Dice of 0"


@_probe(2, "On new images: how many pixels are wrong, and what do they cost?", _has("net", "new_images", "new_masks"))
def wrong_pixels(run: Run) -> str:
    outputs, truth = _outputs(run, "new_images"), run["new_masks"]
    cost = F.binary_cross_entropy_with_logits(outputs, truth, reduction="none")
    wrong = (outputs > 0) != (truth > 0)
    return (
        f"{wrong.float().mean():.1%} of the pixels are wrong; each of them costs {cost[wrong].mean():.2f}, each of the "
        f"others {cost[~wrong].mean():.3f}: the wrong ones make {cost[wrong].sum() / cost.sum():.0%} of the loss"
    )


@_probe(1, "Which names does the log have, and which one is watched?", _has("logs", "monitor"))
def log_names(run: Run) -> str:
    return f"in the log: {', '.join(run['logs'])}; watched: {run['monitor']}"


@_probe(2, "Where do the kept weights lie?", lambda run: isinstance(run.memory.get("kept"), dict))
def kept_weights(run: Run) -> str:
    own = run["net"].state_dict()
    same = all(run["kept"][name].data_ptr() == own[name].data_ptr() for name in own)
    return f"in the same memory as the network's own weights: {same}"


# --------------------------------------------------------------------------------------------------------- small tools


def _outputs(run: Run, images: str, training: bool | None = None) -> Tensor:
    """What a copy of the network says, in the mode in which it was left or in another."""
    net = copy.deepcopy(run["net"])
    with torch.no_grad():
        return net.train(net.training if training is None else training)(run[images])


def _describe(x: Tensor) -> str:
    return f"{str(x.dtype)[6:]} {tuple(x.shape)}"


def _range(x: Tensor) -> str:
    return f"{_describe(x)}; from {x.min():.3g} to {x.max():.3g}, mean {x.mean():.3g}"


def _values(x: Tensor) -> str:
    values, counts = x.unique(return_counts=True)
    return ", ".join(f"{v:g} ({n / x.numel():.1%})" for v, n in zip(values.tolist(), counts.tolist(), strict=True))


def _in_a_row(texts: list[str]) -> str:
    """Equal neighbours counted: "training mode x 4, evaluation mode x 28"."""
    parts: list[list] = []
    for text in texts:
        if parts and parts[-1][0] == text:
            parts[-1][1] += 1
        else:
            parts.append([text, 1])
    return ", ".join(f"{text} x {count}" for text, count in parts)


def _summary(values: list[float]) -> str:
    largest = max(values, key=lambda v: (v != v, v))  # nan is larger than anything
    return (
        f"first {values[0]:.3g}, median {median(values):.3g}, largest {largest:.3g} (step {values.index(largest) + 1} of "
        f"{len(values)}), last {values[-1]:.3g}"
    )
