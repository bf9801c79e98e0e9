"""The signal flow of ``A3_initialisation_and_normalisation``: how large are values and gradients, layer by layer?

``make_stack`` and ``measure_flow`` are the logic, plain functions; ``SignalFlow`` binds them to the instrument. Nothing is
trained: one picture batch goes forward and one gradient back through fresh weights, in a few hundredths of a second.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from unetlab.lab.instrument import Curves, Instrument
from unetlab.scenes import make_scene

CHANNELS, PICTURES, SIDE = 32, 4, 16
DEEPEST = 20  # layers: more could not be measured in a tenth of a second
HE, DEFAULT = math.sqrt(2), 1 / math.sqrt(3)
ACTIVATIONS = {"ReLU": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
NORMS = {
    "none": nn.Identity,
    "batch": lambda: nn.BatchNorm2d(CHANNELS),
    "group": lambda: nn.GroupNorm(8, CHANNELS),
    "instance": lambda: nn.InstanceNorm2d(CHANNELS, affine=True),
}
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#9A9A9A"
FLOOR = 1e-30  # smaller values have no place on the charts

CONTROLS = [
    {"id": "activation", "kind": "select", "label": "Activation", "options": list(ACTIVATIONS)},
    {"id": "norm", "kind": "select", "label": "Normalisation", "options": list(NORMS)},
    {"id": "he", "kind": "button", "label": "He gain", "hint": "1.41: the paper's"},
    {"id": "default", "kind": "button", "label": "PyTorch's gain", "hint": "0.58: what Conv2d does by itself"},
    {"id": "draw", "kind": "button", "label": "Draw new weights"},
    {"id": "gain", "kind": "range", "label": "Gain", "row": 1, "min": 0.1, "max": 10, "step": 0.005, "log": True},
    {"id": "depth", "kind": "range", "label": "Layers", "row": 1, "min": 1, "max": DEEPEST, "step": 1},
    {"id": "layer", "kind": "range", "label": "Layer shown", "row": 1, "min": 1, "max": DEEPEST, "step": 1},
]


@dataclass(frozen=True)
class Choice:
    """A stack of 3x3 convolutions: weights are drawn with the standard deviation ``gain / sqrt(N)``, biases are 0."""

    gain: float = HE
    activation: str = "ReLU"
    norm: str = "none"
    depth: int = 20
    seed: int = 0


@dataclass(frozen=True)
class Flow:
    """What is measured, one entry a layer, behind its activation.

    ``spread`` and ``picture`` are standard deviations: of all values, and of what differs between the pictures; ``gradient``
    is that of the gradient of a random sum of the last values. ``silent``: share of channels that are 0 in every pixel of
    every picture. ``values``: (PICTURES, CHANNELS, SIDE, SIDE).
    """

    spread: list[float]
    picture: list[float]
    gradient: list[float]
    silent: list[float]
    values: list[Tensor]


def make_stack(choice: Choice) -> nn.Sequential:
    """``depth`` times (convolution, normalisation, activation); the same seed draws the same weights, times the gain."""
    generator = torch.Generator().manual_seed(choice.seed)
    layers: list[nn.Module] = []
    for i in range(choice.depth):
        convolution = nn.Conv2d(CHANNELS if i else 1, CHANNELS, kernel_size=3, padding=1, bias=False)
        std = choice.gain / math.sqrt(9 * convolution.in_channels)
        nn.init.normal_(convolution.weight, std=std, generator=generator)
        layers.append(nn.Sequential(convolution, NORMS[choice.norm](), ACTIVATIONS[choice.activation]()))
    return nn.Sequential(*layers)


def input_pictures() -> Tensor:
    """Synthetic cells with mean 0 and variance 1: (PICTURES, 1, SIDE, SIDE)."""
    pictures = make_scene("cells", PICTURES, size=SIDE, seed=0).images.float()
    return (pictures - pictures.mean()) / pictures.std()


def measure_flow(stack: nn.Sequential, pictures: Tensor) -> Flow:
    """Send pictures (N, 1, H, W) forward through a stack, and a random gradient of size 1 back."""
    values, x = [], pictures
    for layer in stack:
        x = layer(x)
        x.retain_grad()
        values.append(x)
    x.backward(torch.randn(x.shape, generator=torch.Generator().manual_seed(1)))
    seen = [v.detach() for v in values]
    return Flow(
        spread=[v.std().item() for v in seen],
        picture=[(v - v.mean(dim=0)).std().item() for v in seen],
        gradient=[v.grad.std().item() for v in values],
        silent=[(v.abs().amax(dim=(0, 2, 3)) == 0).float().mean().item() for v in seen],
        values=seen,
    )


def describe(flow: Flow) -> str:
    """How the signal and the gradient fare between the first layer and the last."""
    steps = len(flow.spread) - 1
    if not steps:
        return "One layer: nothing to compare yet."
    parts = []
    for name, first, last in (
        ("the picture's part", flow.picture[0], flow.picture[-1]),
        ("the gradient, on its way back,", flow.gradient[-1], flow.gradient[0]),
    ):
        parts.append(f"{name} × {(max(last, FLOOR) / max(first, FLOOR)) ** (1 / steps):.2f}")
    return f"From layer to layer: {parts[0]}; {parts[1]}."


class SignalFlow:
    """Choose gain, activation, normalisation and depth; see values and gradients by layer. Show it as a cell's last line.

    Attributes:
        choice: the ``Choice`` that the controls stand for. ``layer``: whose histogram is shown, from 1.
        flow: ``measure_flow`` of it.
    """

    def __init__(self):
        self.choice, self.layer = Choice(), Choice.depth
        self._pictures = input_pictures()
        self._instrument = Instrument("Signal flow", CONTROLS, self._touch)
        self._measure()

    def _repr_mimebundle_(self, **options):
        return self._instrument._repr_mimebundle_(**options)

    def _touch(self, name: str, value) -> None:
        changes = {"he": ("gain", HE), "default": ("gain", DEFAULT), "draw": ("seed", self.choice.seed + 1)}
        name, value = changes.get(name, (name, value))
        if name in ("layer", "pick"):
            self.layer = min(max(round(value[0] if name == "pick" else value), 1), self.choice.depth)
            self._refresh()
        else:
            self.choice = replace(self.choice, **{name: int(value) if name == "depth" else value})
            self.layer = min(self.layer, self.choice.depth)
            self._measure()

    def _measure(self) -> None:
        self.flow = measure_flow(make_stack(self.choice), self._pictures)
        self._refresh()

    def _refresh(self) -> None:
        flow, instrument, curves, at = self.flow, self._instrument, Curves(), self.layer - 1
        with instrument.hold_sync():
            instrument.values = vars(self.choice) | {"layer": self.layer}
            instrument.ranges = {"layer": [1, self.choice.depth]}
            values = {"all values": (flow.spread, BLUE, "solid"), "the picture's part": (flow.picture, GREEN, "dashed")}
            panels = [
                self._panel(curves, "Values by layer", values),
                self._panel(curves, "Gradients by layer", {"gradient": (flow.gradient, ORANGE, "solid")}),
                _histogram(curves, flow.values[at], f"Values of layer {self.layer}"),
            ]
            instrument.show_curves(panels, curves)
            instrument.status = {"text": describe(flow), "progress": None, "problem": None}
            instrument.table = [
                [f"Layer {self.layer}", ""],
                ["values, standard deviation", f"{flow.spread[at]:.2g}"],
                ["the picture's part", f"{flow.picture[at]:.2g}"],
                ["gradient, standard deviation", f"{flow.gradient[at]:.2g}"],
                ["channels that are always 0", f"{flow.silent[at]:.0%}"],
            ]
            instrument.caption = [["The picture's part is what differs between the pictures.", None]]

    def _panel(self, curves: Curves, title: str, lines: dict) -> dict:
        layers = range(1, self.choice.depth + 1)
        series = [
            curves.line(layers, np.maximum(y, FLOOR), name=name, color=colour, dash=dash, dots=2)
            for name, (y, colour, dash) in lines.items()
        ]
        first, last = (lines[next(reversed(lines))][0][i] for i in (0, -1))
        return {
            "title": title,
            "label": f"{title}: standard deviation {first:.1g} in the first layer, {last:.1g} in the last",
            "xlabel": "layer",
            "xlim": [0.5, self.choice.depth + 0.5],
            "log": True,
            "series": series,
            "marks": [{"x": self.layer, "text": "shown", "color": GREY}],
            "touch": "pick",
        }


def _histogram(curves: Curves, values: Tensor, title: str) -> dict:
    counts, edges = np.histogram(values.numpy(), bins=40)
    share = 100 * counts / values.numel()
    bars = curves.line(edges, [*share, share[-1]], color=BLUE, steps=True)
    label = f"{title}: from {edges[0]:.2g} to {edges[-1]:.2g}"
    return {"title": title, "label": label, "xlabel": "value; height: % of all", "ylim": [0, 105], "series": [bars]}
