"""The U-Net builder of ``01_unet_anatomy``: turn depth, width and padding, and watch shapes, parameters and reach."""

import base64
import io
from dataclasses import dataclass

import ipywidgets as widgets
import torch
from matplotlib import pyplot as plt

from unetlab.diagram import plot_unet
from unetlab.model import UNet, receptive_field


@dataclass(frozen=True)
class Facts:
    """What a network of these settings is. ``problem``: why it does not take the size, None if it does."""

    parameters: int
    output_size: int | None
    reach: int
    problem: str | None


def build(depth: int, base_channels: int, padding: str, size: int) -> tuple[UNet, Facts]:
    """A network without memory for its weights (torch's "meta" device), and its facts."""
    with torch.device("meta"):
        norm = "none" if padding == "valid" else "batch"
        model = UNet(base_channels=base_channels, depth=depth, padding=padding, norm=norm)
    parameters = sum(p.numel() for p in model.parameters())
    # The widest field of the positions in one block of 2**depth pixels.
    fields = [receptive_field(depth, position) for position in range(2**depth)]
    reach = max(last - first + 1 for first, last in fields)
    try:
        return model, Facts(parameters, model.output_size(size), reach, None)
    except ValueError as error:
        return model, Facts(parameters, None, reach, str(error))


class UNetBuilder:
    """Sliders for depth, base channels, padding and input size; a drawing and three numbers that follow them.

    Show it as the last line of a cell. Nothing is trained and no weight is allocated, so every change is drawn at once.
    """

    def __init__(self, depth: int = 4, base_channels: int = 64, padding: str = "valid", size: int = 572):
        style = {"style": {"description_width": "110px"}, "layout": widgets.Layout(width="380px")}
        self.depth = widgets.IntSlider(depth, 1, 5, description="Depth", **style)
        self.base = widgets.SelectionSlider(
            options=[4, 8, 16, 32, 64], value=base_channels, description="Base channels", **style
        )
        self.padding = widgets.ToggleButtons(
            options=["same", "valid"], value=padding, description="Padding", style={"description_width": "110px"}
        )
        self.size = widgets.BoundedIntText(size, 1, 2048, description="Input side (px)", **style)
        self.facts, self.picture = widgets.HTML(), widgets.HTML()
        controls = widgets.VBox([self.depth, self.base, self.padding, self.size])
        top = widgets.HBox([controls, self.facts], layout=widgets.Layout(flex_flow="row wrap", align_items="center"))
        self._widget = widgets.VBox([top, self.picture])
        for control in (self.depth, self.base, self.padding, self.size):
            control.observe(self._update, names="value")
        self._update()

    def _repr_mimebundle_(self, **options) -> dict:
        paper = {"text/plain": "U-Net builder: run this cell to move its sliders."}
        return self._widget._repr_mimebundle_(**options) | paper

    def _update(self, change=None) -> None:
        model, facts = build(self.depth.value, self.base.value, self.padding.value, self.size.value)
        self.facts.value = _table(facts)
        self.picture.value = "" if facts.problem else _drawing(model, self.size.value)


def _table(facts: Facts) -> str:
    output = f"{facts.output_size} px" if facts.problem is None else "none"
    rows = {
        "parameters": f"{facts.parameters:,}",
        "output side": output,
        "receptive field": f"up to {facts.reach} px",
    }
    cells = "".join(
        f"<tr><th style='text-align:left;padding-right:1em'>{k}</th><td>{v}</td></tr>" for k, v in rows.items()
    )
    note = "" if facts.problem is None else f"<p role='alert'><b>Does not fit:</b> {facts.problem}</p>"
    return f"<table style='line-height:1.6'>{cells}</table><div style='max-width:34em'>{note}</div>"


def _drawing(model: UNet, size: int) -> str:
    """The picture as HTML: the image widget has no alternative text."""
    figure = plot_unet(model, size)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, bbox_inches=figure.bbox_inches)  # whole, in any style
    plt.close(figure)
    alt = f"U-Net of depth {model.depth}, {size} pixels in, {model.output_size(size)} out"
    png = base64.b64encode(buffer.getvalue()).decode()
    return f'<img src="data:image/png;base64,{png}" alt="{alt}" style="width:900px; max-width:100%">'
