"""What every checker answers: right; wrong, because ...; not attempted. Used by the exercises of all notebooks.

The missions of the live lessons answer: won; not yet, because ...; not attempted.
"""

from dataclasses import dataclass
from html import escape

_SIGNS = {
    "right": "✓ Right.",
    "wrong": "✗ Wrong, because",
    "not attempted": "… Not attempted.",
    "won": "★ Won.",
    "not yet": "↻ Not yet, because",
}
_COLOURS = dict(
    zip(_SIGNS, ("#009E73", "#D55E00", "#808080", "#009E73", "#D55E00"), strict=True)
)  # on black and on white


@dataclass(frozen=True, repr=False)
class Verdict:
    """A checker's answer. ``status`` is "right" (mission: "won"), "wrong" ("not yet") or "not attempted"; ``message`` says
    why or what to do next."""

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


def won(text: str) -> Verdict:
    """The mission is done; ``text`` says how well."""
    return Verdict("won", text)


def not_yet(because: str) -> Verdict:
    """The mission is not done; ``because`` completes the sentence "Not yet, because ..." and says what is missing."""
    return Verdict("not yet", because)
