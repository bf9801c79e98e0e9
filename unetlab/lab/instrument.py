"""One front end for all instruments of the course: controls, status, charts and a strip of pictures.

An instrument is declared in Python: which controls there are, what the charts show. The front end
(``instrument.js``) draws it with the browser's own inputs and tells what was touched. Curves and pictures travel as
bytes, a few kB a refresh. Needs no extension: JupyterLab, Notebook 7, VS Code and Colab all load it by themselves.
"""

from collections.abc import Callable
from pathlib import Path

import anywidget
import numpy as np
import traitlets

_HERE = Path(__file__).parent


class Curves:
    """Gathers the numbers of all curves of a refresh into one float32 buffer."""

    def __init__(self):
        self._parts: list[np.ndarray] = []
        self._length = 0

    def add(self, values) -> list[int]:
        """Append values; returns [start, length] in the buffer, as ``series`` wants it. None becomes a gap."""
        part = np.asarray([np.nan if v is None else v for v in values], dtype=np.float32)
        start, self._length = self._length, self._length + len(part)
        self._parts.append(part)
        return [start, len(part)]

    def line(self, x, y, **style) -> dict:
        """A series: ``name`` (for the legend), ``color``, ``dash`` (solid, dashed, dotted, dashdot), ``width``, ``dots``,
        ``steps`` (the value holds until the next), ``alpha``."""
        return {"x": self.add(x), "y": self.add(y), **style}

    def bytes(self) -> bytes:
        return b"".join(part.tobytes() for part in self._parts)


class Instrument(anywidget.AnyWidget):
    """The declared state of an instrument; ``on_touch(id, value)`` is called when a control or a chart is touched.

    Traits:
        title: heading and accessible name.
        controls: dicts ``id``, ``kind`` (range, select, check, button), ``label`` (visible and accessible), ``row``, and
            for a range ``min``, ``max``, ``step`` (of the exponent if ``log``), ``log``, ``texts`` (words for values);
            for a select ``options``; ``style`` (of a button primary or danger, of a slider large); ``hint``. Fixed at the
            start.
        values, enabled, ranges: by control id: the value, whether it can be used (None hides it), [min, max] of a slider.
        status: ``text``, ``progress`` (0 to 1 or None), ``problem`` (an alert or None).
        panels: charts: ``title``, ``label`` (what the curves do), ``xlabel``, ``ylabel``, ``log``, ``xlog`` (x are
            exponents), ``xlim``, ``ylim``, ``series`` (of ``Curves.line``), ``marks`` (``x`` or ``y``, ``text``, ``row``
            of the text, ``before`` the line, ``color``, ``dash``), ``wide`` (a row of its own), ``touch`` (id under which
            a pointer on the chart is told, as [x, y, whether it has just come down]).
        data: the bytes of ``Curves``.
        strip, strip_size: a picture as RGB bytes and its [width, height]; caption: [text, colour or None] parts.
        strip_titles: names of the picture's equally wide columns; with them the picture takes the whole width.
        table: rows of texts, the first a header.
    """

    _esm = _HERE / "instrument.js"
    _css = _HERE / "instrument.css"

    title = traitlets.Unicode().tag(sync=True)
    controls = traitlets.List().tag(sync=True)
    values = traitlets.Dict().tag(sync=True)
    enabled = traitlets.Dict().tag(sync=True)
    ranges = traitlets.Dict().tag(sync=True)
    status = traitlets.Dict({"text": "", "progress": None, "problem": None}).tag(sync=True)
    panels = traitlets.List().tag(sync=True)
    data = traitlets.Bytes().tag(sync=True)
    strip_size = traitlets.List([0, 0]).tag(sync=True)
    strip = traitlets.Bytes().tag(sync=True)
    strip_titles = traitlets.List().tag(sync=True)
    caption = traitlets.List().tag(sync=True)
    table = traitlets.List().tag(sync=True)

    def __init__(self, title: str, controls: list[dict], on_touch: Callable[[str, object], None], **traits):
        super().__init__(title=title, controls=controls, **traits)
        self._on_touch = on_touch
        self.on_msg(self._receive)

    def __repr__(self) -> str:
        return f"{self.title}: run this cell to use it"  # the text that stands where widgets are dead

    def _receive(self, widget, content: dict, buffers) -> None:
        self._on_touch(content["id"], content["value"])

    def show_curves(self, panels: list[dict], curves: Curves) -> None:
        """Send new charts and their numbers in one message."""
        with self.hold_sync():
            self.data = curves.bytes()
            self.panels = panels

    def show_strip(self, picture: np.ndarray) -> None:
        """Send a new picture, uint8 (H, W, 3)."""
        with self.hold_sync():
            self.strip_size = [picture.shape[1], picture.shape[0]]
            self.strip = np.ascontiguousarray(picture).tobytes()
