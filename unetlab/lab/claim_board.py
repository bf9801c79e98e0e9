"""The claim board of ``00_read_the_article``: judge a claim, then see the evidence and your own score.

``Board`` is the logic, plain Python; ``ClaimBoard`` binds it to widgets. Where widgets are dead (a saved notebook, a web
page, print) the board is still there to read: all claims, with the evidence folded behind each.
"""

from html import escape
from itertools import groupby

import ipywidgets as widgets

from unetlab.exercises.claims import CLAIMS, VERDICTS, Claim

_SIGNS = {"true": "✓ true", "imprecise": "≈ imprecise", "wrong": "✗ wrong"}


class Board:
    """Which claim is on the table, how the learner judged, and how well that agrees with the evidence.

    Attributes:
        claims: the claims, in order. ``position``: index of the one on the table.
        judgements: verdict by the key of the claim; the first judgement of a claim counts.
    """

    def __init__(self, claims: tuple[Claim, ...] = CLAIMS):
        self.claims = claims
        self.position = 0
        self.judgements: dict[str, str] = {}

    @property
    def current(self) -> Claim:
        return self.claims[self.position]

    def judge(self, verdict: str) -> None:
        """Judge the claim on the table. Raises ValueError for what is none of ``VERDICTS``."""
        if verdict not in VERDICTS:
            raise ValueError(f"{verdict!r} is no verdict; there are {', '.join(VERDICTS)}")
        self.judgements.setdefault(self.current.key, verdict)

    def move(self, steps: int) -> None:
        """Go on or back by so many claims, no further than the ends."""
        self.position = min(max(self.position + steps, 0), len(self.claims) - 1)

    def agrees(self, claim: Claim) -> bool:
        """Whether the claim was judged as the evidence says."""
        return self.judgements.get(claim.key) == claim.verdict

    def scores(self) -> list[tuple[str, int, int, int]]:
        """(topic, claims, judged, agreed) of each topic, in order."""
        rows = []
        for topic, group in groupby(self.claims, key=lambda claim: claim.topic):
            group = list(group)
            judged = sum(claim.key in self.judgements for claim in group)
            rows.append((topic, len(group), judged, sum(map(self.agrees, group))))
        return rows


class ClaimBoard:
    """The board as widgets; show it as the last line of a cell. Run the cell again to start afresh."""

    def __init__(self, claims: tuple[Claim, ...] = CLAIMS):
        self._board = Board(claims)
        self._claim, self._evidence, self._score = (widgets.HTML() for _ in range(3))
        self._verdicts = {
            verdict: widgets.Button(description=verdict.capitalize(), tooltip=f"The claim is {verdict}")
            for verdict in VERDICTS
        }
        places = [(f"{i + 1} of {len(claims)}, chapter {claim.topic}", i) for i, claim in enumerate(claims)]
        self._choice = widgets.Dropdown(description="Claim", options=places)
        self._previous = widgets.Button(description="Previous claim")
        self._next = widgets.Button(description="Next claim")

        for verdict, button in self._verdicts.items():
            button.on_click(lambda _, verdict=verdict: self._judge(verdict))
        self._previous.on_click(lambda _: self._move(-1))
        self._next.on_click(lambda _: self._move(+1))
        self._choice.observe(lambda change: self._move(change.new - self._board.position), "value")

        self._widget = widgets.VBox(
            [
                self._choice,
                self._claim,
                widgets.HBox(list(self._verdicts.values())),
                self._evidence,
                widgets.HBox([self._previous, self._next]),
                self._score,
            ],
            layout={"max_width": "48em", "padding": "8px 0"},
        )
        self._refresh()

    @property
    def judgements(self) -> dict[str, str]:
        """What was judged so far: verdict by the key of the claim."""
        return dict(self._board.judgements)

    def _judge(self, verdict: str) -> None:
        self._board.judge(verdict)
        self._refresh()

    def _move(self, steps: int) -> None:
        self._board.move(steps)
        self._refresh()

    def _refresh(self) -> None:
        board = self._board
        judgement = board.judgements.get(board.current.key)
        self._choice.value = board.position
        self._claim.value = claim_html(board.current)
        self._evidence.value = evidence_html(board.current, judgement) if judgement else _HINT
        for button in self._verdicts.values():
            button.disabled = judgement is not None
        self._previous.disabled = board.position == 0
        self._next.disabled = board.position == len(board.claims) - 1
        self._score.value = score_html(board.scores())

    def _repr_mimebundle_(self, **options) -> dict:
        text = f"Claim board: {len(self._board.claims)} claims, {len(self._board.judgements)} judged"
        paper = {"text/plain": text, "text/html": static_html(self._board.claims)}
        return self._widget._repr_mimebundle_(**options) | paper


_HINT = "<p><em>Judge first; the evidence comes then.</em></p>"
_CARD = "border: 1px solid #808080; border-radius: 4px; padding: 4px 14px; line-height: 1.5"


def claim_html(claim: Claim) -> str:
    """The claim alone."""
    return f'<p role="status" style="font-size: 1.25em; line-height: 1.5; margin: 6px 0">{escape(claim.text)}</p>'


def evidence_html(claim: Claim, judgement: str | None = None) -> str:
    """What the evidence says, what to say, and where it stands; with the learner's judgement if there is one."""
    role, said = "", ""
    if judgement:
        role = ' role="status"'  # a screen reader says what has just appeared
        said = f" You said {judgement}{', too' if judgement == claim.verdict else ''}."
    places = "; ".join(
        f'<a href="{escape(source.url)}" target="_blank" style="text-decoration: underline">{escape(source.citation)}'
        f"</a>, {escape(source.place)}"
        for source in claim.sources
    )
    return (
        f'<div{role} style="{_CARD}"><p><strong>The evidence: {_SIGNS[claim.verdict]}.</strong>{said}</p>'
        f"<p>{escape(claim.evidence)}</p><p><strong>What to say:</strong> {escape(claim.instead)}</p>"
        f"<p><strong>Source:</strong> {places}.</p></div>"
    )


def score_html(scores: list[tuple[str, int, int, int]]) -> str:
    """The learner's own score, chapter by chapter."""
    claims, judged, agreed = (sum(column) for column in list(zip(*scores, strict=True))[1:])
    cell, head = 'style="text-align: left; padding-right: 24px"', 'scope="col" style="text-align: left"'
    rows = "".join(
        f'<tr><th scope="row" {cell}>{escape(topic)}</th><td {cell}>{judged} of {claims}</td><td>{agreed}</td></tr>'
        for topic, claims, judged, agreed in scores
    )
    return (
        f'<div style="line-height: 1.5"><p><progress max="{claims}" value="{judged}" aria-label="Claims judged">'
        f"</progress> {judged} of {claims} judged, {agreed} as the evidence says</p><table><thead><tr>"
        f"<th {head}>Chapter</th><th {head}>Judged</th><th {head}>Agreed</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def static_html(claims: tuple[Claim, ...]) -> str:
    """All claims, chapter by chapter, each with its evidence folded behind it."""
    parts = []
    for topic, group in groupby(claims, key=lambda claim: claim.topic):
        parts.append(f'<p style="margin: 12px 0 4px"><strong>Chapter {escape(topic)}</strong></p>')
        parts += [f"<details><summary>{escape(c.text)}</summary>{evidence_html(c)}</details>" for c in group]
    return "\n".join(parts)
