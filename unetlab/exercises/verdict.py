"""What every checker answers: right; wrong, because ...; not attempted. Used by the exercises of all notebooks."""

from dataclasses import dataclass
from html import escape

_SIGNS = {"right": "✓ Right.", "wrong": "✗ Wrong, because", "not attempted": "… Not attempted."}
_COLOURS = {"right": "#009E73", "wrong": "#D55E00", "not attempted": "#808080"}  # on black and on white


@dataclass(frozen=True, repr=False)
class Verdict:
    """A checker's answer. ``status`` is "right", "wrong" or "not attempted"; ``message`` says why or what to do next."""

    status: str
    message: str

    def __repr__(self):
        return f"{_SIGNS[self.status]} {self.message}"

    def _repr_html_(self):
        message = escape(self.message, quote=False).replace("\n", "<br>")
        border = f"border-left: 4px solid {_COLOURS[self.status]}; padding: 4px 12px"
        return f'<div style="{border}"><strong>{_SIGNS[self.status]}</strong> {message}</div>'


def right(text: str) -> Verdict:
    """The answer is right; ``text`` says what it shows."""
    return Verdict("right", text)


def wrong(because: str, *details: str) -> Verdict:
    """The answer is wrong; ``because`` completes the sentence "Wrong, because ...", and ``details`` are listed below."""
    return Verdict("wrong", "\n• ".join([because, *details]))


def not_attempted(text: str) -> Verdict:
    """Nothing was filled in yet; ``text`` says what to fill in."""
    return Verdict("not attempted", text)
